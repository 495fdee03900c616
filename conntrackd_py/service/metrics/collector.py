"""The one Collector: publishes counters kept elsewhere as plain integers. Nothing is walked. No label holds an address.

docs/metrics.md tells what each metric means; a test compares.
"""

import platform
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from conntrackd_py import __version__, compiled
from conntrackd_py.const import HOOK_NAMES, VERDICT_NAMES
from conntrackd_py.control.acceptor import Acceptor
from conntrackd_py.control.reloads import Reloads
from conntrackd_py.engine.engine import Engine
from conntrackd_py.kernel.histogram import Histogram
from conntrackd_py.kernel.proc_queues import QUEUES, queue_lines
from conntrackd_py.reasons import END_NAMES, INVALID_LIMIT, OK, REASON_NAMES, TABLE_FULL
from conntrackd_py.service.metrics import node_names, rule_metrics
from conntrackd_py.service.metrics.families import counter, counter_by, counter_of, gauge, gauge_of, histograms, summed
from conntrackd_py.service.metrics.httpd import Httpd
from conntrackd_py.service.pauses import Pauses

HOOKS = tuple(name.lower() for name in HOOK_NAMES)


class QueueCounters(Protocol):
    """What the packet queue counts."""

    enobufs: int
    verdict_errors: int
    truncated: int
    visits: Histogram
    backend: str


class Listeners(Protocol):
    """What the control socket counts."""

    @property
    def clients(self) -> int: ...

    @property
    def events_lost(self) -> int: ...

    @property
    def acceptor(self) -> Acceptor: ...


class Sampled(Protocol):
    """What the sampled log counts."""

    not_logged: int


class EngineCollector(Collector):
    """control, refusals, http, reloads, pauses: None where there is none. queues: where the kernel lists its queues.

    node_exporter: also publish the table under the names of node_exporter.
    """

    def __init__(
        self,
        engine: Engine,
        queue: QueueCounters,
        control: Listeners | None = None,
        queues: Path = QUEUES,
        refusals: Sampled | None = None,
        http: Httpd | None = None,
        reloads: Reloads | None = None,
        pauses: Pauses | None = None,
        node_exporter: bool = False,
    ) -> None:
        self.engine = engine
        self.core = engine.core
        self.diagnostics = engine.diagnostics
        self.reloads = reloads
        self.pauses = pauses
        self.node_exporter = node_exporter
        self.refusals = refusals
        self.queue = queue
        self.control = control
        self.queues = queues
        self.http = http

    def describe(self) -> Iterable[Metric]:
        """Every family without samples, so that registering does not scrape."""
        for metric in self.collect():
            metric.samples = []
            yield metric

    def collect(self) -> Iterator[Metric]:
        yield from self._table()
        yield from self._packets()
        yield from self._hints()
        yield from rule_metrics.nat(self.engine.nat)
        yield from rule_metrics.filtered(self.engine.policy)
        yield from self._kernel_queues()
        yield from self._daemon()
        yield from self._times()
        yield from self._servers()
        if self.node_exporter:
            yield from node_names.table(self.core)

    def _table(self) -> Iterator[Metric]:
        stats = self.core.stats
        entries = gauge("entries", "Confirmed connections in the table.", "proto", "state")
        counted = (  # raw rules bring trackers of the same name
            ((l4proto.name, state), count)
            for l4proto in self.engine.trackers
            for state, count in zip(l4proto.state_names, l4proto.entries, strict=True)
        )
        for labels, count in summed(counted).items():
            entries.add_metric(labels, count)
        yield entries
        yield gauge_of("entries_limit", "Most connections the table takes, 0 for no limit.", self.core.limit)
        yield gauge_of("unconfirmed", "Connections whose first packet is under way.", len(self.core.table.unconfirmed))
        yield gauge_of("dying", "Ended connections not yet forgotten.", len(self.core.table.dying))
        expectations = self.core.expectations
        yield gauge_of("expectations", "Connections that helpers expect.", expectations.count)
        yield gauge_of("expectations_limit", "Most expectations.", expectations.limit)
        yield counter_of("created", "Connections that entered the table.", stats.insert)
        yield counter_by("destroyed", "Connections that ended, by reason.", "reason", END_NAMES, stats.ended)
        yield counter_of("insert_failed", "Connections refused because their tuple was taken.", stats.insert_failed)
        yield counter_of("early_drop", "Unassured connections ended to make room.", stats.early_drop)
        yield counter_of("table_full_drops", "Packets dropped because the table was full.", stats.table_full)
        yield counter_of(
            "unconfirmed_lost", "Connections whose first packet never came out again.", stats.unconfirmed_lost
        )

    def _packets(self) -> Iterator[Metric]:
        stats = self.core.stats
        packets = counter("packets", "Packet visits, by hook and verdict.", "hook", "verdict")
        for at, count in enumerate(stats.verdicts):
            hook, verdict = divmod(at, len(VERDICT_NAMES))
            packets.add_metric([HOOKS[hook], VERDICT_NAMES[verdict]], count)
        yield packets
        yield counter_by("bytes", "Bytes of packet visits, by hook.", "hook", HOOKS, stats.bytes)
        for name, text, low, high in (
            ("invalid", "Packets that are INVALID, by reason.", OK + 1, INVALID_LIMIT),
            ("packets_ignored", "Attached packets that changed nothing, by reason.", INVALID_LIMIT, TABLE_FULL),
            ("packets_dropped", "Packets dropped, by reason.", TABLE_FULL, len(REASON_NAMES)),
        ):
            yield counter_by(name, text, "reason", REASON_NAMES[low:high], stats.reasons[low:high])

    def _hints(self) -> Iterator[Metric]:
        yield counter_of(
            "expired_in_use",
            "Connections that timed out and of which packets still came.",
            self.diagnostics.expired_connections.expired_in_use,
        )
        yield counter_of(
            "one_sided_flows", "TCP connections of which only one side was seen.", self.diagnostics.one_sided.flows
        )
        if self.refusals is not None:
            yield counter_of(
                "refusals_not_logged", "Refused packets left out of the sampled log.", self.refusals.not_logged
            )

    def _kernel_queues(self) -> Iterator[Metric]:
        waiting = gauge("queue_waiting", "Packets waiting in the kernel's queue for a verdict.", "queue")
        dropped = counter("queue_dropped", "Packets the kernel dropped because its queue was full.", "queue")
        user = counter("queue_user_dropped", "Packets the kernel dropped because our socket was full.", "queue")
        for fields in queue_lines(self.queues):
            waiting.add_metric([fields[0]], int(fields[2]))
            dropped.add_metric([fields[0]], int(fields[5]))
            user.add_metric([fields[0]], int(fields[6]))
        yield from (waiting, dropped, user)
        yield counter_of(
            "queue_enobufs", "Times the kernel reported packets lost to a full socket.", self.queue.enobufs
        )
        yield counter_of("verdict_errors", "Packets our own code failed on.", self.queue.verdict_errors)
        yield counter_of("truncated_packets", "Packets the kernel handed over incomplete.", self.queue.truncated)

    def _daemon(self) -> Iterator[Metric]:
        lost = counter("events_lost", "Events that were not kept, by whose queue was full.", "queue")
        lost.add_metric(["engine"], self.core.events.lost)
        if self.control is not None:
            lost.add_metric(["listener"], self.control.events_lost)
            yield gauge_of("control_clients", "Clients connected to the control socket.", self.control.clients)
        yield lost
        info = gauge("build_info", "What runs; always 1.", "version", "backend", "compiled", "python")
        info.add_metric([__version__, self.queue.backend, str(compiled).lower(), platform.python_version()], 1)
        yield info
        if self.reloads is not None:
            good, at = self.reloads.successful, self.reloads.at
            yield gauge_of("config_last_reload_successful", "1: the last reload was successful. 0: it failed.", good)
            yield gauge_of("config_last_reload_success_timestamp_seconds", "Time of the last successful reload.", at)
            stale = "Connections that the rules would treat otherwise if they began now."
            yield gauge_of("stale_connections", stale, self.reloads.stale)

    def _times(self) -> Iterator[Metric]:
        text = "Time of a packet visit, without the system calls; of one visit in 512."
        yield histograms("packet_seconds", text, "", {"": self.queue.visits})
        if self.pauses is not None:
            text = "Time that packets waited for a clean-up: of expired connections, or of Python's memory."
            pauses = {"expire": self.pauses.expire, "python": self.pauses.python}
            yield histograms("gc_seconds", text, "collector", pauses)

    def _servers(self) -> Iterator[Metric]:
        refused = counter("connections_refused", "Connections the daemon did not serve, by cause.", "server", "cause")
        errors = counter("session_errors", "Connections that our own code failed on.", "server")
        for server in (self.http, self.control):
            if server is not None:
                for cause, count in server.acceptor.refused.items():
                    refused.add_metric([server.acceptor.name, cause], count)
                errors.add_metric([server.acceptor.name], server.acceptor.errors)
        requests = counter("metrics_requests", "Requests to the metrics server, by the status of its answer.", "code")
        for status, count in sorted(self.http.answered.items()) if self.http is not None else ():
            requests.add_metric([str(int(status))], count)
        yield from (refused, errors, requests)
