"""Packets whose mark another rule overwrote between their visits: recognised, counted, never untranslated."""

import pytest

from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import (
    IP_CT_ESTABLISHED_REPLY,
    IP_CT_INVALID,
    IP_CT_NEW,
    LOCAL_IN,
    NF_ACCEPT,
    NF_DROP,
    POST_ROUTING,
    PRE_ROUTING,
)
from conntrackd_py.engine.engine import DEFAULT_MASK, Engine
from conntrackd_py.explain.hints import sentence
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.reasons import LEAK_GUARD
from conntrackd_py.wire import ip
from tests.support import packets, rules
from tests.support.packets import address
from tests.support.play import CLIENT, LAN, ROUTER, SERVER, WAN

RESTORED = 0x1  # what `-j MARK --set-mark 1` leaves
NEW_MARK = 0xA00


def router(mask: int = DEFAULT_MASK, *unqueued: str) -> Engine:
    engine = Engine(Tunables(), Repeatable(1), mark_mask=mask)
    nat = [rules.masquerade(), rules.web_server_inside(4), rules.forward(4, (53, 53))]
    engine.configure(Tunables(), nat_rules=nat, unqueued=InterfaceNames(list(unqueued)))
    engine.set_interface(LAN, "lan", [address("192.168.1.1")], 0)
    engine.set_interface(WAN, "wan", [address(ROUTER.v4)], 0)
    return engine


def passes(engine: Engine, data: bytes, indev: int, mark: int | None = None) -> tuple[Skb, int]:
    """Both visits; mark: what a rule leaves in the mark between them."""
    first = Skb(data, 0, indev, 0)
    assert engine.handle(first, PRE_ROUTING, 0) == NF_ACCEPT
    skb = Skb(first.data, first.mark if mark is None else mark, indev, LAN + WAN - indev)
    return skb, engine.handle(skb, POST_ROUTING, 0)


def ends(skb: Skb) -> tuple[str, str]:
    assert not ip.parse(skb)
    half = len(ip.addresses(skb)) // 2
    pair = ip.addresses(skb)
    return tuple(".".join(map(str, part)) for part in (pair[:half], pair[half:]))  # type: ignore[return-value]


def udp(src: str, dst: str, sport: int, dport: int) -> bytes:
    return packets.udp(src, dst, sport, dport, b"x")


@pytest.mark.parametrize("mark", [0, RESTORED])
def test_a_conversation_by_a_source_rule(mark: int) -> None:
    engine = router()
    out, verdict = passes(engine, udp(CLIENT.v4, SERVER.v4, 5000, 53), LAN, mark)
    assert (verdict, ends(out), out.ctinfo) == (NF_ACCEPT, (ROUTER.v4, SERVER.v4), IP_CT_NEW)
    back, verdict = passes(engine, udp(SERVER.v4, ROUTER.v4, 53, 5000), WAN, mark)
    assert (verdict, ends(back), back.ctinfo) == (NF_ACCEPT, (SERVER.v4, CLIENT.v4), IP_CT_ESTABLISHED_REPLY)
    assert (len(engine.core.table), engine.overwritten.total) == (1, 2)


@pytest.mark.parametrize("mark", [0, RESTORED])
def test_a_conversation_by_a_destination_rule(mark: int) -> None:
    """Without the mark its answers would leave with the address of the inside."""
    engine = router()
    into, verdict = passes(engine, udp(SERVER.v4, ROUTER.v4, 5000, 53), WAN, mark)
    assert (verdict, ends(into), into.ctinfo) == (NF_ACCEPT, (SERVER.v4, CLIENT.v4), IP_CT_NEW)
    back, verdict = passes(engine, udp(CLIENT.v4, SERVER.v4, 53, 5000), LAN, mark)
    assert (verdict, ends(back), back.ctinfo) == (NF_ACCEPT, (ROUTER.v4, SERVER.v4), IP_CT_ESTABLISHED_REPLY)
    assert (len(engine.core.table), engine.overwritten.total) == (1, 2)


def test_a_tcp_handshake_to_a_server_inside() -> None:
    engine = router()
    here, there = (SERVER.v4, ROUTER.v4, 6000, 8080), (CLIENT.v4, SERVER.v4, 80, 6000)
    passes(engine, packets.tcp(*here, "S", seq=1), WAN, 0)
    back, verdict = passes(engine, packets.tcp(*there, "SA", seq=9, ack=2), LAN, 0)
    assert (verdict, ends(back)) == (NF_ACCEPT, (ROUTER.v4, SERVER.v4))
    last, verdict = passes(engine, packets.tcp(*here, "A", seq=2, ack=10), WAN, 0)
    assert last.ct is not None
    assert (verdict, ends(last)) == (NF_ACCEPT, (SERVER.v4, CLIENT.v4))
    assert last.ct.l4proto.state_names[last.ct.state] == "ESTABLISHED"


def test_an_invalid_packet_stays_invalid() -> None:
    """The mark said so; the tracker says it again."""
    engine = router()
    tuple_out = (CLIENT.v4, SERVER.v4, 5000, 80)
    passes(engine, packets.tcp(*tuple_out, "S", seq=1), LAN)
    passes(engine, packets.tcp(SERVER.v4, ROUTER.v4, 80, 5000, "SA", seq=9, ack=2), WAN)
    passes(engine, packets.tcp(*tuple_out, "A", seq=2, ack=10), LAN)
    forged = packets.tcp(*tuple_out, "A", seq=2, ack=10 + (1 << 30))
    skb, verdict = passes(engine, forged, LAN, 0)
    assert (skb.ct, skb.ctinfo, skb.reason, verdict) == (None, IP_CT_INVALID, LEAK_GUARD, NF_DROP)


def test_a_restored_mark_of_the_first_packet() -> None:
    """`-j CONNMARK --restore-mark` with all bits: the answer has the mark of a packet of the other direction."""
    engine = router()
    first = Skb(udp(CLIENT.v4, SERVER.v4, 5000, 53), 0, LAN, 0)
    engine.handle(first, PRE_ROUTING, 0)
    saved = first.mark
    out = Skb(first.data, saved, LAN, WAN)
    assert engine.handle(out, POST_ROUTING, 0) == NF_ACCEPT
    back, verdict = passes(engine, udp(SERVER.v4, ROUTER.v4, 53, 5000), WAN, saved)
    assert (verdict, ends(back), back.ctinfo) == (NF_ACCEPT, (SERVER.v4, CLIENT.v4), IP_CT_ESTABLISHED_REPLY)
    assert engine.overwritten.total == 1


@pytest.mark.parametrize("ctinfo", [0, 1, 3, 4, 6])
@pytest.mark.parametrize("data", [udp(CLIENT.v4, SERVER.v4, 5000, 53), packets.icmp(CLIENT.v4, SERVER.v4, 8, ident=5)])
def test_a_first_packet_with_the_mark_of_a_later_one(ctinfo: int, data: bytes) -> None:
    """It needs a binding: without one it would leave untranslated."""
    engine = router()
    skb, verdict = passes(engine, data, LAN, 0x1800 | ctinfo << 8)
    assert (verdict, ends(skb), skb.ctinfo) == (NF_ACCEPT, (ROUTER.v4, SERVER.v4), IP_CT_NEW)
    assert engine.overwritten.total == 1


def test_the_mark_of_another_connection() -> None:
    engine = router()
    other, _ = passes(engine, udp(CLIENT.v4, SERVER.v4, 5001, 53), LAN)
    passes(engine, udp(CLIENT.v4, SERVER.v4, 5000, 53), LAN)
    skb, verdict = passes(engine, udp(CLIENT.v4, SERVER.v4, 5000, 53), LAN, other.mark or NEW_MARK | 0x1000)
    assert (verdict, ends(skb)) == (NF_ACCEPT, (ROUTER.v4, SERVER.v4))
    assert engine.overwritten.total == 1


def test_a_packet_to_the_router_itself() -> None:
    engine = router()
    first = Skb(udp(SERVER.v4, ROUTER.v4, 5000, 123), 0, WAN, 0)
    engine.handle(first, PRE_ROUTING, 0)
    skb = Skb(first.data, 0, WAN, 0)
    assert engine.handle(skb, LOCAL_IN, 0) == NF_ACCEPT
    assert (len(engine.core.table), engine.overwritten.total) == (1, 1)


@pytest.mark.parametrize("unqueued", ["lan", "+"])
def test_a_packet_of_an_interface_that_is_not_queued_is_no_sign(unqueued: str) -> None:
    engine = router(DEFAULT_MASK, unqueued)
    for _ in range(2):
        skb = Skb(udp(CLIENT.v4, SERVER.v4, 5000, 53), 0, LAN, WAN)
        assert engine.handle(skb, POST_ROUTING, 0) == NF_ACCEPT
        assert ends(skb) == (ROUTER.v4, SERVER.v4)
    assert engine.overwritten.total == 0


def test_good_marks_and_unknown_packets_are_not_counted() -> None:
    engine = router()
    passes(engine, udp(CLIENT.v4, SERVER.v4, 5000, 53), LAN)
    passes(engine, udp(SERVER.v4, ROUTER.v4, 53, 5000), WAN)
    unseen = Skb(udp(CLIENT.v4, SERVER.v4, 7000, 53), 0, LAN, WAN)
    assert engine.handle(unseen, POST_ROUTING, 0) == NF_ACCEPT
    assert engine.overwritten.total == 0


def test_an_answer_that_was_not_translated_back_is_not_taken_for_one_between_its_visits() -> None:
    engine = router()
    passes(engine, udp(CLIENT.v4, SERVER.v4, 5000, 53), LAN)
    skb = Skb(udp(SERVER.v4, ROUTER.v4, 53, 5000), 0, WAN, LAN)
    engine.handle(skb, POST_ROUTING, 0)
    assert engine.overwritten.total == 0


def test_without_a_mask_nothing_can_be_overwritten() -> None:
    engine = router(0)
    passes(engine, udp(CLIENT.v4, SERVER.v4, 5000, 53), LAN, RESTORED)
    passes(engine, udp(SERVER.v4, ROUTER.v4, 53, 5000), WAN, RESTORED)
    assert engine.overwritten.total == 0


def test_an_error_about_a_connection_still_reaches_its_sender() -> None:
    """Path MTU discovery, with the mark of another packet of the connection."""
    engine = router()
    out, _ = passes(engine, udp(CLIENT.v4, SERVER.v4, 5000, 53), LAN)
    error = packets.icmp("203.0.113.9", ROUTER.v4, 3, 4, sequence=1300, data=out.data)
    for mark in (0, NEW_MARK | 0x1000):
        skb, verdict = passes(engine, error, WAN, mark)
        assert (verdict, ends(skb)) == (NF_ACCEPT, ("203.0.113.9", CLIENT.v4))


def test_an_error_of_a_host_inside_leaves_translated() -> None:
    engine = router()
    into, _ = passes(engine, udp(SERVER.v4, ROUTER.v4, 5000, 53), WAN)
    error = packets.icmp(CLIENT.v4, SERVER.v4, 3, 3, data=into.data)
    skb, verdict = passes(engine, error, LAN, 0)
    assert (verdict, ends(skb)) == (NF_ACCEPT, (ROUTER.v4, SERVER.v4))
    assert address(CLIENT.v4) not in skb.data


def test_one_refusal_a_second_is_recorded() -> None:
    engine = router()
    for _ in range(5):
        passes(engine, udp(CLIENT.v4, SERVER.v4, 5000, 53), LAN, 0)
    notes = [note for note in engine.diagnostics.recent.last(9) if note.overwritten]
    assert len(notes) == 1
    assert "another rule overwrote its packet mark" in sentence(notes[0])
