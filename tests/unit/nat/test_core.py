"""NAT operations: binding once, null bindings, redirects, early sources, changes of interfaces."""

import pytest

from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import (
    IPS_DST_NAT,
    IPS_DST_NAT_DONE,
    IPS_SRC_NAT,
    IPS_SRC_NAT_DONE,
    LOCAL_IN,
    NF_ACCEPT,
    NF_DROP,
    POST_ROUTING,
    PRE_ROUTING,
)
from conntrackd_py.engine.engine import Engine
from conntrackd_py.match.match import Match
from conntrackd_py.match.numbers import Numbers
from conntrackd_py.nat.range import Range
from conntrackd_py.nat.rules import NAT_DNAT, NAT_MASQUERADE, NAT_REDIRECT, NAT_SNAT, NatRule
from conntrackd_py.reasons import (
    END_NAMES,
    NAT_EXHAUSTED,
    NAT_MANIP,
    NAT_NO_ADDRESS,
    NAT_OIF_CHANGED,
    NAT_OIF_UNKNOWN,
)
from conntrackd_py.wire import checksum, ip
from tests.support import packets
from tests.support.packets import address
from tests.support.play import CLIENT, INSIDE, LAN, NEIGHBOUR, OTHER, ROUTER, SERVER, WAN
from tests.unit.nat.conftest import MASQUERADE, QUERY, forward, router

DONE = IPS_SRC_NAT_DONE | IPS_DST_NAT_DONE


def test_a_null_binding_is_final() -> None:
    """New rules apply to later connections only."""
    engine = router()
    skb, _ = forward(engine, QUERY)
    assert skb.ct is not None
    assert skb.ct.status & (DONE | IPS_SRC_NAT | IPS_DST_NAT) == DONE
    engine.nat.replace_rules([MASQUERADE])
    again, verdict = forward(engine, packets.udp(CLIENT.v4, OTHER.v4, 1000, 53))
    assert verdict == NF_ACCEPT
    assert again.data != packets.udp(CLIENT.v4, OTHER.v4, 1000, 53)
    assert engine.core.stats.nat_allocations == 1


def test_a_confirmed_connection_is_not_bound_again() -> None:
    engine = router(MASQUERADE)
    first, _ = forward(engine, QUERY)
    engine.nat.replace_rules([])
    second, _ = forward(engine, QUERY)
    assert second.data == first.data != QUERY


def test_the_nat_status_bits_need_a_change() -> None:
    engine = router(MASQUERADE)
    own, _ = forward(engine, packets.udp(ROUTER.v4, SERVER.v4, 1000, 53))
    assert own.ct is not None
    assert own.ct.status & (DONE | IPS_SRC_NAT) == DONE
    assert engine.core.stats.nat_allocations == 0


def test_to_ports_alone_keeps_the_address() -> None:
    rule = NatRule(
        NAT_DNAT, Match(proto=Numbers([17, 17]), dport=Numbers([53, 53])), Range(port_low=5353, port_high=5353)
    )
    skb, _ = forward(router(rule), QUERY)
    assert skb.data == packets.udp(CLIENT.v4, SERVER.v4, 1000, 5353)


@pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"])
def test_redirect_uses_an_address_of_the_incoming_interface(family: int) -> None:
    rule = NatRule(
        NAT_REDIRECT, Match(proto=Numbers([17, 17]), dport=Numbers([53, 53])), Range(port_low=5353, port_high=5353)
    )
    src, dst, inside = (getattr(host, f"v{family}") for host in (CLIENT, SERVER, INSIDE))
    engine = router(rule)
    skb = Skb(packets.udp(src, dst, 1000, 53), 0, LAN, 0)
    assert engine.handle(skb, PRE_ROUTING, 0) == NF_ACCEPT
    assert skb.data == packets.udp(src, inside, 1000, 5353)


def test_redirect_without_an_address_drops() -> None:
    engine = router(NatRule(NAT_REDIRECT, Match(proto=Numbers([17, 17]))))
    skb = Skb(QUERY, 0, 77, 0)
    assert engine.handle(skb, PRE_ROUTING, 0) == NF_DROP
    assert skb.reason == NAT_NO_ADDRESS


def test_source_rules_do_not_apply_at_input() -> None:
    """INPUT makes a null binding: a packet to the router keeps its source."""
    engine = router(NatRule(NAT_MASQUERADE))
    first = Skb(packets.udp(CLIENT.v4, INSIDE.v4, 1000, 53), 0, LAN, 0)
    engine.handle(first, PRE_ROUTING, 0)
    last = Skb(first.data, first.mark, LAN, 0)
    assert engine.handle(last, LOCAL_IN, 0) == NF_ACCEPT
    assert last.data == first.data
    assert last.ct is not None
    assert last.ct.status & DONE == DONE


def test_a_packet_first_seen_after_routing_cannot_change_its_destination() -> None:
    engine = router(
        NatRule(NAT_DNAT, Match(proto=Numbers([17, 17])), Range(address(OTHER.v4), address(OTHER.v4))), MASQUERADE
    )
    late = Skb(QUERY, 0, LAN, WAN)
    assert engine.handle(late, POST_ROUTING, 0) == NF_ACCEPT
    assert late.data == packets.udp(ROUTER.v4, SERVER.v4, 1000, 53)


# --- books ------------------------------------------------------------------------------------------------


def test_mappings_end_with_their_connection() -> None:
    pool = NatRule(NAT_SNAT, to=Range(address("203.0.113.1"), address("203.0.113.9")))
    engine = router(pool)
    for sport in range(1000, 1010):
        forward(engine, packets.udp(CLIENT.v4, SERVER.v4, sport, 53))
    assert len(engine.nat.ports.mappings.by_source) == 10
    engine.flush(0)
    assert len(engine.nat.ports.mappings.by_source) == 0


def test_an_unknown_outgoing_interface_drops() -> None:
    """Rules with its name cannot match yet, and a binding is final."""
    engine = router(MASQUERADE)
    skb, verdict = forward(engine, QUERY, outdev=9)
    assert (verdict, skb.reason) == (NF_DROP, NAT_OIF_UNKNOWN)
    engine.set_interface(9, "wan", [address(ROUTER.v4)], 0)
    skb, verdict = forward(engine, QUERY, outdev=9)
    assert verdict == NF_ACCEPT
    assert skb.data != QUERY


def test_without_nat_an_unknown_interface_is_no_reason_to_drop() -> None:
    engine = Engine(Tunables(), Repeatable(1), mode="track")
    assert forward(engine, QUERY, outdev=9)[1] == NF_ACCEPT


def test_a_connection_to_an_address_that_moved_away_is_not_leaked() -> None:
    """It was with the router itself; now its packets are forwarded, and a source rule matches them."""
    engine = router(MASQUERADE)
    query = packets.udp(CLIENT.v4, ROUTER.v4, 1000, 53)
    first = Skb(query, 0, LAN, 0)
    assert engine.handle(first, PRE_ROUTING, 0) == NF_ACCEPT
    assert engine.handle(Skb(first.data, first.mark, LAN, 0), LOCAL_IN, 0) == NF_ACCEPT
    engine.set_interface(WAN, "wan", [address("203.0.113.7")], 0)
    skb, verdict = forward(engine, query)
    assert (verdict, skb.reason) == (NF_DROP, NAT_OIF_CHANGED)
    skb, verdict = forward(engine, query)
    assert verdict == NF_ACCEPT
    assert skb.data[12:16] == address("203.0.113.7")


def test_why_an_unconfirmed_connection_ended() -> None:
    one_port = NatRule(NAT_SNAT, Match(proto=Numbers([17, 17])), Range(address(ROUTER.v4), address(ROUTER.v4), 9, 9))
    engine = router(one_port)
    assert forward(engine, QUERY)[1] == NF_ACCEPT
    skb, verdict = forward(engine, packets.udp(CLIENT.v4, SERVER.v4, 1001, 53))
    assert (verdict, skb.reason) == (NF_DROP, NAT_EXHAUSTED)
    assert skb.ct is not None
    assert END_NAMES[skb.ct.end_reason] == "nat_exhausted"
    engine = router(MASQUERADE)
    engine.set_interface(WAN, "wan", [], 0)
    skb, verdict = forward(engine, QUERY)
    assert (verdict, skb.reason) == (NF_DROP, NAT_NO_ADDRESS)
    assert skb.ct is not None
    assert END_NAMES[skb.ct.end_reason] == "nat_no_address"


def test_a_redirect_about_a_translated_connection_is_dropped() -> None:
    """Its receiver would learn a route to an address of the other side."""
    engine = router(MASQUERADE)
    translated, _ = forward(engine, QUERY)
    redirect = packets.icmp(SERVER.v4, ROUTER.v4, 5, 1, data=translated.data)
    skb = Skb(redirect, 0, WAN, 0)
    assert engine.handle(skb, PRE_ROUTING, 0) == NF_DROP
    assert skb.reason == NAT_MANIP
    plain = router()
    forward(plain, packets.udp(CLIENT.v4, NEIGHBOUR.v4, 1000, 53))
    about = packets.udp(CLIENT.v4, NEIGHBOUR.v4, 1000, 53)
    skb = Skb(packets.icmp(INSIDE.v4, CLIENT.v4, 5, 1, data=about), 0, LAN, 0)
    assert plain.handle(skb, PRE_ROUTING, 0) == NF_ACCEPT


# --- delivery to the router -------------------------------------------------------------------------------------


def super_packet(dport: int, *, outer: str = ROUTER.v4) -> Skb:
    """Not cut into segments, with a partial checksum."""
    skb = Skb(packets.tcp(CLIENT.v4, outer, 1000, dport, "PA", seq=2, ack=2, data=bytes(5000)), 0, LAN, 0)
    assert ip.parse(skb) == 0
    skb.data = skb.data[:36] + (ip.pseudo_header(skb) % 65535).to_bytes(2, "big") + skb.data[38:]
    skb.segments = skb.checksum_partial = True
    return skb


def deliver(engine: Engine, skb: Skb) -> Skb:
    """Both visits of a packet to the router. The queue does not know that PREROUTING finished its checksum."""
    assert engine.handle(skb, PRE_ROUTING, 0) == NF_ACCEPT
    last = Skb(skb.data, skb.mark, LAN, 0)
    last.segments = last.checksum_partial = skb.segments
    assert engine.handle(last, LOCAL_IN, 0) == NF_ACCEPT
    return last


@pytest.mark.parametrize("to", [INSIDE.v4, "198.51.100.77"], ids=["an address", "a local route"])
def test_a_delivered_super_packet_has_a_whole_checksum(to: str) -> None:
    """The router's TCP verifies it. The second of the two connections gets another source port."""
    service = address(to)
    rule = NatRule(NAT_DNAT, Match(dport=Numbers([8001, 8002])), Range(service, service, 80, 80))
    engine = router(rule)
    sources = []
    for dport in (8001, 8002):
        last = deliver(engine, super_packet(dport))
        assert checksum.valid(last.data[20:], ip.pseudo_header(last))
        sources.append(last.data[20:22])
    assert sources[0] == (1000).to_bytes(2, "big") != sources[1]


def test_an_unchanged_super_packet_keeps_its_partial_checksum() -> None:
    skb = super_packet(80)
    assert deliver(router(), skb).data is skb.data


def test_a_super_packet_has_a_whole_checksum_if_the_kernel_tracks_it() -> None:
    """The kernel verifies it after PREROUTING. Otherwise the segmentation computes it."""
    service = address(NEIGHBOUR.v4)
    rule = NatRule(NAT_DNAT, Match(dport=Numbers([8001, 8001])), Range(service, service, 80, 80))
    whole = []
    for tracks in (False, True):
        engine = router(rule)
        engine.nat.kernel_tracks = tracks
        skb = super_packet(8001)
        assert engine.handle(skb, PRE_ROUTING, 0) == NF_ACCEPT
        whole.append(checksum.valid(skb.data[20:], ip.pseudo_header(skb)))
    assert whole == [False, True]
