"""Part latency: what a ping-pong of one byte each way waits longer than through a router that only routes.

Idle, and while small UDP packets pass: half as many as the daemon carries. All contenders have the same load.
"""

from __future__ import annotations

import statistics
from functools import partial
from typing import Final

from conntrackd_py.lab.namespaces import SERVER
from tests.bench.contenders import TITLES, Bench, Running, costed
from tests.bench.results import Results, Table, added, plain, table
from tests.bench.throughput import PAYLOAD, UDP_PORT, arrived, udp
from tests.support.processes import start as begin

PART: Final = "latency"
PORT: Final = "9300"
KINDS: Final = ("udp", "tcp")
LOADS: Final = {"idle": "idle", "half": "half load"}
ONE_CPU: Final = ("taskset", "-c", "0")  # of client and server: where they run decides more than what is measured
LEAST_TRIPS: Final = 100
SETTLE: Final = 0.3  # seconds of load before the first trip and after the last
Trips = list[tuple[float, float]]  # (start in seconds, duration in us)


def measure(bench: Bench) -> None:
    half = 0.0
    for running in bench.turns(PART, "daemon", "batched", "kernel", "route"):
        for kind in KINDS:
            begin(running.net.server, *ONE_CPU, bench.tool("calls"), "echo", kind, PORT)
        if not half:
            half = costed(running, partial(udp, bench, running))[0] / 2
        for load in LOADS:
            for kind in KINDS:
                for name, value in loaded(bench, running, kind, half if load == "half" else 0).items():
                    bench.results.add(PART, running.name, f"{kind} {load} {name}", value)


def loaded(bench: Bench, running: Running, kind: str, rate: float) -> dict[str, float]:
    """p50 and p99 in us; under a load also how many thousands of its packets arrive a second."""
    if not rate:
        return percentiles(ping(bench, running, kind, bench.seconds / 2))
    seconds = bench.seconds / 2 + 2 * SETTLE
    sink = begin(running.net.server, bench.tool("blast"), "udp-sink", UDP_PORT, str(seconds + 1))
    load = ("udp-send", SERVER, UDP_PORT, str(seconds), PAYLOAD, str(rate))
    sender = running.net.client.start(bench.tool("blast"), *load)
    trips = ping(bench, running, kind, seconds)
    sender.wait(seconds + 10)
    first = trips[0][0] + SETTLE
    chosen = [trip for trip in trips if first <= trip[0] <= first + bench.seconds / 2]
    return {**percentiles(chosen), "kpps": arrived(sink, seconds)[0] / 1000}


def ping(bench: Bench, running: Running, kind: str, seconds: float, pause: int = 0) -> Trips:
    """pause: us between two starts."""
    words = ("ping", kind, SERVER, PORT, str(seconds), str(pause))
    return trips_of(running.net.client.run(*ONE_CPU, bench.tool("calls"), *words, timeout=seconds + 30))


def trips_of(text: str) -> Trips:
    pairs = (line.split() for line in text.splitlines())
    return [(int(start) / 1e9, int(took) / 1e3) for start, took in pairs]


def percentiles(trips: Trips) -> dict[str, float]:
    if len(trips) < LEAST_TRIPS:
        raise SystemExit(f"scripts/bench: only {len(trips)} round trips in a measurement of latency")
    cuts = statistics.quantiles([took for _, took in trips], n=100)
    return {"p50": cuts[49], "p99": cuts[98]}


def tables(results: Results) -> dict[str, Table]:
    found = {}
    for load, words in LOADS.items():
        columns = []
        for kind in KINDS:
            for name in ("p50", "p99"):
                columns.append(plain(f"{kind.upper()} {name}, µs", f"{kind} {load} {name}"))
                columns.append(added("added", f"{kind} {load} {name}"))
        if load == "half":
            columns.append(plain("load, k/s", "udp half kpps"))
        found[f"{PART}-{load}"] = table(results, PART, TITLES, columns, words)
    return found
