"""What conversations do not ask of Nat: the books it keeps, binding once, null bindings, links coming and going."""

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
from conntrackd_py.nat.rules import NAT_DNAT, NAT_MASQUERADE, NAT_REDIRECT, NAT_SNAT, Interface, NatRule, Ports
from conntrackd_py.reasons import END_ADDRESS_GONE, LEAK_GUARD, NAT_MANIP, NAT_NO_ADDRESS
from conntrackd_py.wire import checksum, ip
from tests.support import packets
from tests.support.packets import address
from tests.support.play import CLIENT, INSIDE, LAN, NEIGHBOUR, OTHER, ROUTER, SERVER, WAN

DONE = IPS_SRC_NAT_DONE | IPS_DST_NAT_DONE
QUERY = packets.udp(CLIENT.v4, SERVER.v4, 1000, 53)
MASQUERADE = NatRule(NAT_MASQUERADE, out_interface=Interface("wan"))


def router(*rules: NatRule, leak_guard: bool = True) -> Engine:
    engine = Engine(Tunables(), Repeatable(1), nat_rules=list(rules), leak_guard=leak_guard)
    engine.set_interface(LAN, "lan", [address(INSIDE.v4), address(INSIDE.v6)], 0)
    engine.set_interface(WAN, "wan", [address(ROUTER.v4), address(ROUTER.v6)], 0)
    return engine


def forward(engine: Engine, data: bytes, outdev: int = WAN, indev: int = LAN, now: int = 0) -> tuple[Skb, int]:
    first = Skb(data, 0, indev, 0)
    assert engine.handle(first, PRE_ROUTING, now) == NF_ACCEPT
    last = Skb(first.data, first.mark, indev, outdev)
    return last, engine.handle(last, POST_ROUTING, now)


def test_a_null_binding_is_a_binding() -> None:
    """Without a rule nothing changes, but it is settled: rules that come later are for later connections."""
    engine = router()
    skb, _ = forward(engine, QUERY)
    assert skb.ct is not None
    assert skb.ct.status & (DONE | IPS_SRC_NAT | IPS_DST_NAT) == DONE
    engine.nat.replace_rules([MASQUERADE])
    again, verdict = forward(engine, packets.udp(CLIENT.v4, OTHER.v4, 1000, 53))
    assert verdict == NF_ACCEPT
    assert again.data != packets.udp(CLIENT.v4, OTHER.v4, 1000, 53)
    assert engine.core.stats.nat_allocations == 1


def test_what_is_bound_stays_bound() -> None:
    engine = router(MASQUERADE)
    first, _ = forward(engine, QUERY)
    engine.nat.replace_rules([])
    second, _ = forward(engine, QUERY)
    assert second.data == first.data != QUERY


def test_only_what_was_changed_is_called_nat() -> None:
    engine = router(MASQUERADE)
    own, _ = forward(engine, packets.udp(ROUTER.v4, SERVER.v4, 1000, 53))
    assert own.ct is not None
    assert own.ct.status & (DONE | IPS_SRC_NAT) == DONE
    assert engine.core.stats.nat_allocations == 0


def test_to_ports_alone_keeps_the_address() -> None:
    rule = NatRule(NAT_DNAT, protonum=17, dport=Ports(53, 53), port_low=5353, port_high=5353)
    skb, _ = forward(router(rule), QUERY)
    assert skb.data == packets.udp(CLIENT.v4, SERVER.v4, 1000, 5353)


@pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"])
def test_redirect_leads_to_the_address_the_packet_came_in_on(family: int) -> None:
    rule = NatRule(NAT_REDIRECT, protonum=17, dport=Ports(53, 53), port_low=5353, port_high=5353)
    src, dst, inside = (getattr(host, f"v{family}") for host in (CLIENT, SERVER, INSIDE))
    engine = router(rule)
    skb = Skb(packets.udp(src, dst, 1000, 53), 0, LAN, 0)
    assert engine.handle(skb, PRE_ROUTING, 0) == NF_ACCEPT
    assert skb.data == packets.udp(src, inside, 1000, 5353)


def test_redirect_without_an_address_to_lead_to() -> None:
    engine = router(NatRule(NAT_REDIRECT, protonum=17))
    skb = Skb(QUERY, 0, 77, 0)
    assert engine.handle(skb, PRE_ROUTING, 0) == NF_DROP
    assert skb.reason == NAT_NO_ADDRESS


def test_no_rule_is_asked_on_the_way_in() -> None:
    """INPUT has a null binding: what is for the router keeps its source."""
    engine = router(NatRule(NAT_MASQUERADE))
    first = Skb(packets.udp(CLIENT.v4, INSIDE.v4, 1000, 53), 0, LAN, 0)
    engine.handle(first, PRE_ROUTING, 0)
    last = Skb(first.data, first.mark, LAN, 0)
    assert engine.handle(last, LOCAL_IN, 0) == NF_ACCEPT
    assert last.data == first.data
    assert last.ct is not None
    assert last.ct.status & DONE == DONE


def test_a_packet_first_seen_after_routing_cannot_change_its_destination() -> None:
    engine = router(NatRule(NAT_DNAT, protonum=17, to_low=address(OTHER.v4), to_high=address(OTHER.v4)), MASQUERADE)
    late = Skb(QUERY, 0, LAN, WAN)
    assert engine.handle(late, POST_ROUTING, 0) == NF_ACCEPT
    assert late.data == packets.udp(ROUTER.v4, SERVER.v4, 1000, 53)


# --- books ------------------------------------------------------------------------------------------------


def test_mappings_are_forgotten_with_their_connection() -> None:
    pool = NatRule(NAT_SNAT, to_low=address("203.0.113.1"), to_high=address("203.0.113.9"))
    engine = router(pool)
    for sport in range(1000, 1010):
        forward(engine, packets.udp(CLIENT.v4, SERVER.v4, sport, 53))
    assert len(engine.nat.ports.by_source) == 10
    engine.flush(0)
    assert engine.nat.ports.by_source == {}


def test_only_the_link_that_lost_an_address_loses_connections() -> None:
    engine = router(MASQUERADE, NatRule(NAT_MASQUERADE, out_interface=Interface("tun+")))
    engine.set_interface(9, "tun0", [address("10.8.0.1")], 0)
    forward(engine, QUERY)
    other, _ = forward(engine, packets.udp(CLIENT.v4, OTHER.v4, 1000, 53), outdev=9)
    engine.set_interface(WAN, "wan", [address(ROUTER.v4), address("203.0.113.7")], 5)
    assert engine.core.stats.ended[END_ADDRESS_GONE] == 0, "one more is none less"
    engine.remove_interface(WAN, 5)
    engine.remove_interface(WAN, 5)
    assert engine.core.stats.ended[END_ADDRESS_GONE] == 1
    assert len(engine.core.table) == 1
    assert other.ct is not None
    assert not other.ct.dying


# --- the leak guard -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "outdev", "verdict"),
    [(CLIENT, WAN, NF_DROP), (ROUTER, WAN, NF_ACCEPT), (CLIENT, LAN, NF_ACCEPT)],
    ids=["covered", "the router's own address", "no rule covers it"],
)
def test_an_invalid_packet_at_the_way_out(source: object, outdev: int, verdict: int) -> None:
    stray = packets.tcp(source.v4, SERVER.v4, 1000, 80, "R", seq=5)  # type: ignore[attr-defined]
    assert forward(router(MASQUERADE), stray, outdev)[1] == verdict


def test_a_source_that_is_already_outside_may_leave() -> None:
    rule = NatRule(NAT_SNAT, to_low=address("203.0.113.1"), to_high=address("203.0.113.9"))
    stray = packets.tcp("203.0.113.5", SERVER.v4, 1000, 80, "R", seq=5)
    assert forward(router(rule), stray)[1] == NF_ACCEPT


def test_ports_of_a_rule_count_where_they_can_be_read() -> None:
    web = NatRule(NAT_MASQUERADE, protonum=6, dport=Ports(80, 80))
    for dport, verdict in ((80, NF_DROP), (443, NF_ACCEPT)):
        skb, seen = forward(router(web), packets.tcp(CLIENT.v4, SERVER.v4, 1000, dport, "R", seq=5))
        assert seen == verdict
        assert verdict == NF_ACCEPT or skb.reason == LEAK_GUARD
    headless = packets.ip(CLIENT.v4, SERVER.v4, 6, b"\0")
    assert forward(router(web), headless)[1] == NF_ACCEPT


def test_what_cannot_even_be_parsed_does_not_leak_either() -> None:
    """A fragment that nobody reassembled still shows where it comes from."""
    fragment = QUERY[:6] + b"\x20\0" + QUERY[8:]
    assert forward(router(MASQUERADE), fragment)[1] == NF_DROP
    assert forward(router(MASQUERADE, leak_guard=False), fragment)[1] == NF_ACCEPT


def test_untracked_is_not_invalid() -> None:
    """Neighbour discovery is nobody's secret."""
    solicitation = packets.icmp(CLIENT.v6, SERVER.v6, 135)
    assert forward(router(MASQUERADE), solicitation)[1] == NF_ACCEPT


def test_a_redirect_about_a_translated_connection_is_dropped() -> None:
    """It would teach a route to an address that only the router knows."""
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
    """One that is not cut into segments, its checksum begun."""
    skb = Skb(packets.tcp(CLIENT.v4, outer, 1000, dport, "PA", seq=2, ack=2, data=bytes(5000)), 0, LAN, 0)
    assert ip.parse(skb) == 0
    skb.data = skb.data[:36] + (ip.pseudo_header(skb) % 65535).to_bytes(2, "big") + skb.data[38:]
    skb.segments = skb.unsummed = True
    return skb


def deliver(engine: Engine, skb: Skb) -> Skb:
    """Both visits of a packet to the router. The queue does not know that PREROUTING finished its checksum."""
    assert engine.handle(skb, PRE_ROUTING, 0) == NF_ACCEPT
    last = Skb(skb.data, skb.mark, LAN, 0)
    last.segments = last.unsummed = skb.segments
    assert engine.handle(last, LOCAL_IN, 0) == NF_ACCEPT
    return last


@pytest.mark.parametrize("to", [INSIDE.v4, "198.51.100.77"], ids=["an address", "a local route"])
def test_a_delivered_super_packet_has_a_whole_checksum(to: str) -> None:
    """Nobody cuts it, and the router's own TCP verifies it. Of the two calls the second has another source port."""
    service = address(to)
    rule = NatRule(NAT_DNAT, dport=Ports(8001, 8002), to_low=service, to_high=service, port_low=80, port_high=80)
    engine = router(rule)
    sources = []
    for dport in (8001, 8002):
        last = deliver(engine, super_packet(dport))
        assert checksum.valid(last.data[20:], ip.pseudo_header(last))
        sources.append(last.data[20:22])
    assert sources[0] == (1000).to_bytes(2, "big") != sources[1]


def test_a_delivered_super_packet_nobody_changed_is_left_alone() -> None:
    skb = super_packet(80)
    assert deliver(router(), skb).data is skb.data
