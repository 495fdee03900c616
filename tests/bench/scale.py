"""Tables of docs/scale.md: what cores and machines carry, computed from what one run measured."""

from __future__ import annotations

from typing import Final

from tests.bench import connections, memory, throughput
from tests.bench.results import Results, Table, number

WORKERS: Final = {"one worker": 1, "4 workers, each": 4, "16 workers, each": 16}
MACHINES: Final = (10, 20)
RACK_CORES: Final = 16  # workers of each machine of a rack
GIGABYTE: Final = 1 << 30


def costs(results: Results) -> list[tuple[str, float, str, str]]:
    """(what, value, unit, part of docs/speed.md that measured it)"""
    largest = max(results.rows("size"), key=int)
    return [
        (
            "a small UDP packet through the router",
            results.sure(throughput.PART, "daemon", "udp us"),
            "µs",
            "throughput",
        ),
        (
            "a TCP connection, from SYN to FIN",
            results.sure(connections.PART, "daemon", "tcp us"),
            "µs",
            "new-connections",
        ),
        ("a new UDP flow", results.sure(connections.PART, "daemon", "udp us"), "µs", "new-connections"),
        ("memory of a UDP connection", results.sure(memory.PART, "udp", "bytes"), "bytes", "memory"),
        ("memory of a TCP connection", results.sure(memory.PART, "tcp", "bytes"), "bytes", "memory"),
        (
            f"the engine's part of a known UDP packet, {int(largest):,} connections",
            results.sure("size", largest, "udp known us"),
            "µs",
            "table-size",
        ),
    ]


def carried(results: Results, workers: int) -> list[str]:
    """UDP packets, TCP connections and UDP flows a second."""
    found = []
    for part, column in ((throughput.PART, "udp us"), (connections.PART, "tcp us"), (connections.PART, "udp us")):
        found.append(number(workers * 1e6 / results.sure(part, "daemon", column), 2))
    return found


def tables(results: Results) -> dict[str, Table]:
    head = ["", "small UDP packets a second", "TCP connections a second", "UDP flows a second"]
    measured = [
        number(results.sure(throughput.PART, "daemon", "udp kpps") * 1000, 2),
        number(results.sure(connections.PART, "daemon", "tcp"), 2),
        number(results.sure(connections.PART, "daemon", "udp"), 2),
    ]
    rows = [["measured: one worker beside sender and receiver", *measured]]
    rows += [
        [f"computed: {cores} with a core of its own", *carried(results, count)] for cores, count in WORKERS.items()
    ]
    rows += [
        [f"computed: {machines} machines of {RACK_CORES} workers", *carried(results, machines * RACK_CORES)]
        for machines in MACHINES
    ]
    room = [["memory", "UDP connections", "TCP connections"]]
    for size in (1, 4, 16):
        each = [number(size * GIGABYTE / results.sure(memory.PART, kind, "bytes"), 2) for kind in ("udp", "tcp")]
        room.append([f"{size} GB", *each])
    listed = [["cost", "measured", "in"]]
    for what, value, unit, place in costs(results):
        listed.append([what, f"{number(value)} {unit}", f"[speed.md](speed.md#{place})"])
    return {"costs": listed, "carried": [head, *rows], "room": room}
