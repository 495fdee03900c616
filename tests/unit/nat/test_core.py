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
    LOCAL_OUT,
    NF_ACCEPT,
    NF_DROP,
    POST_ROUTING,
    PRE_ROUTING,
)
from conntrackd_py.engine.engine import Engine
from conntrackd_py.nat.core import ENDED_AT_ONCE
from conntrackd_py.nat.rules import (
    NAT_ACCEPT,
    NAT_DNAT,
    NAT_MASQUERADE,
    NAT_REDIRECT,
    NAT_SNAT,
    Interface,
    NatRule,
    Ports,
)
from conntrackd_py.reasons import (
    END_ADDRESS_GONE,
    END_NAMES,
    LEAK_GUARD,
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


def test_an_address_that_goes_ends_its_connections_in_bounded_steps() -> None:
    engine = router(MASQUERADE)
    count = ENDED_AT_ONCE + 1000
    for sport in range(1024, 1024 + count):
        forward(engine, packets.udp(CLIENT.v4, SERVER.v4, sport, 53))
    engine.remove_interface(WAN, 5)
    ended = [engine.core.stats.ended[END_ADDRESS_GONE]]
    while engine.next_expiry() == 0:
        ended.append(engine.expire(5, 300))
    assert ended == [ENDED_AT_ONCE, 300, 300, 300, 100]
    assert len(engine.core.table) == 0


def test_an_address_that_comes_back_in_time_keeps_what_is_left_of_its_connections() -> None:
    engine = router(MASQUERADE)
    for sport in range(1024, 1024 + ENDED_AT_ONCE + 1000):
        forward(engine, packets.udp(CLIENT.v4, SERVER.v4, sport, 53))
    engine.set_interface(WAN, "wan", [], 5)
    engine.set_interface(WAN, "wan", [address(ROUTER.v4)], 6)
    assert engine.expire(6, 10_000) == 0
    assert len(engine.core.table) == 1000


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


HEADLESS = packets.ip(CLIENT.v4, SERVER.v4, 6, b"\0")
FRAGMENT = HEADLESS[:6] + b"\x00\x10" + HEADLESS[8:]
BROKEN_CHAIN = packets.ip(CLIENT.v6, SERVER.v6, 60, b"\x06\xff\0\0\0\0\0\0")


@pytest.mark.parametrize("packet", [HEADLESS, FRAGMENT, BROKEN_CHAIN], ids=["headless", "fragment", "broken chain"])
def test_what_a_rule_asks_of_an_unreadable_part_is_assumed(packet: bytes) -> None:
    """A rule that translates is taken to match, a rule that exempts is not."""
    web = NatRule(NAT_MASQUERADE, protonum=6, dport=Ports(80, 80))
    exempt = NatRule(NAT_ACCEPT, protonum=6, dport=Ports(80, 80), out_interface=Interface("wan"))
    assert forward(router(web), packet)[1] == NF_DROP
    assert forward(router(exempt, web), packet)[1] == NF_DROP
    assert forward(router(exempt), packet)[1] == NF_ACCEPT


@pytest.mark.parametrize("packet", [bytes(40), b"\x60" + bytes(30), b"E\0"], ids=["version 0", "short v6", "short"])
def test_a_packet_without_addresses_does_not_leave_where_sources_are_translated(packet: bytes) -> None:
    assert forward(router(MASQUERADE), packet)[1] == NF_DROP
    assert forward(router(MASQUERADE), packet, outdev=LAN)[1] == NF_ACCEPT
    assert forward(router(), packet)[1] == NF_ACCEPT


def test_what_cannot_even_be_parsed_does_not_leak_either() -> None:
    """A fragment that nobody reassembled still shows where it comes from."""
    fragment = QUERY[:6] + b"\x20\0" + QUERY[8:]
    assert forward(router(MASQUERADE), fragment)[1] == NF_DROP
    assert forward(router(MASQUERADE, leak_guard=False), fragment)[1] == NF_ACCEPT


@pytest.mark.parametrize("kind", [*range(130, 137), 143])
def test_neighbour_discovery_is_never_forwarded_untranslated(kind: int) -> None:
    """It is untracked by its type, so only the leak guard can hold it."""
    message = packets.icmp(CLIENT.v6, SERVER.v6, kind, data=bytes(16))
    assert forward(router(MASQUERADE), message)[1] == NF_DROP
    assert forward(router(MASQUERADE), message, outdev=LAN)[1] == NF_ACCEPT
    assert forward(router(MASQUERADE, leak_guard=False), message)[1] == NF_ACCEPT


@pytest.mark.parametrize("source", [ROUTER.v6, "fe80::1", "::"])
def test_the_routers_own_neighbour_discovery_leaves(source: str) -> None:
    engine = router(MASQUERADE)
    message = packets.icmp(source, "ff02::1", 135, data=bytes(16))
    first = Skb(message, 0, 0, WAN)
    assert engine.handle(first, LOCAL_OUT, 0) == NF_ACCEPT
    assert engine.handle(Skb(first.data, first.mark, 0, WAN), POST_ROUTING, 0) == NF_ACCEPT


def test_a_new_interface_lets_nothing_out_before_it_is_known() -> None:
    """Rules by its name cannot match yet, and a connection would be bound without them for good."""
    engine = router(MASQUERADE)
    skb, verdict = forward(engine, QUERY, outdev=9)
    assert (verdict, skb.reason) == (NF_DROP, NAT_OIF_UNKNOWN)
    engine.set_interface(9, "wan", [address(ROUTER.v4)], 0)
    skb, verdict = forward(engine, QUERY, outdev=9)
    assert verdict == NF_ACCEPT
    assert skb.data != QUERY


def test_nothing_is_known_of_interfaces_where_nothing_is_translated() -> None:
    engine = Engine(Tunables(), Repeatable(1), mode="track")
    assert forward(engine, QUERY, outdev=9)[1] == NF_ACCEPT


def test_a_connection_to_an_address_that_moved_away_is_not_leaked() -> None:
    """It ended at the router; now its packets are forwarded, and a source rule covers them."""
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
    one_port = NatRule(
        NAT_SNAT, protonum=17, to_low=address(ROUTER.v4), to_high=address(ROUTER.v4), port_low=9, port_high=9
    )
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
