"""Ports in use by outer address and pool, as connections are bound and end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import (
    IPPROTO_GRE,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_TCP,
    IPPROTO_UDP,
    POST_ROUTING,
    PRE_ROUTING,
)
from conntrackd_py.engine.engine import Engine
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.match.match import Match
from conntrackd_py.match.numbers import Numbers
from conntrackd_py.nat.range import Range
from conntrackd_py.nat.rules import NAT_ACCEPT, NAT_MASQUERADE, NAT_SNAT, NatRule
from conntrackd_py.nat.usage import port_usage
from conntrackd_py.nat.usage.port_usage import PortUsage, span
from conntrackd_py.reasons import END_DELETED
from tests.support import packets
from tests.support.invariants import check
from tests.support.packets import address

OUTER, LAST = address("203.0.113.1"), address("203.0.113.4")
INSIDE = "192.168.1.2"


def masquerade(low: int = 0, high: int = 0, protonum: int = -1) -> NatRule:
    proto = Numbers([protonum, protonum]) if protonum >= 0 else None
    return NatRule(
        NAT_MASQUERADE, Match(out_interface=InterfaceNames(["wan"]), proto=proto), Range(port_low=low, port_high=high)
    )


def snat() -> NatRule:
    return NatRule(NAT_SNAT, to=Range(OUTER, LAST))


def router(*rules: NatRule) -> Engine:
    engine = Engine(Tunables(), Repeatable(1), nat_rules=list(rules))
    engine.set_interface(2, "wan", [OUTER], 0)
    return engine


def opened(engine: Engine, sport: int, number: int = 9, source: str = INSIDE) -> NfConn:
    """A UDP connection that leaves by wan."""
    first = Skb(packets.udp(source, f"198.51.100.{number}", sport, 53), 0, 1, 0)
    engine.handle(first, PRE_ROUTING, 0)
    last = Skb(first.data, first.mark, 1, 2)
    engine.handle(last, POST_ROUTING, 0)
    assert last.ct is not None
    return last.ct


def used(rule: NatRule, protonum: int = IPPROTO_UDP) -> tuple[int, int]:
    """Ports in use, and those at the fullest address."""
    use = rule.pool.usage[protonum]
    return use.ports, use.fullest


def test_a_port_counts_once_for_all_its_destinations() -> None:
    rule = masquerade()
    engine = router(rule)
    two = [opened(engine, 5000, number) for number in (1, 2)]
    opened(engine, 5001)
    assert used(rule) == (2, 2)
    for ct, left in zip(two, (2, 1), strict=True):
        engine.core.kill(ct, END_DELETED, 0)
        assert used(rule) == (left, left)


def test_ports_outside_the_rules_range_do_not_count() -> None:
    """A source port below 1024 stays; it is not in the range for others."""
    rule = masquerade()
    opened(router(rule), 123)
    assert used(rule) == (0, 0)


def test_the_fullest_address_counts() -> None:
    rule = snat()
    engine = router(rule)
    made = [opened(engine, 2000 + number, number) for number in range(1, 100)]
    by_address = [outer.ports for outer in engine.nat.port_usage.outers.values()]
    assert len(by_address) == 4
    assert used(rule) == (99, max(by_address))
    for ct in made:
        engine.core.kill(ct, END_DELETED, 0)
        check(engine)
    assert used(rule) == (0, 0)
    assert not engine.nat.port_usage.outers


def test_two_rules_for_one_address_count_the_ports_of_both() -> None:
    """A port that one rule allocated is in use for the other."""
    low, high = masquerade(1024, 30000), masquerade()
    engine = router(low, high)
    opened(engine, 2000)
    engine.nat.replace_rules([high, low])
    opened(engine, 40000)
    assert (used(low), used(high)) == ((1, 1), (2, 2))
    check(engine)


def test_new_rules_count_the_ports_in_use() -> None:
    old, new = masquerade(), snat()
    engine = router(old)
    kept = opened(engine, 2000)
    engine.nat.replace_rules(
        [new, NatRule(NAT_ACCEPT), NatRule(NAT_MASQUERADE, Match(out_interface=InterfaceNames(["ppp0"])))]
    )
    assert used(new) == (1, 1)
    engine.core.kill(kept, END_DELETED, 0)
    assert used(new) == (0, 0)


def test_many_ports_take_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = masquerade()
    engine = router(rule)
    made = [opened(engine, 1024 + number) for number in range(port_usage.SPARSE + 5)]
    (outer,) = engine.nat.port_usage.outers.values()
    assert (len(outer.dense), outer.sparse) == (65536, {})
    assert used(rule) == (len(made), len(made))
    check(engine)
    engine.nat.replace_rules([rule])
    check(engine)
    for ct in made:
        engine.core.kill(ct, END_DELETED, 0)
    assert used(rule) == (0, 0)


def test_outer_addresses_are_bounded() -> None:
    rule = snat()
    engine = router(rule)
    engine.nat.port_usage.limit = 2
    made = [opened(engine, 2000 + number, number) for number in range(1, 100)]
    assert len(engine.nat.port_usage.outers) == 2
    assert 0 < engine.nat.port_usage.uncounted == 99 - used(rule)[0]
    for ct in made:
        engine.core.kill(ct, END_DELETED, 0)
    check(engine)


@pytest.mark.parametrize(
    ("rule", "protonum", "expected"),
    [
        (masquerade(), IPPROTO_TCP, (1, 64512)),
        (masquerade(), IPPROTO_ICMP, (1, 65536)),
        (masquerade(), IPPROTO_ICMPV6, (0, 65536)),
        (masquerade(5000, 5999), IPPROTO_UDP, (1, 1000)),
        (NatRule(NAT_MASQUERADE, Match(family=6)), IPPROTO_TCP, (0, 64512)),
        (snat(), IPPROTO_TCP, (4, 64512)),
        (NatRule(NAT_ACCEPT), IPPROTO_TCP, (0, 64512)),
    ],
)
def test_the_limit_is_addresses_by_ports(rule: NatRule, protonum: int, expected: tuple[int, int]) -> None:
    assert router(rule).nat.port_usage.limit_of(rule, protonum) == expected


def test_a_protocol_without_ports_is_not_counted() -> None:
    rule = masquerade()
    engine = router(rule)
    first = Skb(packets.ip(INSIDE, "198.51.100.1", IPPROTO_GRE, bytes(8)), 0, 1, 0)
    engine.handle(first, PRE_ROUTING, 0)
    engine.handle(Skb(first.data, first.mark, 1, 2), POST_ROUTING, 0)
    assert not engine.nat.port_usage.outers
    assert span(rule, IPPROTO_ICMP) == (0, 65535)


Order = tuple[str, int, int]
ORDERS = st.lists(
    st.one_of(
        st.tuples(st.just("open"), st.integers(1000, 1030), st.integers(1, 3)),
        st.tuples(st.just("end"), st.integers(0, 30), st.just(0)),
        st.tuples(st.just("rules"), st.integers(0, 3), st.just(0)),
    ),
    max_size=60,
)


@given(ORDERS)
def test_what_is_kept_is_what_a_walk_finds(orders: list[Order]) -> None:
    sets = [[masquerade()], [snat()], [masquerade(1010, 1020), snat()], []]
    engine = router(*sets[0])
    made: list[NfConn] = []
    for order, number, host in orders:
        if order == "open":
            made.append(opened(engine, number, number % 7, f"192.168.1.{host}"))
        elif order == "end" and number < len(made):
            engine.core.kill(made[number], END_DELETED, 0)
        elif order == "rules":
            engine.nat.replace_rules(sets[number])
        check(engine)


def test_nothing_is_counted_before_anything_is_bound() -> None:
    assert PortUsage(router().nat.interfaces).outers == {}


@pytest.mark.parametrize(
    ("rule", "protonum", "addresses"),
    [
        (snat(), IPPROTO_ICMP, 4),
        (snat(), IPPROTO_ICMPV6, 0),
        (NatRule(NAT_SNAT, to=Range(OUTER, OUTER)), IPPROTO_TCP, 1),
        (NatRule(NAT_SNAT, to=Range(address("fd00::1"), address("fd00::ff"))), IPPROTO_ICMPV6, 255),
        (NatRule(NAT_SNAT, to=Range(address("fd00::1"), address("fd00::ff"))), IPPROTO_ICMP, 0),
    ],
)
def test_a_pool_of_the_other_family_has_no_addresses(rule: NatRule, protonum: int, addresses: int) -> None:
    assert router(rule).nat.port_usage.limit_of(rule, protonum)[0] == addresses
