"""What the kernel tells of its NAT, before and after the first packet was seen."""

from __future__ import annotations

import pytest

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPPROTO_TCP, IPPROTO_UDP, IPS_DST_NAT, IPS_SRC_NAT, LOCAL_OUT, PRE_ROUTING
from conntrackd_py.engine import translations
from conntrackd_py.engine.engine import Engine
from conntrackd_py.reasons import END_REOPENED
from tests.support import packets
from tests.support.invariants import check

NAMES = {4: ("10.0.0.1", "192.0.2.9", "192.0.2.1"), 6: ("fd00::1", "2001:db8::9", "2001:db8::1")}


class Observer:
    """A client behind the kernel's NAT, a server and the router's outer address."""

    def __init__(self, family: int) -> None:
        self.client, self.server, self.router = NAMES[family]
        self.now = 1_000_000
        self.engine = Engine(Tunables(nf_conntrack_acct=True), Repeatable(), mode="observe")
        self.engine.core.events.enabled = True
        self.original = self.tuple(self.client, self.server, 40000, 53)
        self.reply = self.tuple(self.server, self.router, 53, 1024)

    def tuple(self, src: str, dst: str, sport: int, dport: int, protonum: int = IPPROTO_UDP) -> bytes:
        pair = packets.address(src) + packets.address(dst)
        return tuples.make(pair, sport.to_bytes(2, "big") + dport.to_bytes(2, "big"), protonum)

    def see(self, src: str, dst: str, sport: int, dport: int, hook: int = PRE_ROUTING) -> NfConn:
        skb = Skb(packets.udp(src, dst, sport, dport, b"text"), indev=1)
        self.engine.handle(skb, hook, self.now)
        check(self.engine)
        assert skb.ct is not None
        return skb.ct

    def query(self) -> NfConn:
        return self.see(self.client, self.server, 40000, 53)

    def answer(self) -> NfConn:
        return self.see(self.server, self.router, 53, 1024)

    def told(self, reply: bytes | None = None, status: int = IPS_SRC_NAT) -> None:
        self.engine.translations.learn(self.original, reply or self.reply, status, self.now)
        check(self.engine)

    def events(self) -> list[str]:
        return [event.kind for event in self.engine.drain_events()]


@pytest.fixture(params=[4, 6], ids=["v4", "v6"])
def seen(request: pytest.FixtureRequest) -> Observer:
    return Observer(request.param)


def test_told_before_the_first_packet(seen: Observer) -> None:
    seen.told()
    ct = seen.query()
    assert (ct.original, ct.reply, ct.status & IPS_SRC_NAT) == (seen.original, seen.reply, IPS_SRC_NAT)
    assert seen.answer() is ct
    assert seen.events() == ["NEW", "UPDATE"]
    assert not seen.engine.translations.waiting


def test_told_after_the_first_packet(seen: Observer) -> None:
    ct = seen.query()
    seen.told()
    assert ct.reply == seen.reply
    assert seen.answer() is ct
    assert seen.events() == ["NEW", "UPDATE", "UPDATE"]
    assert not seen.engine.translations.waiting, "nothing waits for a connection that it was about"


def test_both_ends_translated(seen: Observer) -> None:
    ct = seen.query()
    reply = seen.tuple("10.0.0.7" if "." in seen.client else "fd00::7", seen.router, 5353, 1024)
    seen.told(reply, IPS_SRC_NAT | IPS_DST_NAT)
    assert (ct.reply, len(seen.engine.core.table.routed)) == (reply, 2)
    seen.engine.delete(ct.slot, seen.now)
    check(seen.engine)
    assert not seen.engine.core.table.routed


def test_told_after_the_answer(seen: Observer) -> None:
    """After a loss. The answer has begun a connection of its own, which the kernel does not have."""
    ct, wrong = seen.query(), seen.answer()
    assert wrong is not ct
    seen.told()
    assert (wrong.dying, wrong.end_reason) == (True, END_REOPENED)
    assert seen.answer() is ct


def test_a_reply_tuple_that_another_connection_has(seen: Observer) -> None:
    """The router's own query from the port that the kernel gave to the client: the kernel will choose another one."""
    seen.told()
    ct = seen.query()
    own = seen.see(seen.router, seen.server, 1024, 53, LOCAL_OUT)
    assert (own.original, own.reply, own.confirmed) == (own.original, own.original, True)
    assert seen.answer() is ct
    other = seen.tuple(seen.server, seen.router, 53, 2048)
    seen.engine.translations.learn(own.original, other, IPS_SRC_NAT, seen.now)
    assert seen.see(seen.server, seen.router, 53, 2048) is own
    assert seen.answer() is ct


def test_a_reply_tuple_that_turns_out_to_be_of_another_connection(seen: Observer) -> None:
    """The same, but the router's query is seen first and its event comes last."""
    ct = seen.query()
    own = seen.see(seen.router, seen.server, 1024, 53, LOCAL_OUT)
    seen.told()
    assert (ct.reply, own.reply, own.dying) == (seen.reply, own.original, False)
    assert seen.answer() is ct
    other = seen.tuple(seen.server, seen.router, 53, 2048)
    seen.engine.translations.learn(own.original, other, IPS_SRC_NAT, seen.now)
    assert seen.see(seen.server, seen.router, 53, 2048) is own


def test_the_owner_of_a_reply_tuple_that_the_kernel_has_given_away(seen: Observer) -> None:
    seen.told()
    old = seen.query()
    newer = seen.see(seen.client, seen.server, 40001, 53)
    seen.engine.translations.learn(newer.original, seen.reply, IPS_SRC_NAT, seen.now)
    assert (old.dying, newer.reply) == (True, seen.reply)


def test_told_again_of_a_connection_that_is_about_to_be_replaced(seen: Observer) -> None:
    seen.told()
    ct = seen.query()
    other = seen.tuple(seen.server, seen.router, 53, 2048)
    seen.told(other)
    assert ct.reply == other
    seen.engine.delete(ct.slot, seen.now)
    assert seen.query().reply == other, "the translation waited for it"


def test_a_port_that_is_used_again_at_once(seen: Observer) -> None:
    """TCP: the event of the second connection comes before its SYN, while the first one is in CLOSE."""
    open_ = packets.tcp(seen.client, seen.server, 40000, 53, "S", seq=1)
    original = seen.tuple(seen.client, seen.server, 40000, 53, IPPROTO_TCP)
    reply = seen.tuple(seen.server, seen.router, 53, 1024, IPPROTO_TCP)

    def send(packet: bytes) -> NfConn:
        skb = Skb(packet, indev=1)
        seen.engine.handle(skb, PRE_ROUTING, seen.now)
        assert skb.ct is not None
        return skb.ct

    seen.engine.translations.learn(original, reply, IPS_SRC_NAT, seen.now)
    first = send(open_)
    send(packets.tcp(seen.server, seen.router, 53, 1024, "SA", seq=7, ack=2))
    send(packets.tcp(seen.client, seen.server, 40000, 53, "A", seq=2, ack=8))
    send(packets.tcp(seen.client, seen.server, 40000, 53, "R", seq=2))
    seen.engine.translations.learn(original, reply, IPS_SRC_NAT, seen.now)
    second = send(packets.tcp(seen.client, seen.server, 40000, 53, "S", seq=90_000))
    assert second is not first
    assert (second.reply, second.status & IPS_SRC_NAT) == (reply, IPS_SRC_NAT)


def test_a_dump_is_about_the_connections_there_are(seen: Observer) -> None:
    """It does not announce another connection with the tuple of one that is known."""
    seen.told()
    seen.query()
    seen.engine.translations.learn(seen.original, seen.reply, IPS_SRC_NAT, seen.now, new=False)
    assert not seen.engine.translations.waiting


def test_a_connection_that_is_not_translated_is_not_kept(seen: Observer) -> None:
    seen.told(status=0)
    assert (seen.engine.translations.learned, len(seen.engine.translations.waiting)) == (0, 0)


def test_another_zone_is_another_connection(seen: Observer) -> None:
    seen.engine.translations.learn(
        tuples.with_zone(seen.original, 5), tuples.with_zone(seen.reply, 5), IPS_SRC_NAT, seen.now
    )
    assert seen.query().reply != seen.reply


def test_a_reply_tuple_is_not_an_original_one(seen: Observer) -> None:
    ct = seen.query()
    before = ct.reply
    seen.engine.translations.learn(before, seen.reply, IPS_SRC_NAT, seen.now)
    assert ct.reply == before


def test_those_that_wait_are_limited(seen: Observer) -> None:
    waiting = seen.engine.translations.waiting
    for at in range(translations.LIMIT + 10):
        address = at.to_bytes(4, "big")
        seen.engine.translations.learn(
            tuples.with_src(seen.original, packets.address(seen.client)[:-4] + address, 7), seen.reply, IPS_SRC_NAT, 0
        )
    assert len(waiting) == translations.LIMIT
    assert tuples.src(next(iter(waiting)))[-4:] == (10).to_bytes(4, "big")


def test_the_routers_own_packets(seen: Observer) -> None:
    ct = seen.see(seen.client, seen.server, 40000, 53, LOCAL_OUT)
    seen.told()
    assert ct.reply == seen.reply
