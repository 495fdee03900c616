"""What the daemon says about itself: the answer to `status`, and the counters in the one to `top`.

Nothing is walked: it costs the same whatever the table holds. The keys are a contract, as in view: added to, never
renamed.

    status: version compiled python pid mode started uptime reloaded reload{successful error restart stale}
            entries limit unconfirmed dying expectations{entries limit} states{}
            queues[{queue waiting limit dropped user_dropped}] queue{enobufs verdict_errors truncated}
            nat{allocations failures} helpers[] hints{expired_in_use one_sided_flows} invalid{} dropped{}
            filter[{rule comment action packets bytes}]
            clients refused_clients listeners events_lost

`started` and `reloaded` are seconds since the epoch (null: never), `uptime` is seconds. `states` counts confirmed
connections by protocol and state, {"tcp": {"ESTABLISHED": 3}, "udp": {"": 5}}, `invalid` and `dropped` packets by
reason; they have only what there is. `filter`: service/filtered.py. Of a queue, `dropped` are packets that found it
full, `user_dropped` those that found our socket full.
"""

import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from conntrackd_py import __version__, compiled
from conntrackd_py.conntrack.conn import L4Proto
from conntrackd_py.const import HOOK_NAMES, NF_ACCEPT, NF_DROP
from conntrackd_py.control.filter_counters import refusing
from conntrackd_py.control.view import Json
from conntrackd_py.kernel.proc_queues import QUEUES, queue_rows
from conntrackd_py.kernel.queue import QueueCounters
from conntrackd_py.reasons import INVALID_LIMIT, OK, REASON_NAMES, TABLE_FULL

if TYPE_CHECKING:
    from conntrackd_py.control.server import ControlServer


@dataclass(frozen=True)
class About:
    """What the engine does not know of the daemon around it."""

    mode: str = "track"
    started: int = 0  # ms, of the engine's clock
    queues: tuple[int, ...] = ()  # their numbers
    queue_limit: int = 0  # packets that may wait in each
    counters: QueueCounters = field(default_factory=QueueCounters)
    proc: Path = QUEUES  # where the kernel lists its queues


def status(control: "ControlServer") -> Json:
    """The answer to `status`."""
    engine, about = control.engine, control.about
    core, stats = engine.core, engine.core.stats
    return {
        "version": __version__,
        "compiled": compiled,
        "python": platform.python_version(),
        "pid": os.getpid(),
        "mode": about.mode,
        "started": round(control.epoch() + about.started / 1000, 3),
        "uptime": (control.clock() - about.started) / 1000,
        "reloaded": control.reloads.at if control.reloads.count else None,
        "reload": {
            "successful": control.reloads.successful,
            "error": control.reloads.error,
            "restart": control.reloads.restart,
            "stale": control.reloads.stale,
        },
        **table(control),
        "expectations": {"entries": core.expectations.count, "limit": core.expectations.limit},
        "states": states(engine.trackers),
        **queues(about),
        "nat": {"allocations": stats.nat_allocations, "failures": stats.nat_allocation_failures},
        "helpers": [],
        "hints": {
            "expired_in_use": engine.diagnostics.expired_connections.expired_in_use,
            "one_sided_flows": engine.diagnostics.one_sided.flows,
        },
        "invalid": reasons(stats.reasons, OK + 1, INVALID_LIMIT),
        "dropped": reasons(stats.reasons, TABLE_FULL, len(REASON_NAMES)),
        "filter": refusing(engine.policy),
        "clients": control.clients,
        "refused_clients": control.refused,
        "listeners": control.listeners,
        "events_lost": core.events.lost + control.events_lost,
    }


def table(control: "ControlServer") -> Json:
    """How full the table is; a limit of 0 is none."""
    core = control.engine.core
    return {
        "entries": len(core.table),
        "limit": core.limit,
        "unconfirmed": len(core.table.unconfirmed),
        "dying": len(core.table.dying),
    }


def states(trackers: Iterable[L4Proto]) -> dict[str, dict[str, int]]:
    """Confirmed connections by protocol and state; raw rules bring trackers of the same name."""
    found: dict[str, dict[str, int]] = {}
    for l4proto in trackers:
        for state, count in zip(l4proto.state_names, l4proto.entries, strict=True):
            if count:
                of_proto = found.setdefault(l4proto.name, {})
                of_proto[state] = of_proto.get(state, 0) + count
    return found


def queues(about: About) -> Json:
    """The kernel's side of our queues, and ours."""
    counters = about.counters
    rows = queue_rows(about.proc, about.queues) if about.queues else []
    return {
        "queues": [{**row, "limit": about.queue_limit} for row in rows],
        "queue": {
            "enobufs": counters.enobufs,
            "verdict_errors": counters.verdict_errors,
            "truncated": counters.truncated,
        },
    }


def reasons(counts: list[int], low: int, high: int) -> dict[str, int]:
    """Packets by reason, of the reasons low up to high that there were."""
    return {REASON_NAMES[at]: counts[at] for at in range(low, high) if counts[at]}


def hooks(control: "ControlServer") -> Json:
    """Visits by hook: accepted, dropped and their bytes; without the hooks that have none of their own."""
    stats = control.engine.core.stats
    found: Json = {}
    for at, name in enumerate(HOOK_NAMES):
        accepted, dropped = stats.verdicts[at * 2 + NF_ACCEPT], stats.verdicts[at * 2 + NF_DROP]
        if name != "FORWARD":
            found[name.lower()] = {"accepted": accepted, "dropped": dropped, "bytes": stats.bytes[at]}
    return found
