"""Part memory: bytes a connection, the longest pause of each operation, and the cost of a packet by the table's size.

No root, no network: packets go through the engine in this process, in virtual time. Each kind of connection has a
process of its own. A pause is the CPU time of one call: other programs do not lengthen it.

    grow      one packet that makes a connection, both visits
    expire    one turn of the daemon's sweep, EXPIRE_A_TURN steps
    flush     FLUSH_A_TURN connections, as `conntrack -F` ends them
    address   the interface loses the address of all masqueraded connections: the call, then each turn of the sweep
    nothing   a call that does nothing, NOISE times: what the machine adds
"""

from __future__ import annotations

import gc
import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import NF_ACCEPT, POST_ROUTING, PRE_ROUTING
from conntrackd_py.engine.engine import Engine
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.match.match import Match
from conntrackd_py.nat.rules import NAT_MASQUERADE, NatRule
from conntrackd_py.reasons import END_FLUSHED
from conntrackd_py.service.daemon import EXPIRE_A_TURN, GC_THRESHOLDS
from conntrackd_py.wire import checksum
from tests.bench.results import Results, Table, plain, table

PART: Final = "memory"
KINDS: Final = {
    "udp": "UDP",
    "tcp": "TCP",
    "udp-no-nat": "UDP, no translation",
    "tcp-no-nat": "TCP, no translation",
    "udp-same-port": "UDP, another port outside",
    "tcp-same-port": "TCP, another port outside",
}
WHOLE: Final = ("udp", "tcp")  # kinds of which every pause is measured; the others only grow
NOISE: Final = 100_000
SIZES: Final = (1000, 10_000, 100_000)
SAMPLES: Final = 1000  # packets and connections of a measurement
LEAST_FOR_BYTES: Final = 10_000  # connections: fewer are lost among the pages of the allocator
COLUMNS: Final = [
    plain("bytes", "bytes"),
    *(plain(f"longest {name}, ms", f"{name} ms") for name in ("grow", "expire", "flush", "address", "nothing")),
    plain("over 1 ms", "over"),
]
SIZE_COLUMNS: Final = [
    *(plain(f"{kind.upper()}: known packet, µs", f"{kind} known us") for kind in ("udp", "tcp")),
    *(plain(f"{kind.upper()}: new connection, µs", f"{kind} new us") for kind in ("udp", "tcp")),
    *(plain(f"{kind.upper()}: bytes", f"{kind} bytes") for kind in ("udp", "tcp")),
]
ROOT: Final = Path(__file__).parents[2]
CHILD: Final = """
import json, sys
sys.path.append(sys.argv[1])
from tests.bench.memory import measure_kind
json.dump(measure_kind(sys.argv[2], int(sys.argv[3]), sys.argv[4] == "1"), sys.stdout)
"""
Rows = list[tuple[str, str, str, float]]  # part, row, column and value of Results
LAN, WAN = 1, 2
OUTSIDE = bytes((203, 0, 113, 1))
FLUSH_A_TURN = 64  # more than one turn of control.walk
DAY = 86_400_000  # ms
PORTS = 30_000  # of a server that are used
SYN, SYN_ACK, ACK = 0x02, 0x12, 0x10
UDP = struct.pack(">HH", 8 + 18, 0) + b"x" * 18


def header(pair: bytes, protonum: int, length: int) -> bytes:
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + length, 0, 0, 64, protonum, 0) + pair
    return head[:10] + struct.pack(">H", checksum.finish(checksum.total(head))) + head[12:]


def udp(pair: bytes, ports: bytes) -> bytes:
    return header(pair, 17, 26) + ports + UDP


def tcp(pair: bytes, ports: bytes, flags: int, seq: int, ack: int) -> bytes:
    return header(pair, 6, 20) + ports + struct.pack(">IIBBHHH", seq, ack, 0x50, flags, 65535, 0, 0)


def answered(packet: bytes) -> tuple[bytes, bytes]:
    """Addresses and ports of the answer to a packet."""
    return packet[16:20] + packet[12:16], packet[22:24] + packet[20:22]


class Traffic:
    """An engine with one masquerade rule, or none, and the packets of connection number i; same_port: all have one."""

    def __init__(self, kind: str, accounting: bool) -> None:
        self.tcp = kind.startswith("tcp")
        self.same_port = kind.endswith("same-port")
        tunables = Tunables(
            nf_conntrack_max=1 << 30,
            nf_conntrack_udp_timeout=DAY // 1000,
            nf_conntrack_checksum=False,
            nf_conntrack_acct=accounting,
        )
        rules = [NatRule(NAT_MASQUERADE, Match(out_interface=InterfaceNames(["wan"])), label="nat[0]")]
        self.engine = Engine(tunables, Repeatable(), nat_rules=[] if kind.endswith("no-nat") else rules)
        self.engine.set_interface(LAN, "lan", [bytes((10, 0, 0, 1))], 0)
        self.engine.set_interface(WAN, "wan", [OUTSIDE], 0)
        self.now = 1_000_000
        self.longest: dict[str, int] = {}  # ns, by operation
        self.over = 0  # pauses of more than 1 ms

    def address(self, i: int) -> tuple[bytes, bytes]:
        """Addresses and ports: as many servers as the ports need, and as many clients as connections."""
        pair = (0x0A000100 + i).to_bytes(4, "big") + (0xC6120000 + i // PORTS).to_bytes(4, "big")
        return pair, struct.pack(">HH", 5000 if self.same_port else 1024 + i % PORTS, 443)

    def known(self, count: int) -> float:
        """CPU time in us of a packet, both visits, of connections all over the table."""
        there = len(self.engine.core.table)
        numbers = [i * (there // count) for i in range(count)]
        packets = [tcp(*self.address(i), ACK, 100, 500) if self.tcp else udp(*self.address(i)) for i in numbers]
        invalid = self.engine.core.stats.invalid
        began = time.thread_time_ns()
        for packet in packets:
            self.visits(packet, LAN, WAN)
        took = time.thread_time_ns() - began
        assert self.engine.core.stats.invalid == invalid
        assert len(self.engine.core.table) == there, "a packet opened a connection"
        return took / count / 1000

    def timed(self, name: str, call: Callable[[], object]) -> None:
        began = time.thread_time_ns()
        call()
        self.took(name, time.thread_time_ns() - began)

    def took(self, name: str, nanoseconds: int) -> None:
        self.longest[name] = max(self.longest.get(name, 0), nanoseconds)
        self.over += nanoseconds > 1_000_000

    def visits(self, packet: bytes, indev: int, outdev: int) -> bytes:
        skb = Skb(packet, 0, indev, 0)
        assert self.engine.handle(skb, PRE_ROUTING, self.now) == NF_ACCEPT
        skb = Skb(skb.data, skb.mark, indev, outdev)
        assert self.engine.handle(skb, POST_ROUTING, self.now) == NF_ACCEPT
        return skb.data

    def first(self, i: int) -> bytes:
        return tcp(*self.address(i), SYN, 99, 0) if self.tcp else udp(*self.address(i))

    def answer(self, i: int, left: bytes) -> None:
        """Finish the handshake; left: the first packet as it left."""
        if self.tcp:
            self.visits(tcp(*answered(left), SYN_ACK, 499, 100), WAN, LAN)
            self.visits(tcp(*self.address(i), ACK, 100, 500), LAN, WAN)

    def open(self, i: int) -> None:
        first = self.first(i)
        began = time.thread_time_ns()
        left = self.visits(first, LAN, WAN)
        self.took("grow", time.thread_time_ns() - began)
        self.answer(i, left)

    def fresh(self, numbers: range) -> float:
        """CPU time in us of a connection's first packet, both visits."""
        packets = [self.first(i) for i in numbers]
        began = time.thread_time_ns()
        left = [self.visits(packet, LAN, WAN) for packet in packets]
        took = time.thread_time_ns() - began
        for i, packet in zip(numbers, left, strict=True):
            self.answer(i, packet)
        return took / len(numbers) / 1000

    def grow(self, count: int, first: int = 0) -> None:
        for i in range(first, first + count):
            self.open(i)
            if i % 128 == 0:  # 12,800 new connections a second
                self.now += 10
                self.sweep("expire")

    def sweep(self, name: str) -> None:
        self.timed(name, lambda: self.engine.expire(self.now, EXPIRE_A_TURN))

    def shrink(self, name: str) -> None:
        """Sweep until nothing is left, also no slot of an ended connection."""
        while len(self.engine.core.table) or self.engine.core.table.dying:
            self.now += 10
            self.sweep(name)

    def flush(self) -> None:
        table = self.engine.core.table
        for at in range(0, len(table.slots), FLUSH_A_TURN):
            some = [ct for ct in table.slots[at : at + FLUSH_A_TURN] if ct is not None]
            self.timed("flush", lambda: [self.engine.core.kill(ct, END_FLUSHED, self.now) for ct in some])  # noqa: B023
        self.shrink("flush")

    def lose_address(self) -> None:
        self.timed("address", lambda: self.engine.set_interface(WAN, "wan", [], self.now))
        self.shrink("address")
        self.engine.set_interface(WAN, "wan", [OUTSIDE], self.now)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure_kind(kind: str, count: int, accounting: bool) -> Rows:
    """Grow through SIZES to `count`, then end all connections in each way; a kind that is not WHOLE only grows."""
    Traffic(kind, accounting).grow(1000)
    traffic = Traffic(kind, accounting)
    gc.collect()
    gc.freeze()  # as the daemon
    gc.set_threshold(*GC_THRESHOLDS)
    found: Rows = []
    before, grown = resident(), 0
    for size in [*(size for size in SIZES if size < count), count]:
        traffic.grow(size - grown, grown)
        grown = size
        assert len(traffic.engine.core.table) == size, "a connection expired or was refused"
        found.append(("size", str(size), f"{kind} known us", traffic.known(min(size, SAMPLES))))
        if size >= LEAST_FOR_BYTES:
            found.append(("size", str(size), f"{kind} bytes", (resident() - before) / size))
        found.append(("size", str(size), f"{kind} new us", traffic.fresh(range(size, size + SAMPLES))))
        grown += SAMPLES
    found.append((PART, kind, "bytes", (resident() - before) / grown))
    for _ in range(NOISE):
        traffic.timed("nothing", lambda: None)
    if kind in WHOLE:
        traffic.flush()
        traffic.grow(count)
        traffic.lose_address()
        traffic.grow(count)
        traffic.now += 10 * DAY
        traffic.shrink("expire")
    found.append((PART, kind, "over", traffic.over))
    return [*found, *((PART, kind, f"{name} ms", longest / 1e6) for name, longest in traffic.longest.items())]


def in_a_process(kind: str, count: int, accounting: bool) -> Rows:
    """measure_kind in a process of its own: memory that was used before must not count."""
    words = [sys.executable, "-P", "-c", CHILD, str(ROOT), kind, str(count), str(int(accounting))]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"scripts/bench: the measurement of {kind} failed")
    return [(part, row, column, value) for part, row, column, value in json.loads(done.stdout)]


def measure(results: Results, count: int, accounting: bool) -> None:
    for kind in KINDS:
        for part, row, column, value in in_a_process(kind, count, accounting):
            results.add(part, row, column, value)
        print(f"{PART}: {kind}: {results.sure(PART, kind, 'bytes'):.0f} bytes a connection", flush=True)


def tables(results: Results) -> dict[str, Table]:
    sizes = {row: f"{int(row):,}" for row in sorted(results.rows("size"), key=int)}
    return {
        PART: table(results, PART, KINDS, COLUMNS, "connection"),
        "size": table(results, "size", sizes, SIZE_COLUMNS, "connections in the table"),
    }
