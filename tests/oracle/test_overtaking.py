"""Both ends send at once, and packets overtake each other between tracking and confirmation: the final tables agree.

Packets are held in the kernel's queue and in ours, and sent on in the same random order. What happens meanwhile may
differ: the kernel merges connections at confirm or drops the second packet, we let it join. Then each end sends once
more, one packet at a time, and after that both must have the same connections in the same states.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import IPS_CONFIRMED, IPS_DYING, IPS_NAT_DONE_MASK, NF_ACCEPT, POST_ROUTING, PRE_ROUTING
from conntrackd_py.wire import sctp as wire
from tests.oracle.kernel import CLIENT_SIDE, SERVER_SIDE, Held, kernel
from tests.oracle.shrink import COMPARED, Tally
from tests.oracle.twin import CONVERSATIONS, LINKS, SEED, Twin
from tests.support import packets
from tests.support.play import bits

MOST_HELD = 6
Maker = Callable[["Meeting", str], bytes]


@dataclass
class Meeting:
    """Two hosts that send to each other; where a protocol has ports, mostly the same on both sides."""

    dice: random.Random
    number: int
    family: int
    twin: Twin
    held: list[tuple[str, Held, Skb]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        high, low = self.number >> 8 & 255, self.number & 255
        inside = f"192.168.{high}.{low}" if self.family == 4 else f"fd00:1::{self.number & 0xFFFF:x}"
        self.address = {CLIENT_SIDE: inside, SERVER_SIDE: "198.51.100.2" if self.family == 4 else "2001:db8:2::2"}
        port = self.dice.randrange(1, 65536)
        other = port if self.dice.random() < 0.7 else self.dice.randrange(1, 65536)
        self.port = {CLIENT_SIDE: port, SERVER_SIDE: other}
        self.isn = {side: self.dice.randrange(1 << 32) for side in LINKS}

    def arrive(self, side: str, packet: bytes) -> None:
        now = time.monotonic_ns() // 1_000_000
        skb = Skb(packet, 0, LINKS[side], 0)
        verdict = self.twin.engine.handle(skb, PRE_ROUTING, now)
        theirs = self.twin.kernel.arrive(packet, side)
        self.told.append(f"arrives: {side} {packet.hex()}")
        assert (theirs is not None) == (verdict == NF_ACCEPT), self.transcript()
        if theirs is not None:
            self.twin.packets += 1
            self.held.append((side, theirs, skb))

    def leave(self, place: int) -> None:
        side, theirs, first = self.held.pop(place)
        self.told.append(f"leaves: {side} {first.data.hex()}")
        out = SERVER_SIDE if side == CLIENT_SIDE else CLIENT_SIDE
        self.twin.kernel.leave(theirs)
        skb = Skb(first.data, first.mark, LINKS[side], LINKS[out])
        now = time.monotonic_ns() // 1_000_000
        assert self.twin.engine.handle(skb, POST_ROUTING, now) == NF_ACCEPT, self.transcript()
        assert skb.data == first.data, self.transcript()

    def mingle(self, make: Maker, count: int) -> None:
        """count packets arrive from either side, and leave in any order."""
        while count or self.held:
            if count and len(self.held) < MOST_HELD and self.dice.random() < 0.6:
                side = self.dice.choice((CLIENT_SIDE, SERVER_SIDE))
                self.arrive(side, make(self, side))
                count -= 1
            elif self.held:
                self.leave(self.dice.randrange(len(self.held)))

    def one_by_one(self, make: Maker, *sides: str) -> None:
        for side in sides:
            self.arrive(side, make(self, side))
            self.leave(-1)

    def transcript(self) -> str:
        return "\n".join([f"conversation {SEED}/{self.number}:", *self.told])

    def ends(self, side: str) -> tuple[str, str]:
        other = SERVER_SIDE if side == CLIENT_SIDE else CLIENT_SIDE
        return self.address[side], self.address[other]

    def ports(self, side: str) -> tuple[int, int]:
        return self.port[side], self.port[SERVER_SIDE if side == CLIENT_SIDE else CLIENT_SIDE]

    def compare(self) -> None:
        ours = {
            (ct.original.hex(), ct.reply.hex(), ct.state, bits(ct.status & ~IPS_NAT_DONE_MASK))
            for ct in self.twin.engine.core.table.slots
            if ct is not None and ct.status & IPS_CONFIRMED and not ct.status & IPS_DYING
        }
        theirs = {
            (entry.original.hex(), entry.reply.hex(), entry.state, bits(entry.status & ~IPS_NAT_DONE_MASK))
            for entry in self.twin.kernel.ctnetlink.dump()
        }
        if ours != theirs:
            only = [f"only ours   {one}" for one in ours - theirs] + [f"only kernel {one}" for one in theirs - ours]
            pytest.fail("\n".join([self.transcript(), *only]), pytrace=False)


def udp(meeting: Meeting, side: str) -> bytes:
    return packets.udp(*meeting.ends(side), *meeting.ports(side), b"first")


def unknown(meeting: Meeting, side: str) -> bytes:
    return packets.ip(*meeting.ends(side), 50, bytes(20))


def echo(meeting: Meeting, side: str) -> bytes:
    return packets.icmp(*meeting.ends(side), 8 if meeting.family == 4 else 128, 0, meeting.port[CLIENT_SIDE], 1)


def syn(meeting: Meeting, side: str) -> bytes:
    return packets.tcp(*meeting.ends(side), *meeting.ports(side), "S", seq=meeting.isn[side])


def answer(meeting: Meeting, side: str) -> bytes:
    other = SERVER_SIDE if side == CLIENT_SIDE else CLIENT_SIDE
    seq, ack = meeting.isn[side], meeting.isn[other] + 1 & 0xFFFFFFFF
    return packets.tcp(*meeting.ends(side), *meeting.ports(side), "SA", seq=seq, ack=ack)


def last(meeting: Meeting, side: str) -> bytes:
    other = SERVER_SIDE if side == CLIENT_SIDE else CLIENT_SIDE
    seq, ack = (meeting.isn[end] + 1 & 0xFFFFFFFF for end in (side, other))
    return packets.tcp(*meeting.ends(side), *meeting.ports(side), "A", seq=seq, ack=ack)


def init(meeting: Meeting, side: str) -> bytes:
    tag = (meeting.isn[side] | 1).to_bytes(4, "big")
    return packets.sctp(*meeting.ends(side), *meeting.ports(side), 0, (wire.INIT, tag + bytes(12)))


BOTH = (CLIENT_SIDE, SERVER_SIDE)
KINDS: dict[str, tuple[Maker, tuple[Maker, ...]]] = {
    "udp": (udp, (udp, udp)),
    "unknown": (unknown, (unknown, unknown)),
    "echo": (echo, (echo,)),
    "tcp": (syn, (syn, answer, last)),
    "sctp": (init, (init,)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("nat", [False, True], ids=["track", "nat"])
@pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"])
def test_the_final_tables_agree(family: int, nat: bool, kind: str) -> None:
    first, settling = KINDS[kind]
    tally = COMPARED.setdefault(f"at once: {kind} v{family}", Tally())
    with kernel(nat) as oracle:
        twin = Twin(oracle, mode="nat" if nat else "track")
        for number in range(max(CONVERSATIONS // 10, 10)):
            meeting = Meeting(random.Random(f"{SEED}/{number}"), number, family, twin)
            meeting.mingle(first, meeting.dice.randrange(2, 9))
            for make in settling:
                meeting.one_by_one(make, *BOTH)
            meeting.compare()
            tally.conversations += 1
            twin.forget()
        tally.packets += twin.packets
