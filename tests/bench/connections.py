"""Part connections: new connections a second through source NAT.

TCP   connect, request, response, close; 64 at once
UDP   one packet of each flow, as fast as the client can send
"""

from __future__ import annotations

from functools import partial
from typing import Final

from conntrackd_py.lab.namespaces import SERVER
from tests.bench.contenders import FLOOD_FROM_INSIDE, TITLES, Bench, Running, costed, kernel_room
from tests.bench.results import Results, Table, plain, ratio, table
from tests.bench.throughput import arrived
from tests.support.processes import start as begin

PART: Final = "connections"
FIRST_PORT, PORTS = "9100", "8"
FLOW_PORT: Final = "9200"
MANY_PORTS: Final = "net.ipv4.ip_local_port_range=1024 65535"
WANTED: Final = ("daemon", "daemon-no-journal", "daemon-nat-log", "daemon-sync", "kernel", "route")
COLUMNS: Final = [
    plain("TCP connections a second", "tcp"),
    ratio("ratio", "tcp"),
    plain("its CPU time, µs a connection", "tcp us"),
    plain("UDP flows a second", "udp"),
    ratio("ratio", "udp"),
    plain("its CPU time, µs a flow", "udp us"),
]


def measure(bench: Bench) -> None:
    for running in bench.turns(PART, *WANTED, tunables="nf_conntrack_max = 2000000\n"):
        running.net.client.run("sysctl", "-qw", MANY_PORTS)
        begin(running.net.server, bench.tool("calls"), "serve", FIRST_PORT, PORTS)
        for kind, once in (("tcp", tcp), ("udp", udp)):
            rate, cost = costed(running, partial(once, bench, running))
            bench.results.add(PART, running.name, kind, rate)
            if running.pid:
                bench.results.add(PART, running.name, f"{kind} us", cost)


def tcp(bench: Bench, running: Running) -> tuple[float, float]:
    words = ("connect", SERVER, FIRST_PORT, PORTS, str(bench.seconds))
    rate, count = running.net.client.run(bench.tool("calls"), *words, timeout=bench.seconds + 10).split()
    return float(rate), float(count)


def udp(bench: Bench, running: Running) -> tuple[float, float]:
    """At most as many flows as the kernel's table holds beside the TCP connections; the same number for all."""
    sink = begin(running.net.server, bench.tool("blast"), "udp-sink", FLOW_PORT, str(bench.seconds + 1))
    most = str(kernel_room() // 2)
    words = ("flood", "udp", *FLOOD_FROM_INSIDE, FLOW_PORT, "0", str(bench.seconds), most, "0")
    running.net.client.run(bench.tool("calls"), *words, timeout=bench.seconds + 10)
    return arrived(sink, bench.seconds)


def tables(results: Results) -> dict[str, Table]:
    return {PART: table(results, PART, TITLES, COLUMNS, "")}
