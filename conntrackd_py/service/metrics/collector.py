"""The metrics: counters of other modules as Prometheus families. Nothing is walked. No label holds an address.

docs/metrics.md explains each metric; a test compares the names.
"""

import platform
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from conntrackd_py import __version__, compiled
from conntrackd_py.const import HOOK_NAMES, VERDICT_NAMES
from conntrackd_py.control.journal import JournalState
from conntrackd_py.control.server import ControlServer
from conntrackd_py.control.steering import Steering
from conntrackd_py.control.sync.state import SyncState
from conntrackd_py.engine.engine import Engine
from conntrackd_py.engine.offload import RETURNED_NAMES
from conntrackd_py.kernel.queues.proc_queues import QUEUES, queue_rows
from conntrackd_py.kernel.queues.queue import QueueCounters
from conntrackd_py.reasons import END_NAMES, INVALID_LIMIT, OK, REASON_NAMES, TABLE_FULL
from conntrackd_py.service.metrics import nat_log_metrics, node_names, rule_metrics, sync_metrics
from conntrackd_py.service.metrics.families import counter, counter_by, counter_of, gauge, gauge_of, histograms, summed
from conntrackd_py.service.metrics.httpd import Httpd
from conntrackd_py.service.nat_log.keeper import NatLogKeeper
from conntrackd_py.service.pauses import Pauses
from conntrackd_py.service.refusal_log import RefusalLog

HOOKS = tuple(name.lower() for name in HOOK_NAMES)


class EngineCollector(Collector):
    """queues: the kernel's list of queues. node_exporter: also publish the table under node_exporter's names.

    Without control, refusals or pauses, their metrics are absent.
    """

    def __init__(
        self,
        engine: Engine,
        queue: QueueCounters,
        control: ControlServer | None = None,
        queues: Path = QUEUES,
        refusals: RefusalLog | None = None,
        *,
        pauses: Pauses | None = None,
        steering: Steering | None = None,
        journal: JournalState | None = None,
        sync: SyncState | None = None,
        nat_log: NatLogKeeper | None = None,
        node_exporter: bool = False,
    ) -> None:
        self.engine = engine
        self.core = engine.core
        self.diagnostics = engine.diagnostics
        self.pauses = pauses
        self.steering = steering
        self.journal = journal
        self.sync = sync or SyncState()
        self.nat_log = nat_log
        self.node_exporter = node_exporter
        self.refusals = refusals
        self.queue = queue
        self.control = control
        self.queues = queues
        self.http: Httpd | None = None  # set by the Exporter

    def describe(self) -> Iterable[Metric]:
        """Every family, without samples."""
        for metric in self.collect():
            metric.samples = []
            yield metric

    def collect(self) -> Iterator[Metric]:
        yield from self._table()
        yield from self._packets()
        yield from self._hints()
        yield from self._helpers()
        yield from rule_metrics.nat(self.engine.nat)
        yield from rule_metrics.filtered(self.engine.policy)
        yield from self._kernel_queues()
        yield from self._large_packets()
        yield from self._offload()
        yield from self._steering()
        yield from self._journal(self.journal or JournalState())
        yield from sync_metrics.standby(self.sync)
        yield from nat_log_metrics.nat_log(self.nat_log)
        yield from self._daemon()
        yield from self._times()
        yield from self._servers()
        if self.node_exporter:
            yield from node_names.table(self.core)

    def _table(self) -> Iterator[Metric]:
        stats = self.core.stats
        entries = gauge("entries", "Confirmed connections in the table.", "proto", "state")
        counted = (  # trackers of raw rules have the same names
            ((l4proto.name, state), count)
            for l4proto in self.engine.trackers
            for state, count in zip(l4proto.state_names, l4proto.entries, strict=True)
        )
        for labels, count in summed(counted).items():
            entries.add_metric(labels, count)
        yield entries
        yield gauge_of("entries_limit", "Maximum number of connections, 0: no limit.", self.core.limit)
        yield gauge_of(
            "unconfirmed", "Connections whose first packet has not left yet.", len(self.core.table.unconfirmed)
        )
        yield gauge_of("dying", "Ended connections that keep their slot for 2 s.", len(self.core.table.dying))
        hosts = self.core.table.hosts
        yield gauge_of("host_connections_limit", "Maximum connections of one host, 0: no limit.", hosts.limit)
        yield gauge_of("hosts_near_limit", "Hosts with 80 % of the maximum of connections or more.", len(hosts.near))
        expectations = self.core.expectations
        yield gauge_of("expectations", "Expectations in the table.", expectations.count)
        yield gauge_of("expectations_limit", "Maximum number of expectations.", expectations.limit)
        yield counter_of("created", "Connections confirmed.", stats.insert)
        yield counter_by("destroyed", "Connections that ended, by reason.", "reason", END_NAMES, stats.ended)
        yield counter_of("insert_failed", "Connections refused because their tuple was taken.", stats.insert_failed)
        yield counter_of("early_drop", "Unassured connections evicted to make room.", stats.early_drop)
        yield counter_of("table_full_drops", "Packets dropped because the table was full.", stats.table_full)
        yield counter_of(
            "unconfirmed_lost",
            "Connections whose first packet did not leave within the timeout.",
            stats.unconfirmed_lost,
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
            (
                "packets_ignored",
                "Packets of a connection that did not change it, by reason.",
                INVALID_LIMIT,
                TABLE_FULL,
            ),
            ("packets_dropped", "Packets dropped, by reason.", TABLE_FULL, len(REASON_NAMES)),
        ):
            yield counter_by(name, text, "reason", REASON_NAMES[low:high], stats.reasons[low:high])
        rejects = self.engine.rejects
        yield counter_by(
            "rejected_without_answer",
            "Packets rejected without an answer to the sender, by cause.",
            "cause",
            ("rate_limit", "no_answer_allowed"),
            (rejects.limited, rejects.unanswerable),
        )

    def _hints(self) -> Iterator[Metric]:
        yield counter_of(
            "expired_in_use",
            "Connections that expired while in use: packets came afterwards.",
            self.diagnostics.expired_connections.expired_in_use,
        )
        yield counter_of(
            "one_sided_flows", "TCP connections with packets of one direction only.", self.diagnostics.one_sided.flows
        )
        yield counter_of(
            "mark_overwritten",
            "Packets whose packet mark another rule overwrote between their two visits.",
            self.engine.overwritten.total,
        )
        yield counter_of("mss_clamped", "Packets whose MSS was lowered (clamp_mss).", self.engine.mss.clamped)
        if self.refusals is not None:
            yield counter_of(
                "refusals_not_logged", "Refused packets left out of the sampled log.", self.refusals.not_logged
            )

    def _helpers(self) -> Iterator[Metric]:
        figures = self.engine.helpers.figures
        for name, text in (
            ("connections", "Connections that got this helper."),
            ("expectations", "Expectations that this helper made."),
            ("changed", "Packets whose payload this helper translated."),
            ("dropped", "Packets that this helper dropped."),
        ):
            values = [getattr(one, name) for one in figures.values()]
            yield counter_by(f"helper_{name}", text, "helper", list(figures), values)
        text = "Control connections to the usual port of a helper that no rule assigns."
        yield counter_of("helper_not_enabled", text, self.diagnostics.unhelped.connections)

    def _kernel_queues(self) -> Iterator[Metric]:
        labels = ("queue", "name")
        waiting = gauge("queue_waiting", "Packets waiting in the kernel's queue for a verdict.", *labels)
        dropped = counter("queue_dropped", "Packets the kernel dropped because its queue was full.", *labels)
        user = counter(
            "queue_user_dropped", "Packets the kernel dropped because the daemon's socket was full.", *labels
        )
        for row in queue_rows(self.queues):
            which = [str(row.number), self.queue.names.get(row.number, "")]
            waiting.add_metric(which, row.waiting)
            dropped.add_metric(which, row.dropped)
            user.add_metric(which, row.user_dropped)
        yield from (waiting, dropped, user)
        yield counter_of("copies_lost", "Mode observe: copies that the kernel dropped.", self.queue.copies_lost)
        yield counter_of(
            "translations_learned",
            "Mode observe: reports of connections that the kernel translates.",
            self.engine.translations.learned,
        )
        yield counter_of(
            "translations_lost",
            "Mode observe: times that the kernel dropped such reports; a dump replaces them.",
            self.queue.translations_lost,
        )
        yield counter_of(
            "queue_enobufs", "ENOBUFS errors: the kernel reported packets lost to a full socket.", self.queue.enobufs
        )
        yield counter_of(
            "verdict_errors", "Packets for which the daemon's code raised an exception.", self.queue.verdict_errors
        )
        yield counter_of(
            "verdict_send_errors",
            "Sends of verdicts that the kernel refused; each verdict was then sent alone.",
            self.queue.send_errors,
        )
        yield counter_of(
            "truncated_packets", "Packets dropped because the kernel queued them incomplete.", self.queue.truncated
        )

    def _large_packets(self) -> Iterator[Metric]:
        maps, headers = self.engine.mark_maps, self.engine.header_only
        yield gauge_of("mark_map_connections", "Connections that the kernel translates by the mark.", len(maps.mapped))
        yield counter_of("mark_map_added", "Connections that got elements in the maps of the kernel.", maps.total)
        yield counter_of("mark_map_refused", "Packets whose connection got no elements: a limit.", maps.refused)
        yield counter_of("large_packets_requeued", "Packets queued by their headers and then whole.", headers.requeued)

    def _offload(self) -> Iterator[Metric]:
        offload = self.engine.offload
        yield gauge_of("offloaded", "Connections whose packets the kernel forwards.", len(offload.slots))
        yield counter_of("offload_added", "Connections that were offloaded.", offload.total)
        yield counter_of("offload_refused", "Times a connection was not offloaded: a limit.", offload.refused)
        text = "Connections that returned to the daemon, by reason."
        yield counter_by("offload_returned", text, "reason", RETURNED_NAMES, offload.returned_by)
        yield counter_of("offload_failures", "Requests that the kernel refused; offload is off.", offload.failures)

    def _steering(self) -> Iterator[Metric]:
        if self.steering is None:
            return
        installed = gauge("steering_installed", "1: the steering rules are as configured. 0: missing or changed.")
        if self.steering.installed is not None:  # else they are not guarded
            installed.add_metric([], self.steering.installed)
        yield installed
        yield counter_of("steering_restored", "Times the daemon restored the steering rules.", self.steering.restored)
        text = "Packets that the leak table dropped: a source rule covers them, and the daemon did not see them."
        yield counter_of("leak_table_drops", text, self.steering.untranslated())

    def _journal(self, state: JournalState) -> Iterator[Metric]:
        yield gauge_of(
            "journal_active", "1: the journal is written. 0: off, or it cannot be.", state.journal is not None
        )
        yield counter_of("journal_records_written", "Records of connections written into the journal.", state.written)
        text = "Records not written: the journal has no room for their slot."
        yield counter_of("journal_records_unwritten", text, state.unwritten)
        text = "Expectations and interfaces without a record: no room, or a name is too long."
        yield gauge_of("journal_side_records_unwritten", text, state.side_unwritten)
        text = "Records too long: without the counters of the connection, or without its helper."
        yield counter_of("journal_records_shortened", text, state.shortened)
        yield gauge_of("journal_restored", "Connections restored at the start.", state.restored)
        refused = gauge("journal_refused", "Intact records not taken over at the start, by reason.", "reason")
        for reason, count in state.refused.items():
            refused.add_metric([reason], count)
        yield refused
        yield gauge_of("journal_damaged", "Damaged records found at the start.", state.damaged)

    def _daemon(self) -> Iterator[Metric]:
        lost = counter("events_lost", "Events dropped, by the queue that was full.", "queue")
        lost.add_metric(["engine"], self.core.events.lost)
        if self.control is not None:
            lost.add_metric(["subscriber"], self.control.clients().lost)
            yield gauge_of(
                "control_clients", "Clients connected to the control socket.", self.control.clients().connected
            )
        yield lost
        info = gauge("build_info", "The running version; always 1.", "version", "backend", "compiled", "python")
        info.add_metric([__version__, self.queue.backend, str(compiled).lower(), platform.python_version()], 1)
        yield info
        if self.control is not None:
            good, at = self.control.reloads.successful, self.control.reloads.at
            yield gauge_of("config_last_reload_successful", "1: the last reload was successful. 0: it failed.", good)
            yield gauge_of("config_last_reload_success_timestamp_seconds", "Time of the last successful reload.", at)
            stale = "Connections that the rules of the last reload would not create."
            yield gauge_of("stale_connections", stale, self.control.reloads.stale)

    def _times(self) -> Iterator[Metric]:
        text = "Time of a packet visit without system calls, of one visit in 512."
        yield histograms("packet_seconds", text, "", {"": self.queue.visits})
        if self.pauses is not None:
            text = "Time that packets waited for expiry of connections or for Python's garbage collector."
            pauses = {"expire": self.pauses.expiry, "python": self.pauses.python}
            yield histograms("gc_seconds", text, "collector", pauses)

    def _servers(self) -> Iterator[Metric]:
        refused = counter("connections_refused", "Connections the daemon did not serve, by cause.", "server", "cause")
        errors = counter("session_errors", "Connections for which the daemon's code raised an exception.", "server")
        for server in (self.http, self.control):
            if server is not None:
                for cause, count in server.acceptor.refused.items():
                    refused.add_metric([server.acceptor.name, cause], count)
                errors.add_metric([server.acceptor.name], server.acceptor.errors)
        requests = counter("metrics_requests", "Requests to the metrics server, by HTTP status.", "code")
        for status, count in sorted(self.http.answered.items()) if self.http is not None else ():
            requests.add_metric([str(int(status))], count)
        yield from (refused, errors, requests)
