"""A mark too narrow for the slots changes nothing: verdicts and bytes are those with a mark that holds every slot.

One case is left out: a connection ends while its packets wait, and another with the same tuple begins meanwhile.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import NF_ACCEPT, POST_ROUTING, PRE_ROUTING
from conntrackd_py.engine.engine import DEFAULT_MASK, Engine
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.match.match import Match
from conntrackd_py.match.numbers import Numbers
from conntrackd_py.nat.range import Range
from conntrackd_py.nat.rules import NAT_DNAT, NAT_MASQUERADE, NatRule
from tests.support import packets
from tests.support.examples import examples
from tests.support.play import CLIENT, LAN, NEIGHBOUR, ROUTER, SERVER, WAN

NARROWEST = 0x3F00  # one bit of slot: no slot but the first
CLIENTS = 6
IN, BACK, OUT, DELETE, LATER = range(5)
STEPS = st.lists(st.tuples(st.integers(IN, LATER), st.integers(0, CLIENTS - 1)), min_size=10, max_size=60)


class Line:
    """An engine, the packets between its visits, and what it did with each."""

    def __init__(self, mask: int) -> None:
        inside = packets.address(SERVER.v4)
        rules = [
            NatRule(NAT_DNAT, Match(dport=Numbers([80, 80])), Range(inside, inside)),
            NatRule(NAT_MASQUERADE, Match(out_interface=InterfaceNames(["wan"]))),
        ]
        self.engine = Engine(Tunables(), Repeatable(1), mark_mask=mask, nat_rules=rules)
        self.engine.set_interface(LAN, "lan", [], 0)
        self.engine.set_interface(WAN, "wan", [packets.address(ROUTER.v4)], 0)
        self.now = 0
        self.waiting: list[tuple[Skb, int]] = []
        self.answers: dict[int, bytes] = {}  # to the last packet of each client that left
        self.log: list[tuple[int, bytes]] = []
        self.ended = False  # a connection, perhaps of a waiting packet

    def arrive(self, data: bytes, indev: int, client: int) -> None:
        skb = Skb(data, 0, indev, 0)
        verdict = self.engine.handle(skb, PRE_ROUTING, self.now)
        self.log.append((verdict, skb.data))
        if verdict == NF_ACCEPT:
            self.waiting.append((skb, client))

    def step(self, kind: int, client: int) -> None:
        self.ended = (self.ended or kind in (DELETE, LATER)) and len(self.waiting) > 0
        if self.ended and kind in (IN, BACK):
            kind = OUT
        if kind == IN:
            to, port = (NEIGHBOUR.v4, 80) if client % 2 else (SERVER.v4, 53)
            self.arrive(packets.udp(CLIENT.v4, to, 1000 + client, port), LAN, client)
        elif kind == BACK and client in self.answers:
            self.arrive(self.answers[client], WAN, client)
        elif kind == OUT and self.waiting:
            self.leave(*self.waiting.pop(client % len(self.waiting)))
        elif kind == DELETE:
            self.engine.delete(client, self.now)
        elif kind == LATER:
            self.now += 900
            self.engine.expire(self.now, 100)

    def leave(self, came: Skb, client: int) -> None:
        outdev = WAN if came.indev == LAN else LAN
        skb = Skb(came.data, came.mark, came.indev, outdev)
        verdict = self.engine.handle(skb, POST_ROUTING, self.now)
        self.log.append((verdict, skb.data))
        if verdict == NF_ACCEPT and outdev == WAN:
            source, target, ports = skb.data[12:16], skb.data[16:20], skb.data[20:24]
            to, back = (".".join(map(str, address)) for address in (source, target))
            sport, dport = int.from_bytes(ports[:2], "big"), int.from_bytes(ports[2:], "big")
            self.answers[client] = packets.udp(back, to, dport, sport)


@settings(max_examples=examples(300), deadline=None)
@given(STEPS)
def test_a_narrow_mark_changes_nothing(steps: list[tuple[int, int]]) -> None:
    wide, narrow = Line(DEFAULT_MASK), Line(NARROWEST)
    for kind, client in steps:
        wide.step(kind, client)
        narrow.step(kind, client)
        assert narrow.log == wide.log
    codec = narrow.engine.mark_codec
    assert sorted(t for known in codec.tuples_of.values() for t in known) == sorted(codec.by_tuple)
    assert all(codec.tuples_of.values())
