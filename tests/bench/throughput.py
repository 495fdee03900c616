"""Part throughput: a flood of small UDP packets, and one TCP stream, through source NAT."""

from __future__ import annotations

import subprocess
from functools import partial
from typing import Final

from conntrackd_py.lab.namespaces import SERVER
from tests.bench.contenders import TITLES, Bench, Running, costed
from tests.bench.results import Results, Table, plain, ratio, table
from tests.support.processes import start as begin

PART: Final = "throughput"
PAYLOAD: Final = "22"  # bytes: a 64-byte frame
UDP_PORT: Final = "9000"
TCP_PORT: Final = "9001"
DAEMONS: Final = ("daemon", "daemon-keep", "daemon-whole", "daemon-offload", "daemon-no-journal", "daemon-sync")
WANTED: Final = (*DAEMONS, "batched", "batched-one-visit", "accept-c", "accept-py", "kernel")
COLUMNS: Final = [
    plain("small UDP packets, k/s", "udp kpps"),
    ratio("ratio", "udp kpps"),
    plain("one TCP stream, Gbit/s", "tcp Gbit/s"),
    ratio("ratio", "tcp Gbit/s"),
    plain("its CPU time, µs a UDP packet", "udp us"),
]


def measure(bench: Bench) -> None:
    wanted = WANTED if "scapy" not in bench.only else (*WANTED, "scapy")
    for running in bench.turns(PART, *wanted):
        packets, cost = costed(running, partial(udp, bench, running))
        bench.results.add(PART, running.name, "udp kpps", packets / 1000)
        if running.pid:
            bench.results.add(PART, running.name, "udp us", cost)
        bits, _ = costed(running, partial(tcp, bench, running))
        bench.results.add(PART, running.name, "tcp Gbit/s", bits / 1e9)


def udp(bench: Bench, running: Running, rate: float = 0) -> tuple[float, float]:
    """Packets a second that arrive, and how many; rate: sent a second, 0: as fast as possible."""
    sink = begin(running.net.server, bench.tool("blast"), "udp-sink", UDP_PORT, str(bench.seconds + 1))
    words = ("udp-send", SERVER, UDP_PORT, str(bench.seconds), PAYLOAD, str(rate))
    running.net.client.run(bench.tool("blast"), *words, timeout=bench.seconds + 10)
    return arrived(sink, bench.seconds)


def arrived(sink: subprocess.Popen[str], seconds: float) -> tuple[float, float]:
    """Packets a second at a udp-sink, and how many."""
    rate, count = sink.communicate(timeout=seconds + 10)[0].split()
    return float(rate), float(count)


def tcp(bench: Bench, running: Running) -> tuple[float, float]:
    """Bits a second, and their number; 0 when no connection comes about, or when it stalls."""
    sink = begin(running.net.server, bench.tool("blast"), "tcp-sink", TCP_PORT, str(bench.seconds))
    sender = running.net.client.start(bench.tool("blast"), "tcp-send", SERVER, TCP_PORT, str(bench.seconds))
    try:
        rate = float(sink.communicate(timeout=bench.seconds + 8)[0])
    except subprocess.TimeoutExpired:
        rate = 0.0
    finally:
        for process in (sink, sender):
            process.kill()
            process.wait()
    return rate, rate * bench.seconds


def tables(results: Results) -> dict[str, Table]:
    return {PART: table(results, PART, TITLES, COLUMNS, "")}
