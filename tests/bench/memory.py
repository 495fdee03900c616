"""scripts/bench memory: bytes per connection, the longest pause of each operation, and the time of a visit.

No root, no network: packets go through the engine in this process, in virtual time. Each kind of connection has a
process of its own. A pause is the CPU time of one call: other programs do not lengthen it.

    grow      one packet that makes a connection, both visits
    expire    one turn of the daemon's sweep, EXPIRE_A_TURN steps
    flush     FLUSH_A_TURN connections, as `conntrack -F` ends them
    address   the interface loses the address of all masqueraded connections: the call, then each turn of the sweep
"""

from __future__ import annotations

import argparse
import gc
import os
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

from conntrackd_py import compiled
from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IP_CT_ESTABLISHED, NF_ACCEPT, POST_ROUTING, PRE_ROUTING
from conntrackd_py.engine.engine import Engine
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.match.match import Match
from conntrackd_py.nat.rules import NAT_MASQUERADE, NatRule
from conntrackd_py.reasons import END_FLUSHED
from conntrackd_py.service.daemon import EXPIRE_A_TURN, GC_THRESHOLDS
from conntrackd_py.wire import checksum

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
    """An engine with one masquerade rule, and the packets of connection number i; same_port: all have one port."""

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
        self.engine = Engine(tunables, Repeatable(), nat_rules=rules)
        self.engine.set_interface(LAN, "lan", [bytes((10, 0, 0, 1))], 0)
        self.engine.set_interface(WAN, "wan", [OUTSIDE], 0)
        self.now = 1_000_000
        self.longest: dict[str, int] = {}  # ns, by operation

    def address(self, i: int) -> tuple[bytes, bytes]:
        """Addresses and ports: as many servers as the ports need, and as many clients as connections."""
        pair = (0x0A000100 + i).to_bytes(4, "big") + (0xC6120000 + i // PORTS).to_bytes(4, "big")
        return pair, struct.pack(">HH", 5000 if self.same_port else 1024 + i % PORTS, 443)

    def timed(self, name: str, call: Callable[[], object]) -> None:
        began = time.thread_time_ns()
        call()
        self.longest[name] = max(self.longest.get(name, 0), time.thread_time_ns() - began)

    def visits(self, packet: bytes, indev: int, outdev: int) -> bytes:
        skb = Skb(packet, 0, indev, 0)
        assert self.engine.handle(skb, PRE_ROUTING, self.now) == NF_ACCEPT
        skb = Skb(skb.data, skb.mark, indev, outdev)
        assert self.engine.handle(skb, POST_ROUTING, self.now) == NF_ACCEPT
        return skb.data

    def open(self, i: int) -> None:
        pair, ports = self.address(i)
        if not self.tcp:
            first = udp(pair, ports)
            self.timed("grow", lambda: self.visits(first, LAN, WAN))
            return
        first, left = tcp(pair, ports, SYN, 99, 0), b""

        def begin() -> None:
            nonlocal left
            left = self.visits(first, LAN, WAN)

        self.timed("grow", begin)
        self.visits(tcp(*answered(left), SYN_ACK, 499, 100), WAN, LAN)
        self.visits(tcp(pair, ports, ACK, 100, 500), LAN, WAN)

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


def measure(kind: str, count: int, accounting: bool) -> None:
    """Measure one kind and print a line."""
    Traffic(kind, accounting).grow(1000)
    traffic = Traffic(kind, accounting)
    gc.collect()
    gc.freeze()  # as the daemon
    gc.set_threshold(*GC_THRESHOLDS)
    before = resident()
    traffic.grow(count)
    each = (resident() - before) / count
    assert len(traffic.engine.core.table) == count, "a connection expired or was refused"
    traffic.flush()
    traffic.grow(count)
    traffic.lose_address()
    traffic.grow(count)
    traffic.now += 10 * DAY
    traffic.shrink("expire")
    worst = ", ".join(f"{name} {longest / 1e6:.1f}" for name, longest in traffic.longest.items())
    print(f"{kind:14}{each:5.0f} bytes each, longest pauses in ms: {worst}", flush=True)


def speed(rounds: int) -> None:
    """Print the CPU time of a packet, both visits, at its best of several rounds."""

    def best(work: Callable[[], object], count: int) -> float:
        times = []
        for _ in range(rounds):
            began = time.thread_time_ns()
            work()
            times.append(time.thread_time_ns() - began)
        return min(times) / count / 1000

    few = range(500)
    known = Traffic("udp", False)
    packets = [udp(*known.address(i)) for i in few] * 40
    known_udp = best(lambda: [known.visits(packet, LAN, WAN) for packet in packets], len(packets))
    streams = Traffic("tcp", False)
    streams.grow(len(few))
    segments = [tcp(*streams.address(i), ACK, 100, 500) for i in few] * 40
    known_tcp = best(lambda: [streams.visits(packet, LAN, WAN) for packet in segments], len(segments))
    assert streams.engine.core.stats.invalid == 0
    skb = Skb(segments[0], 0, LAN, 0)
    streams.engine.handle(skb, PRE_ROUTING, streams.now)
    assert skb.ctinfo == IP_CT_ESTABLISHED
    fresh: dict[str, float] = {}
    for kind, make in (("udp", udp), ("tcp", lambda pair, ports: tcp(pair, ports, SYN, 99, 0))):
        for suffix in ("", "-same-port"):
            name = kind + suffix
            times = []
            for _ in range(rounds):
                traffic = Traffic(name, False)
                first = [make(*traffic.address(i)) for i in range(20_000)]
                began = time.thread_time_ns()
                for packet in first:
                    traffic.visits(packet, LAN, WAN)
                times.append((time.thread_time_ns() - began) / len(first) / 1000)
            fresh[name] = min(times)
    print(f"known udp {known_udp:.2f} us, known tcp {known_tcp:.2f} us, both visits")
    print("new " + ", ".join(f"{name} {took:.2f} us" for name, took in fresh.items()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench memory", description=__doc__.split("\n\n")[0])
    parser.add_argument("--count", type=int, default=1_000_000, help="connections (a million)")
    parser.add_argument("--kinds", default="udp,tcp,udp-same-port,tcp-same-port", help="kinds of connections")
    parser.add_argument("--accounting", action="store_true", help="with nf_conntrack_acct")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of the measurement of speed (7); 0: none")
    args = parser.parse_args()
    print(f"conntrackd-py is {'compiled' if compiled else 'pure'}; {args.count} connections, source NAT", flush=True)
    for kind in args.kinds.split(",") if args.kinds else ():
        pid = os.fork()
        if pid == 0:
            measure(kind, args.count, args.accounting)
            os._exit(0)
        if os.waitpid(pid, 0)[1]:
            sys.exit(1)
    if args.rounds:
        speed(args.rounds)


if __name__ == "__main__":
    main()
