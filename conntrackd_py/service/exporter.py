"""Prometheus metrics: one Collector that publishes counters kept elsewhere as plain integers.

A scrape costs the same whatever the table holds: nothing is walked. It runs in the daemon's loop and takes half a
millisecond. In a thread it would delay packets longer: until that thread gives the interpreter back, up to 5 ms.
No label ever holds an address.
"""

import gzip
import platform
import socket
from collections import Counter
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import parse_qs

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from conntrackd_py import __version__, compiled
from conntrackd_py.const import HOOK_NAMES, VERDICT_NAMES
from conntrackd_py.engine.engine import Engine
from conntrackd_py.reasons import END_NAMES, INVALID_LIMIT, OK, REASON_NAMES, TABLE_FULL
from conntrackd_py.service.acceptor import Acceptor
from conntrackd_py.service.httpd import Answer, Httpd, RefusedRequestError, Request
from conntrackd_py.service.queues import QUEUES, queue_lines
from conntrackd_py.settings.errors import ConfigError

PREFIX: Final = "conntrackd_py_"
PATH: Final = "/metrics"
BACKLOG: Final = 512
INDEX: Final = f'<!DOCTYPE html><title>conntrackd-py</title><a href="{PATH}">Metrics</a>\n'.encode()


class QueueCounters(Protocol):
    """What the packet queue counts."""

    enobufs: int
    verdict_errors: int
    truncated: int


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
    """control, refusals, http: None where there is none. queues: where the kernel lists its packet queues."""

    def __init__(
        self,
        engine: Engine,
        queue: QueueCounters,
        control: Listeners | None = None,
        queues: Path = QUEUES,
        refusals: Sampled | None = None,
        http: Httpd | None = None,
    ) -> None:
        self.core = engine.core
        self.trackers = engine.trackers
        self.remarks = engine.remarks
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
        yield from self._nat()
        yield from self._kernel_queues()
        yield from self._daemon()
        yield from self._servers()

    def _table(self) -> Iterator[Metric]:
        stats = self.core.stats
        entries = gauge("entries", "Confirmed connections in the table.", "proto", "state")
        counts: Counter[tuple[str, str]] = Counter()  # raw rules bring trackers of the same name
        for l4proto in self.trackers:
            for state, count in zip(l4proto.state_names, l4proto.entries, strict=True):
                counts[l4proto.name, state] += count
        for labels, count in counts.items():
            entries.add_metric(labels, count)
        yield entries
        yield gauge_of("entries_limit", "Most connections the table takes, 0 for no limit.", self.core.limit)
        yield gauge_of("unconfirmed", "Connections whose first packet is under way.", len(self.core.table.unconfirmed))
        yield gauge_of("dying", "Ended connections not yet forgotten.", len(self.core.table.dying))
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
            packets.add_metric([HOOK_NAMES[hook].lower(), VERDICT_NAMES[verdict]], count)
        yield packets
        yield counter_by("bytes", "Bytes of packet visits, by hook.", "hook", lower(HOOK_NAMES), stats.bytes)
        for name, text, low, high in (
            ("invalid", "Packets that are INVALID, by reason.", OK + 1, INVALID_LIMIT),
            ("packets_ignored", "Attached packets that changed nothing, by reason.", INVALID_LIMIT, TABLE_FULL),
            ("packets_dropped", "Packets dropped, by reason.", TABLE_FULL, len(REASON_NAMES)),
        ):
            yield counter_by(name, text, "reason", REASON_NAMES[low:high], stats.reasons[low:high])

    def _hints(self) -> Iterator[Metric]:
        yield counter_of(
            "died_in_use",
            "Connections that timed out and of which packets still came.",
            self.remarks.ghosts.died_in_use,
        )
        yield counter_of(
            "one_sided_flows", "TCP connections of which only one side was seen.", self.remarks.one_sided.flows
        )
        if self.refusals is not None:
            yield counter_of(
                "refusals_not_logged", "Refused packets left out of the sampled log.", self.refusals.not_logged
            )

    def _nat(self) -> Iterator[Metric]:
        stats = self.core.stats
        yield counter_of("nat_allocations", "Mappings made by NAT rules.", stats.nat_allocations)
        yield counter_of(
            "nat_allocation_failures", "Connections for which no mapping was free.", stats.nat_allocation_failures
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
        info = GaugeMetricFamily(
            f"{PREFIX}build_info", "What runs; always 1.", labels=["version", "compiled", "python"]
        )
        info.add_metric([__version__, str(compiled).lower(), platform.python_version()], 1)
        yield info

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


class Exporter:
    """The HTTP endpoint of one engine at address (IP address, port) and nowhere else; port 0 lets the kernel choose.

    It runs in the loop that runs when it starts.
    """

    def __init__(
        self,
        engine: Engine,
        queue: QueueCounters,
        address: tuple[str, int],
        control: Listeners | None = None,
        refusals: Sampled | None = None,
    ) -> None:
        self.address = address
        self.http = Httpd("metrics", {PATH: self._metrics, "/": index})
        self.registry = CollectorRegistry()
        self.registry.register(EngineCollector(engine, queue, control, refusals=refusals, http=self.http))

    def start(self) -> None:
        """Serve from now on. Raises ConfigError when the address cannot be listened on."""
        host, port = self.address
        v6 = ":" in host
        family = socket.AF_INET6 if v6 else socket.AF_INET
        try:
            listening = socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=v6)
        except OSError as error:
            raise ConfigError("metrics.listen", f"{host}:{port}", error.strerror or str(error)) from error
        listening.setblocking(False)
        self.address = (host, listening.getsockname()[1])
        self.http.acceptor.start(listening)

    async def stop(self) -> None:
        """Stop serving; the port is free afterwards."""
        await self.http.acceptor.stop()

    def _metrics(self, request: Request) -> Answer:
        """As prometheus_client's own server does it: text or OpenMetrics, gzip, `?name[]=`."""
        try:
            encoder, content_type = choose_encoder(request.headers.get("accept", ""))
        except (TypeError, ValueError) as error:  # a version that is no number
            raise RefusedRequestError(HTTPStatus.NOT_ACCEPTABLE) from error
        names = parse_qs(request.query).get("name[]")
        body: bytes = encoder(self.registry.restricted_registry(names) if names else self.registry)
        headers = {"Content-Type": content_type}
        if gzip_accepted(request.headers.get("accept-encoding", "")):
            headers["Content-Encoding"] = "gzip"
            body = gzip.compress(body)
        return Answer(HTTPStatus.OK, headers, body)


def index(request: Request) -> Answer:
    """The page that says where the metrics are."""
    return Answer(HTTPStatus.OK, {"Content-Type": "text/html; charset=utf-8"}, INDEX)


def lower(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name.lower() for name in names)


def gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, text, labels=labels)


def gauge_of(name: str, text: str, value: int) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, text, value=value)


def counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(PREFIX + name, text, labels=labels)


def counter_of(name: str, text: str, value: int) -> CounterMetricFamily:
    return CounterMetricFamily(PREFIX + name, text, value=value)


def counter_by(name: str, text: str, label: str, names: tuple[str, ...], values: list[int]) -> CounterMetricFamily:
    family = counter(name, text, label)
    for by, value in zip(names, values, strict=True):
        family.add_metric([by], value)
    return family
