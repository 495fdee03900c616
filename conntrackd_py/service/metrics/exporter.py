"""The HTTP endpoint for Prometheus.

A scrape runs in the daemon's loop and takes 1 to 2 ms, whatever the table holds. It takes turns, in which packets pass:
each lasts TURN seconds and the family that is under way. A thread would delay packets longer: it keeps the interpreter
for up to 5 ms.
"""

import asyncio
import socket
import time
import zlib
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from conntrackd_py.service.metrics.collector import EngineCollector
from conntrackd_py.service.metrics.httpd import Answer, Httpd, RefusedRequestError, Request
from conntrackd_py.settings.errors import ConfigError

if TYPE_CHECKING:
    from ssl import SSLContext

PATH: Final = "/metrics"
BACKLOG: Final = 512
TURN: Final = 0.0001  # seconds
GZIP: Final = 16 + zlib.MAX_WBITS
INDEX: Final = f'<!DOCTYPE html><title>conntrackd-py</title><a href="{PATH}">Metrics</a>\n'.encode()


class Exporter:
    """address: IP address and port; port 0: the kernel chooses. tls: None for plain HTTP."""

    def __init__(self, collector: EngineCollector, address: tuple[str, int], tls: "SSLContext | None" = None) -> None:
        self.address = address
        self.http = collector.http = Httpd("metrics", {PATH: self._metrics, "/": index}, tls=tls)
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.registry.register(collector)

    def start(self) -> None:
        """Serve in the running loop. Raises ConfigError when the address cannot be bound."""
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

    def renew(self, tls: "SSLContext") -> None:
        """Use this certificate for later connections."""
        self.http.acceptor.tls = tls

    async def stop(self) -> None:
        """Stop serving; the port is free afterwards."""
        await self.http.acceptor.stop()

    async def _metrics(self, request: Request) -> Answer:
        """Like prometheus_client's server: text or OpenMetrics, gzip, `?name[]=`."""
        try:
            encoder, content_type = choose_encoder(request.headers.get("accept", ""))
        except (TypeError, ValueError) as error:  # a version that is not a number
            raise RefusedRequestError(HTTPStatus.NOT_ACCEPTABLE) from error
        names = parse_qs(request.query).get("name[]")
        registry = self.registry.restricted_registry(names) if names else self.registry
        headers = {"Content-Type": content_type}
        if not gzip_accepted(request.headers.get("accept-encoding", "")):
            return Answer(HTTPStatus.OK, headers, await in_turns(registry, encoder, bytes))
        squeezer = zlib.compressobj(wbits=GZIP)
        body = await in_turns(registry, encoder, squeezer.compress)
        return Answer(HTTPStatus.OK, headers | {"Content-Encoding": "gzip"}, body + squeezer.flush())


class Families(Collector):
    """Families that were collected before."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self.families = families

    def collect(self) -> Sequence[Metric]:
        return self.families


async def in_turns(registry: Collector, encoder: Callable[[Collector], bytes], pack: Callable[[bytes], bytes]) -> bytes:
    """What `encoder` makes of the registry, packed in pieces; packets pass between two turns."""
    end = encoder(Families([]))  # OpenMetrics has a last line
    pieces = []
    until = time.perf_counter() + TURN
    for family in registry.collect():
        pieces.append(pack(encoder(Families([family])).removesuffix(end)))
        if time.perf_counter() >= until:
            await asyncio.sleep(0)
            until = time.perf_counter() + TURN
    return b"".join((*pieces, pack(end)))


async def index(request: Request) -> Answer:
    """A page with a link to the metrics."""
    return Answer(HTTPStatus.OK, {"Content-Type": "text/html; charset=utf-8"}, INDEX)
