"""The engine's own part: visits and what each of them runs, orders from outside, and the counts."""

import pytest
from msgspec.structs import replace

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import (
    FORWARD,
    IP_CT_INVALID,
    IP_CT_NEW,
    IPPROTO_DCCP,
    IPS_CONFIRMED,
    IPS_SRC_NAT,
    LOCAL_IN,
    LOCAL_OUT,
    NF_ACCEPT,
    NF_DROP,
    POST_ROUTING,
    PRE_ROUTING,
    PROTO_NAMES,
)
from conntrackd_py.control import spec
from conntrackd_py.control.protocol.requests import NewConnection
from conntrackd_py.engine.change import DONE, EXISTS, Change
from conntrackd_py.engine.engine import EXHAUSTED, NOT_TRANSLATING, Engine
from conntrackd_py.filter.policy import Chain, Policy
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.match.match import Match
from conntrackd_py.nat.rules import NAT_MASQUERADE, NatRule
from conntrackd_py.proto.standard import standard_protos
from conntrackd_py.reasons import CONNECTION_LOST, END_DELETED, END_FLUSHED, IP_FRAGMENT
from tests.support import packets
from tests.support.packets import address
from tests.support.play import CLIENT, LAN, ROUTER, SERVER, WAN

QUERY = packets.udp(CLIENT.v4, SERVER.v4, 1000, 53)


def router(mode: str = "nat") -> Engine:
    engine = Engine(
        Tunables(),
        Repeatable(1),
        mode=mode,
        nat_rules=[NatRule(NAT_MASQUERADE, Match(out_interface=InterfaceNames(["wan"])))],
    )
    engine.set_interface(WAN, "wan", [address(ROUTER.v4)], 0)
    return engine


def confirmed(skb: Skb) -> bool:
    return skb.ct is not None and bool(skb.ct.status & IPS_CONFIRMED)


def test_every_protocol_number_has_a_tracker() -> None:
    protos = standard_protos(Tunables())
    assert len(protos) == 256
    known = {number: (proto.name, proto.protonum) for number, proto in enumerate(protos) if proto.name != "unknown"}
    assert known == {number: (name, number) for number, name in PROTO_NAMES.items() if number != IPPROTO_DCCP}


# --- visits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hook", [POST_ROUTING, LOCAL_IN])
def test_a_packet_never_seen_before_makes_up_for_its_first_hook(hook: int) -> None:
    """A restart, or a rule set that needs no visit at PREROUTING."""
    skb = Skb(QUERY, 0, LAN, WAN if hook == POST_ROUTING else 0)
    assert router().handle(skb, hook, 0) == NF_ACCEPT
    assert skb.ctinfo == IP_CT_NEW
    assert confirmed(skb)
    assert skb.seen_after_routing


def test_the_routers_own_packet_seen_late_is_not_judged_by_its_checksum() -> None:
    """It began at OUTPUT, where the network card is still to compute it."""
    unfinished = packets.broken(packets.udp(ROUTER.v4, SERVER.v4, 1000, 53, b"data"))
    own, forwarded = Skb(unfinished, 0, 0, WAN), Skb(unfinished, 0, LAN, WAN)
    assert router().handle(own, POST_ROUTING, 0) == NF_ACCEPT
    assert own.ctinfo == IP_CT_NEW
    router().handle(forwarded, POST_ROUTING, 0)
    assert forwarded.ctinfo == IP_CT_INVALID


def test_the_first_visit_confirms_nothing() -> None:
    for hook in (PRE_ROUTING, LOCAL_OUT):
        skb = Skb(QUERY, 0, LAN, 0)
        assert router().handle(skb, hook, 0) == NF_ACCEPT
        assert skb.ct is not None
        assert not confirmed(skb)
        assert not skb.seen_after_routing


def test_forwarding_alone_ends_nothing() -> None:
    engine = router()
    first = Skb(QUERY, 0, LAN, 0)
    engine.handle(first, PRE_ROUTING, 0)
    middle = Skb(first.data, first.mark, LAN, WAN)
    assert engine.handle(middle, FORWARD, 0) == NF_ACCEPT
    assert not confirmed(middle)
    assert middle.data == QUERY


@pytest.mark.parametrize("mode", ["track", "observe"])
def test_other_modes_change_no_packet(mode: str) -> None:
    engine = router(mode)
    first = Skb(QUERY, 0, LAN, 0)
    engine.handle(first, PRE_ROUTING, 0)
    last = Skb(first.data, first.mark, LAN, WAN)
    assert engine.handle(last, POST_ROUTING, 0) == NF_ACCEPT
    assert last.data == QUERY
    assert confirmed(last)


def test_a_fragment_is_invalid_at_both_visits_and_counted_once() -> None:
    engine = router("track")
    fragment = QUERY[:6] + b"\x20\0" + QUERY[8:]
    first = Skb(fragment, 0, LAN, 0)
    assert engine.handle(first, PRE_ROUTING, 0) == NF_ACCEPT
    assert (first.ctinfo, first.reason) == (IP_CT_INVALID, IP_FRAGMENT)
    last = Skb(fragment, first.mark, LAN, WAN)
    assert engine.handle(last, POST_ROUTING, 0) == NF_ACCEPT
    assert last.ctinfo == IP_CT_INVALID
    assert engine.core.stats.reasons[IP_FRAGMENT] == 1


def test_a_packet_whose_connection_vanished_is_dropped() -> None:
    engine = router()
    first = Skb(QUERY, 0, LAN, 0)
    engine.handle(first, PRE_ROUTING, 0)
    engine.expire(60_000, 100)
    engine.expire(70_000, 100)
    last = Skb(first.data, first.mark, LAN, WAN)
    assert engine.handle(last, POST_ROUTING, 70_000) == NF_DROP
    assert last.reason == CONNECTION_LOST


def test_visits_are_counted_by_hook_and_verdict() -> None:
    engine = router()
    test = Skb(QUERY, 0, LAN, 0)
    engine.handle(test, PRE_ROUTING, 0)
    engine.handle(Skb(test.data, test.mark, LAN, WAN), POST_ROUTING, 0)
    stray = packets.tcp(CLIENT.v4, SERVER.v4, 1, 2, "R")
    engine.handle(Skb(stray, 0, LAN, WAN), POST_ROUTING, 0)
    assert engine.core.stats.verdicts[PRE_ROUTING * 2 + NF_ACCEPT] == 1
    assert engine.core.stats.verdicts[POST_ROUTING * 2 + NF_ACCEPT] == 1
    assert engine.core.stats.verdicts[POST_ROUTING * 2 + NF_DROP] == 1
    assert engine.core.stats.bytes == [28, 0, 0, 0, 28 + 40]


# --- orders from outside ------------------------------------------------------------------------------------


def with_connections(count: int) -> Engine:
    engine = router()
    for sport in range(1000, 1000 + count):
        engine.handle(Skb(packets.udp(CLIENT.v4, SERVER.v4, sport, 53), 0, LAN, WAN), POST_ROUTING, 0)
    engine.core.events.enabled = True
    return engine


def test_delete() -> None:
    engine = with_connections(2)
    assert engine.delete(1, 5)
    assert not engine.delete(1, 5), "it is dying already"
    assert not engine.delete(99, 5)
    assert not engine.delete(-1, 5)
    assert engine.core.stats.ended[END_DELETED] == len(engine.core.table) == 1


def test_flush_ends_each_connection_once() -> None:
    engine = with_connections(5)
    first = Skb(packets.udp(CLIENT.v4, SERVER.v4, 9, 53), 0, LAN, 0)
    engine.handle(first, PRE_ROUTING, 5)
    assert engine.flush(5) == 5
    assert engine.core.stats.ended[END_FLUSHED] == 5
    assert [event.kind for event in engine.drain_events()] == ["DESTROY"] * 5
    assert len(engine.core.table) == 1, "what is under way is not in the table yet"
    assert engine.flush(5) == 0


def test_expiry_says_when_it_is_needed_next() -> None:
    engine = with_connections(3)
    when = engine.next_expiry()
    assert when == 31_000
    assert engine.expire(when - 1, 100) == 0
    assert engine.expire(when, 2) == 2
    assert engine.next_expiry() <= when + 2_000
    assert engine.expire(when, 100) == 1


TRANSLATED = NewConnection(proto=17, src=CLIENT.v4, dst=SERVER.v4, dport=2, src_nat="203.0.113.9:99")


def by_hand(engine: Engine) -> tuple[NfConn, int]:
    """A translated connection that the operator creates, and the outcome."""
    made = spec.wanted(replace(TRANSLATED, sport=1))
    ct = NfConn(made.original, made.reply, engine.core.protos[17], 0)
    change = Change()
    change.timeout = 1000
    return ct, engine.create(ct, change, made.source, made.destination, 0)


@pytest.mark.parametrize("mode", ["nat", "observe"])
def test_a_translation_by_hand(mode: str) -> None:
    """An observer notes what the kernel will do."""
    engine = Engine(Tunables(), Repeatable(), mode=mode)
    ct, outcome = by_hand(engine)
    assert outcome == DONE
    assert tuples.dst(ct.reply) == bytes((203, 0, 113, 9))
    assert tuples.l4dst(ct.reply) == 99
    assert ct.status & IPS_SRC_NAT
    assert by_hand(engine)[1] == EXISTS


def test_a_translation_by_hand_where_nothing_is_translated() -> None:
    """Mode track translates nothing."""
    engine = Engine(Tunables(), Repeatable(), mode="track")
    assert by_hand(engine)[1] == NOT_TRANSLATING
    assert engine.core.table.confirmed == 0


def test_a_translation_by_hand_to_a_port_that_is_taken() -> None:
    engine = Engine(Tunables(), Repeatable(), mode="nat")
    outcomes = []
    for sport in (1, 2):
        made = spec.wanted(
            NewConnection(proto=17, src=CLIENT.v4, dst=SERVER.v4, sport=sport, dport=2, src_nat="203.0.113.9:99")
        )
        ct = NfConn(made.original, made.reply, engine.core.protos[17], 0)
        outcomes.append(engine.create(ct, Change(), made.source, made.destination, 0))
    assert outcomes == [DONE, EXHAUSTED]
    assert engine.core.table.confirmed == 1


@pytest.mark.parametrize(("mask", "mark"), [(0xFFFFFF00, 0xE00), (0xFFFF0000, 0xE0000), (0xF, 0xE), (0, 0)])
def test_answers_to_rejected_packets_have_a_ctinfo_that_no_other_packet_has(mask: int, mark: int) -> None:
    """ARCHITECTURE.md, "The packet mark". The filter accepts them and no other packet."""
    policy = Policy([Chain(LOCAL_OUT, [], NF_DROP)])
    engine = Engine(Tunables(), Repeatable(1), mark_mask=mask, policy=policy)
    assert engine.answer_mark == mark
    assert engine.handle(Skb(QUERY, mark, 0, WAN), LOCAL_OUT, 0) == (NF_ACCEPT if mask else NF_DROP)
    assert engine.handle(Skb(QUERY, mark ^ mask & -mask, 0, WAN), LOCAL_OUT, 0) == NF_DROP
    assert engine.handle(Skb(QUERY, mark, LAN, WAN), PRE_ROUTING, 0) == NF_ACCEPT
    assert engine.core.stats.drop == (1 if mask else 2)
