"""How full the ports of an outer address are."""

from __future__ import annotations

import pytest

from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPPROTO_GRE, IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP
from conntrackd_py.control.report.pools import SHOWN, pools, ranges, usage
from conntrackd_py.engine.engine import Engine
from conntrackd_py.explain.hosts import Pool
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.match.match import Match
from conntrackd_py.match.numbers import Numbers
from conntrackd_py.nat.range import Range
from conntrackd_py.nat.rules import NAT_ACCEPT, NAT_MASQUERADE, NAT_SNAT, NatRule

OUTER, OTHER = bytes([203, 0, 113, 1]), bytes([203, 0, 113, 2])


def engine(*rules: NatRule) -> Engine:
    made = Engine(Tunables(), Repeatable(), nat_rules=list(rules))
    made.set_interface(3, "wan0", [OUTER], 0)
    return made


def pool(*ports: int, connections: int = 0) -> Pool:
    made = Pool(bool(ports))
    made.connections = connections or len(ports)
    for port in ports:
        made.ports[port >> 3] |= 1 << (port & 7)
    return made


def snat(low: int = 0, high: int = 0, protonum: int = -1) -> NatRule:
    proto = Numbers([protonum, protonum]) if protonum >= 0 else None
    return NatRule(NAT_SNAT, Match(proto=proto), Range(OUTER, OUTER, low, high))


def test_the_fullest_protocol_says_how_full_it_is() -> None:
    counted = {
        OUTER + b"\x06": pool(1024, 1025, 65535, 80, connections=9),  # 80 is not one that others may get
        OUTER + b"\x11": pool(5000),
        OUTER + b"\x01": pool(0, 65535),
        OUTER + b"\x2f": pool(connections=2),
        OTHER + b"\x06": pool(1024),
    }
    first, second = pools(engine().nat, counted)
    assert first == {
        "address": "203.0.113.1",
        "connections": 14,
        "protocols": {
            "icmp": {"connections": 2, "ports": 2, "available": 65536},
            "tcp": {"connections": 9, "ports": 3, "available": 64512},
            "udp": {"connections": 1, "ports": 1, "available": 64512},
            "gre": {"connections": 2},
        },
        "share": round(3 / 64512, 4),
    }
    assert (second["address"], second["connections"]) == ("203.0.113.2", 1)


def test_a_pool_without_ports_has_no_share() -> None:
    (only,) = pools(engine().nat, {bytes(16) + b"\x2f": pool(connections=1)})
    assert only == {"address": "::", "connections": 1, "protocols": {"gre": {"connections": 1}}}


@pytest.mark.parametrize(
    ("rules", "protonum", "expected"),
    [
        ([], IPPROTO_TCP, {(1024, 65535)}),
        ([], IPPROTO_ICMP, {(0, 65535)}),
        ([snat()], IPPROTO_TCP, {(1024, 65535)}),
        ([snat(2000, 2999)], IPPROTO_TCP, {(2000, 2999)}),
        ([snat(2000, 2999), snat(5000, 5999)], IPPROTO_TCP, {(2000, 2999), (5000, 5999)}),
        ([snat(2000, 2999), snat()], IPPROTO_TCP, {(1024, 65535)}),
        ([snat(2000, 2999, IPPROTO_UDP)], IPPROTO_TCP, {(1024, 65535)}),
        ([NatRule(NAT_ACCEPT, to=Range(port_low=1, port_high=2))], IPPROTO_TCP, {(1024, 65535)}),
        ([NatRule(NAT_MASQUERADE, to=Range(port_low=7, port_high=9))], IPPROTO_TCP, {(7, 9)}),
        (
            [NatRule(NAT_MASQUERADE, Match(out_interface=InterfaceNames(["wan+"])), Range(port_low=7, port_high=9))],
            IPPROTO_TCP,
            {(7, 9)},
        ),
        (
            [NatRule(NAT_MASQUERADE, Match(out_interface=InterfaceNames(["ppp+"])), Range(port_low=7, port_high=9))],
            IPPROTO_TCP,
            {(1024, 65535)},
        ),
    ],
)
def test_available_are_the_ports_of_the_rules_that_lead_there(
    rules: list[NatRule], protonum: int, expected: set[tuple[int, int]]
) -> None:
    assert ranges(engine(*rules).nat, OUTER, protonum) == expected


def test_ports_in_two_spans_count_once() -> None:
    assert usage(pool(10, 11, 20, 30).ports, {(10, 19), (11, 20)}) == (3, 11)


def test_of_many_addresses_those_with_most_connections() -> None:
    counted = {
        bytes([203, 0, 113, number]) + bytes([IPPROTO_GRE]): pool(connections=number) for number in range(1, 200)
    }
    shown = pools(engine().nat, counted)
    assert [one["connections"] for one in shown] == list(range(199, 199 - SHOWN, -1))
