"""Part operations: the round trips of a packet while the daemon lists, expires or flushes a full table, or is scraped.

The table holds --count connections (100,000). A datagram goes to the server and back every millisecond. The
kernel's table and conntrack(8) have the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from conntrackd_py.lab.namespaces import SERVER
from conntrackd_py.lab.router import CONNTRACK, DAEMON, METRICS
from tests.bench.contenders import FLOOD_FROM_INSIDE, TITLES, Bench, Running, counting, kernel_room
from tests.bench.latency import ONE_CPU, PORT, Trips, percentiles, ping, trips_of
from tests.bench.results import Column, Results, Table, plain, table
from tests.support.processes import start as begin
from tests.support.waiting import wait_until

PART: Final = "operations"
PAUSE: Final = 1000  # us between two datagrams
PACE: Final = 25_000  # new connections a second
FILL_PORT: Final = "9400"
SETTLE: Final = 0.5  # seconds
LEAST: Final = 0.5  # seconds of a measurement
LOST: Final = 1e6  # us
FIGURES: Final = ("p50", "p99", "max", "lost")
OPERATIONS: Final = {
    "nothing": "nothing",
    "list": "`-L`, repeated",
    "json": "`-L -o json`, repeated",
    "top": "`top`, repeated",
    "scrape": "a scrape of the metrics, repeated",
    "expire": "connections expire",
    "flush": "`-F`",
}
AGAIN: Final = 'while :; do "$@" >/dev/null 2>&1; done'


def measure(bench: Bench, count: int) -> None:
    """The timeout is long enough for the fill and the measurements before the first connection expires."""
    timeout = int(count / PACE + (len(OPERATIONS) - 2) * (bench.seconds + SETTLE) + 8)
    tunables = f"nf_conntrack_udp_timeout = {timeout}\nnf_conntrack_max = {count * 2}\n"
    for running in bench.turns(PART, "daemon", "kernel", tunables=tunables):
        of_kernel = running.router is None
        total = min(count, kernel_room()) if of_kernel else count
        running.net.router.run("sysctl", "-qw", f"net.netfilter.nf_conntrack_udp_timeout={timeout}", check=of_kernel)
        begin(running.net.server, *ONE_CPU, bench.tool("calls"), "echo", "udp", PORT)
        running.net.server.run("iptables", "-A", "INPUT", "-p", "udp", "--dport", FILL_PORT, "-j", "DROP")
        began = time.monotonic()
        filled = fill(bench, running, total)
        bench.results.add(PART, running.name, "connections", filled)
        for name, command in repeated_commands(running).items():
            note(bench, running, name, while_repeated(bench, running, command))
        if not of_kernel:
            note(bench, running, "expire", while_expiring(bench, running, began + timeout, filled))
            wait_until(lambda: int(counting(running, "-C")) < total // 100, "connections do not expire", timeout + 60)  # noqa: B023
            fill(bench, running, total)
        note(bench, running, "flush", during(bench, running, lambda: counting(running, "-F")))  # noqa: B023
        if int(counting(running, "-C")) > total // 10:
            raise SystemExit(f"scripts/bench: {TITLES[running.name]}: the flush left connections")


def fill(bench: Bench, running: Running, count: int) -> int:
    """Make the connections; returns how many there are."""
    seconds = count / PACE * 2 + 5
    words = ("flood", "udp", *FLOOD_FROM_INSIDE, FILL_PORT, str(PACE), str(seconds), str(count), "0")
    running.net.client.run(bench.tool("calls"), *words, timeout=seconds + 10)
    time.sleep(SETTLE)
    there = int(counting(running, "-C"))
    if there < count * 0.95:
        raise SystemExit(f"scripts/bench: {TITLES[running.name]}: {there} connections instead of {count}")
    return there


def repeated_commands(running: Running) -> dict[str, tuple[str, ...]]:
    if running.router is None:
        return {"nothing": (), "list": ("conntrack", "-L")}
    socket = ("--socket", str(running.router.socket))
    return {
        "nothing": (),
        "list": (*CONNTRACK, *socket, "-L"),
        "json": (*CONNTRACK, *socket, "-L", "-o", "json"),
        "top": (*DAEMON, "top", "--once", "--json", "--interval", "1", *socket),
        "scrape": ("curl", "-s", f"http://{METRICS}/metrics"),
    }


def while_repeated(bench: Bench, running: Running, command: tuple[str, ...]) -> Trips:
    if not command:
        return ping(bench, running, "udp", bench.seconds, PAUSE)
    lister = running.net.router.start("sh", "-c", AGAIN, "sh", *command)
    time.sleep(SETTLE)
    trips = ping(bench, running, "udp", bench.seconds, PAUSE)
    lister.kill()
    lister.wait()
    return trips


def while_expiring(bench: Bench, running: Running, at: float, filled: int) -> Trips:
    """Round trips from the moment `at`, by the monotonic clock, while connections expire."""
    time.sleep(max(at + SETTLE - time.monotonic(), 0))
    trips = ping(bench, running, "udp", min(bench.seconds, filled / PACE), PAUSE)
    if int(counting(running, "-C")) > filled * 0.9:
        raise SystemExit("scripts/bench: no connection expired in the measurement of expiry")
    return trips


def during(bench: Bench, running: Running, operation: Callable[[], str]) -> Trips:
    """Round trips that begin while the operation runs, or in LEAST seconds after its start."""
    words = ("ping", "udp", SERVER, PORT, str(SETTLE + LEAST + bench.seconds), str(PAUSE))
    probe = begin(running.net.client, "sh", "-c", 'echo ready; exec "$@"', "sh", *ONE_CPU, bench.tool("calls"), *words)
    time.sleep(SETTLE)
    began = time.monotonic()
    operation()
    ended = max(time.monotonic(), began + LEAST)
    trips = trips_of(probe.communicate(timeout=bench.seconds + 30)[0])
    return [trip for trip in trips if began <= trip[0] <= ended]


def note(bench: Bench, running: Running, name: str, trips: Trips) -> None:
    """Lost datagrams are counted; the other figures are of those that came back."""
    back = [trip for trip in trips if trip[1] < LOST]
    figures = {**percentiles(back), "max": max(took for _, took in back), "lost": len(trips) - len(back)}
    for figure, value in figures.items():
        bench.results.add(PART, running.name, f"{name} {figure}", value)


def tables(results: Results) -> dict[str, Table]:
    """One row for each operation, one group of columns for each contender."""
    turned = Results()
    for name in OPERATIONS:
        for contender in results.rows(PART):
            for figure in FIGURES:
                value = results.median(PART, contender, f"{name} {figure}")
                if value is not None:
                    turned.add(PART, name, f"{contender} {figure}", value)
    columns: list[Column] = [
        plain(f"{short} {figure}", f"{contender} {figure}")
        for contender, short in (("daemon", "conntrackd-py"), ("kernel", "kernel"))
        for figure in FIGURES
    ]
    return {PART: table(turned, PART, OPERATIONS, columns, "meanwhile, µs")}
