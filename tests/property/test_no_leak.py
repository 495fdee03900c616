"""Whatever crosses the router in whatever order: no inside address leaves by wan, and every book balances in the end.

Packets of six hosts, right and wrong, overtake each other between their visits; routes and marks change at random.
CONNTRACKD_PY_SOAK: packets for each mask and seed, 10,000 by default.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field

import pytest

from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb, direction_of
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IP_CT_UNTRACKED, LOCAL_IN, LOCAL_OUT, NF_ACCEPT, ORIGINAL, POST_ROUTING, PRE_ROUTING
from conntrackd_py.engine.engine import DEFAULT_MASK, Engine
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.match.match import Match
from conntrackd_py.match.numbers import Numbers
from conntrackd_py.nat.range import Range
from conntrackd_py.nat.rules import NAT_DNAT, NAT_MASQUERADE, NAT_REDIRECT, NatRule
from tests.support import packets
from tests.support.invariants import check
from tests.support.packets import address
from tests.support.play import CLIENT, INSIDE, LAN, NEIGHBOUR, OTHER, ROUTER, SERVER, WAN, Host
from tests.support.steering import entering, passes

PACKETS = int(os.environ.get("CONNTRACKD_PY_SOAK", "10000"))
MOST_UNDER_WAY = 12
NEW_LINK = 9  # an interface that nothing is known of
HOSTS = (CLIENT, NEIGHBOUR, SERVER, OTHER, ROUTER, INSIDE)
PORTS = (53, 54, 5000, 5001, 5002, 5353)
FLAGS = ("S", "SA", "A", "PA", "FA", "R", "RA")
OWN_MARKS = (0, 0x1A00, 0xD00)


def forward(protonum: int) -> NatRule:
    to = address(CLIENT.v4)
    return NatRule(
        NAT_DNAT,
        Match(in_interface=InterfaceNames(["wan"]), proto=Numbers([protonum, protonum]), dport=Numbers([5000, 5002])),
        Range(to, to, 5000, 5000),
    )


def router(mask: int) -> Engine:
    rules = [
        NatRule(NAT_MASQUERADE, Match(out_interface=InterfaceNames(["wan"]))),
        forward(6),
        forward(17),
        NatRule(
            NAT_REDIRECT,
            Match(in_interface=InterfaceNames(["lan"]), proto=Numbers([17, 17]), dport=Numbers([53, 54])),
            Range(port_low=5353, port_high=5353),
        ),
    ]
    tunables = Tunables(nf_conntrack_max=400, nf_conntrack_acct=True)
    engine = Engine(tunables, Repeatable(3), nat_rules=rules, mark_mask=mask)
    for link, name, host in ((LAN, "lan", INSIDE), (WAN, "wan", ROUTER)):
        engine.set_interface(link, name, [address(host.v4), address(host.v6)], 0)
    return engine


@dataclass
class Traffic:
    dice: random.Random
    engine: Engine
    now: int = 0
    said: list[bytes] = field(default_factory=list)
    under_way: list[Skb] = field(default_factory=list)
    passed: int = 0  # without a second visit

    def packet(self, ends: tuple[str, str]) -> bytes:
        dice, roll = self.dice, self.dice.random()
        if roll < 0.35:
            return packets.udp(*ends, dice.choice(PORTS), dice.choice(PORTS), bytes(dice.randrange(5)))
        if roll < 0.65:
            seq, ack = dice.choice((1, 2, 3, 100)), dice.choice((0, 2, 3))
            return packets.tcp(*ends, dice.choice(PORTS), dice.choice(PORTS), dice.choice(FLAGS), seq=seq, ack=ack)
        if roll < 0.75:
            return packets.icmp(*ends, dice.choice((8, 0, 128, 129, 135, 136, 143)), 0, dice.randrange(3), 1)
        if roll < 0.9 and self.said:
            quoted = dice.choice(self.said)[: dice.choice((28, 48, 200))]
            return packets.icmp(*ends, dice.choice((3, 11, 5, 1, 2)), 0, 0, 0, quoted)
        return packets.ip(*ends, dice.choice((50, 132, 47, 2, 99)), dice.randbytes(dice.randrange(40)))

    def damaged(self, packet: bytes) -> bytes:
        dice = self.dice
        if dice.random() < 0.08:
            at = dice.randrange(len(packet))
            packet = packet[:at] + bytes((packet[at] ^ 1 << dice.randrange(8),)) + packet[at + 1 :]
        return packet[: dice.randrange(len(packet) + 1)] if dice.random() < 0.03 else packet

    def arrive(self) -> None:
        sender, receiver = self.dice.sample(HOSTS, 2)
        ends = (sender.v4, receiver.v4) if self.dice.random() < 0.5 else (sender.v6, receiver.v6)
        data = self.damaged(self.packet(ends))
        self.said = [*self.said[-30:], data]
        own = sender in (ROUTER, INSIDE)
        mark = entering(self.engine, self.dice.choice(OWN_MARKS)) if own else 0
        skb = Skb(data, mark, 0 if own else sender.link, self.dice.choice((LAN, WAN)) if own else 0)
        if self.engine.handle(skb, LOCAL_OUT if own else PRE_ROUTING, self.now) == NF_ACCEPT:
            self.under_way.append(skb)

    def leave(self) -> None:
        first = self.under_way.pop(self.dice.randrange(len(self.under_way)))
        receiver = destination(first.data)
        local = receiver in (ROUTER, INSIDE)
        outdev = 0 if local else self.route(receiver)
        skb = Skb(first.data, first.mark, first.indev, outdev)
        hook = LOCAL_IN if local and first.indev else POST_ROUTING
        if passes(self.engine, skb.mark, hook, outdev):
            self.passed += 1
            return
        verdict = self.engine.handle(skb, hook, self.now)
        if verdict == NF_ACCEPT and outdev == WAN and first.indev == LAN:
            assert not leaks(skb), f"{skb.data.hex()} ctinfo {skb.ctinfo} {skb.ct and skb.ct.original.hex()}"

    def route(self, receiver: Host | None) -> int:
        if self.dice.random() < 0.05:
            return self.dice.choice((LAN, WAN, NEW_LINK))
        return LAN if receiver in (CLIENT, NEIGHBOUR) else WAN


def destination(data: bytes) -> Host | None:
    to = data[16:20] if data[:1] and data[0] >> 4 == 4 else data[24:40]
    return next((host for host in HOSTS if to in (address(host.v4), address(host.v6))), None)


def leaks(skb: Skb) -> bool:
    """An inside source, and not the answer to a connection from outside straight to that address."""
    source = skb.data[12:16] if skb.data[:1] and skb.data[0] >> 4 == 4 else skb.data[8:24]
    inside = source in [address(one) for host in (CLIENT, NEIGHBOUR) for one in (host.v4, host.v6)]
    answer = skb.ct is not None and direction_of(skb.ctinfo) != ORIGINAL
    return inside and not answer and skb.ctinfo != IP_CT_UNTRACKED


@pytest.mark.parametrize("mask", [DEFAULT_MASK, 0xFF, 0], ids=["mark", "narrow mark", "no mark"])
@pytest.mark.parametrize("seed", [1, 3])
def test_nothing_leaks_and_every_book_balances(seed: int, mask: int) -> None:
    engine = router(mask)
    traffic = Traffic(random.Random(seed), engine)
    for number in range(PACKETS):
        traffic.now += traffic.dice.randrange(30)
        traffic.arrive()
        while len(traffic.under_way) > traffic.dice.randrange(1, MOST_UNDER_WAY):
            traffic.leave()
        if number % 200 == 0:
            engine.expire(traffic.now, 10_000)
        if number % 5000 == 0:
            check(engine)
    assert (traffic.passed > PACKETS // 100) == bool(mask), traffic.passed
    assert engine.core.stats.clash_resolve, "packets of both ends are under way at once"
    for late in (10**9, 10**9 + 10**5):
        engine.expire(traffic.now + late, 10**7)
    check(engine)
    table = engine.core.table
    assert [len(left) for left in (table, table.pending, table.routed, table.dying, engine.mark_codec.by_tuple)] == [
        0
    ] * 5
