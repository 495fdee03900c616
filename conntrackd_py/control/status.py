"""The answer to `status`, and the counters that `top` shows too. Nothing is walked, so the cost is constant."""

import os
import platform
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, final

from conntrackd_py import __version__, compiled
from conntrackd_py.conntrack.conn import L4Proto
from conntrackd_py.control.journal import JournalState
from conntrackd_py.control.protocol.answers import Counters, Status
from conntrackd_py.control.report.block_use import block_use
from conntrackd_py.control.report.filter_counters import refusing
from conntrackd_py.control.report.targets import rows
from conntrackd_py.control.steering import Steering
from conntrackd_py.control.sync.state import SyncState
from conntrackd_py.control.view import epoch
from conntrackd_py.engine.engine import Engine
from conntrackd_py.kernel.queues.proc_queues import QUEUES, queue_rows
from conntrackd_py.kernel.queues.queue import QueueCounters
from conntrackd_py.reasons import INVALID_LIMIT, OK, REASON_NAMES, TABLE_FULL


@dataclass(frozen=True)
class DaemonInfo:
    """started: ms, of the engine's clock. queues: their numbers. queue_limit: packets each of them holds."""

    mode: str = "track"
    started: int = 0
    queues: tuple[int, ...] = ()
    queue_limit: int = 0
    counters: QueueCounters = field(default_factory=QueueCounters)
    proc: Path = QUEUES
    steering: Steering = field(default_factory=Steering)
    journal: JournalState = field(default_factory=JournalState)
    sync: SyncState = field(default_factory=SyncState)
    nat_log: Callable[[], dict[str, object]] = dict  # what `status` says about the NAT log; empty: it is off
    mark_rule: Callable[[], str] = str  # the rule that probably overwrites the packet mark; empty: none known


class ReloadError(Exception):
    """The new configuration was refused and nothing has changed; the text is for the operator."""


class UpgradeError(Exception):
    """No successor has started, and the daemon goes on; the text is for the operator."""


@final
class Reloads:
    """The configuration in force; the start counts as a successful load.

    successful: the last attempt. error: of the last attempt, empty after success.
    count: successful reloads. at: of the last one, or of the start, in seconds since 1970.
    restart: changed keys that take effect at a restart.
    stale: connections that the rules of the last reload would not create, counted then.
    take_over: reloads the configuration, raises ReloadError; None where that is impossible.
    prepare: starts a successor, returns its process id, raises UpgradeError. hand_over: ends this daemon for it.
    """

    def __init__(self, at: float) -> None:
        self.successful = True
        self.count = 0
        self.at = at
        self.error = ""
        self.restart: tuple[str, ...] = ()
        self.stale = 0
        self.take_over: Callable[[], Awaitable[None]] | None = None
        self.prepare: Callable[[], Awaitable[int]] | None = None
        self.hand_over: Callable[[], None] | None = None


class Clients(NamedTuple):
    """lost: events that subscribers' queues dropped."""

    connected: int
    refused: int
    subscribers: int
    lost: int


def status(engine: Engine, clock: Callable[[], int], info: DaemonInfo, reloads: Reloads, clients: Clients) -> Status:
    core, stats = engine.core, engine.core.stats
    return {
        "version": __version__,
        "compiled": compiled,
        "python": platform.python_version(),
        "pid": os.getpid(),
        "mode": info.mode,
        "started": round(epoch(clock) + info.started / 1000, 3),
        "uptime": (clock() - info.started) / 1000,
        "reloaded": reloads.at if reloads.count else None,
        "reload": {
            "successful": reloads.successful,
            "error": reloads.error,
            "restart": reloads.restart,
            "stale": reloads.stale,
        },
        "steering": info.steering.report(),
        "journal": info.journal.report(),
        "sync": info.sync.report(),
        **counters(engine, info),
        "expectations": {"entries": core.expectations.count, "limit": core.expectations.limit},
        "nat": {"allocations": stats.nat_allocations, "failures": stats.nat_allocation_failures},
        "blocks": block_use(engine.nat),
        "nat_log": info.nat_log(),
        "targets": rows(engine.nat),
        "helpers": list(engine.helpers.by_name),
        "hints": {
            "expired_in_use": engine.diagnostics.expired_connections.expired_in_use,
            "one_sided_flows": engine.diagnostics.one_sided.flows,
            "mark_overwritten": engine.overwritten.total,
        },
        "mark_rule": info.mark_rule(),
        "filter": refusing(engine.policy),
        "clients": clients.connected,
        "refused_clients": clients.refused,
        "subscribers": clients.subscribers,
        "events_lost": core.events.lost + clients.lost,
    }


def counters(engine: Engine, info: DaemonInfo) -> Counters:
    core, found = engine.core, info.counters
    return {
        "entries": len(core.table),
        "limit": core.limit,
        "unconfirmed": len(core.table.unconfirmed),
        "dying": len(core.table.dying),
        "states": states(engine.trackers),
        "invalid": reasons(core.stats.reasons, OK + 1, INVALID_LIMIT),
        "dropped": reasons(core.stats.reasons, TABLE_FULL, len(REASON_NAMES)),
        "queues": [
            {
                "queue": row.number,
                "name": found.names.get(row.number, ""),
                "waiting": row.waiting,
                "dropped": row.dropped,
                "user_dropped": row.user_dropped,
                "limit": info.queue_limit,
            }
            for row in (queue_rows(info.proc) if info.queues else ())
            if row.number in info.queues
        ],
        "offload": {
            "on": int(engine.offload.on and engine.mark_maps.maps is not None),
            "connections": len(engine.offload.slots),
            "added": engine.offload.total,
            "refused": engine.offload.refused,
            "failures": engine.offload.failures,
        },
        "queue": {
            "enobufs": found.enobufs,
            "verdict_errors": found.verdict_errors,
            "truncated": found.truncated,
        },
        "copies": {
            "lost": found.copies_lost,
            "translations": engine.translations.learned,
            "translations_lost": found.translations_lost,
        },
    }


def states(trackers: Iterable[L4Proto]) -> dict[str, dict[str, int]]:
    """Confirmed connections by protocol and state. Trackers of raw rules have the names of the ordinary ones."""
    found: dict[str, dict[str, int]] = {}
    for l4proto in trackers:
        for state, count in zip(l4proto.state_names, l4proto.entries, strict=True):
            if count:
                of_proto = found.setdefault(l4proto.name, {})
                of_proto[state] = of_proto.get(state, 0) + count
    return found


def reasons(counts: list[int], low: int, high: int) -> dict[str, int]:
    """Packets by reason, of the reasons from low to below high that are not 0."""
    return {REASON_NAMES[at]: counts[at] for at in range(low, high) if counts[at]}
