"""From a rule to a range, and whether a connection still agrees with the rules."""

import pytest

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.match.match import Match
from conntrackd_py.match.numbers import Numbers
from conntrackd_py.nat.binding import outdated, range_of
from conntrackd_py.nat.interfaces import Interfaces, Link
from conntrackd_py.nat.range import Range
from conntrackd_py.nat.rules import NAT_ACCEPT, NAT_DNAT, NAT_MASQUERADE, NAT_REDIRECT, NAT_SNAT, NatRule
from conntrackd_py.nat.ruleset import Ruleset
from conntrackd_py.proto.standard import standard_protos
from tests.support.packets import address

CLIENT, SERVER, OUTER, TARGET = (address(a) for a in ("192.168.1.2", "198.51.100.2", "203.0.113.1", "192.168.1.80"))
LAN, WAN = 2, 3
UDP, GRE = (standard_protos(Tunables())[protonum] for protonum in (17, 47))


def t(source: bytes, sport: int, destination: bytes, dport: int) -> bytes:
    return tuples.make(source + destination, sport.to_bytes(2, "big") + dport.to_bytes(2, "big"), 17)


def connection(original: bytes, reply: bytes, iif: int, oif: int) -> NfConn:
    ct = NfConn(original, reply, UDP, 0)
    ct.iif, ct.oif = iif, oif
    return ct


PLAIN = connection(t(CLIENT, 1000, SERVER, 53), t(SERVER, 53, CLIENT, 1000), LAN, WAN)
RENUMBERED = connection(t(CLIENT, 1000, SERVER, 53), t(SERVER, 53, CLIENT, 1001), LAN, WAN)
MASQUERADED = connection(t(CLIENT, 1000, SERVER, 53), t(SERVER, 53, OUTER, 1000), LAN, WAN)
FORWARDED = connection(t(SERVER, 1000, OUTER, 8080), t(TARGET, 80, SERVER, 1000), WAN, LAN)
LOCAL = connection(t(CLIENT, 1000, OUTER, 53), t(OUTER, 53, CLIENT, 1000), LAN, 0)

OUT = InterfaceNames(["wan"])
MASQUERADE = NatRule(NAT_MASQUERADE, Match(out_interface=OUT))
PORTS = NatRule(NAT_MASQUERADE, Match(out_interface=OUT, proto=Numbers([17, 17])), Range(port_low=2000, port_high=3000))
SNAT = NatRule(NAT_SNAT, Match(out_interface=OUT), Range(OUTER, OUTER))
ELSEWHERE = NatRule(NAT_SNAT, Match(out_interface=OUT), Range(TARGET, TARGET))
EXEMPT = NatRule(NAT_ACCEPT, Match(out_interface=OUT))


def forward(to: bytes, port: int = 80) -> NatRule:
    return NatRule(
        NAT_DNAT,
        Match(in_interface=OUT, proto=Numbers([17, 17]), dport=Numbers([8080, 8080])),
        Range(to, to, port, port),
    )


@pytest.mark.parametrize(
    ("ct", "rules", "wanted"),
    [
        (PLAIN, [], False),
        (RENUMBERED, [], False),
        (PLAIN, [MASQUERADE], True),
        (PLAIN, [EXEMPT, MASQUERADE], False),
        (MASQUERADED, [MASQUERADE], False),
        (MASQUERADED, [SNAT], False),
        (MASQUERADED, [], True),
        (MASQUERADED, [EXEMPT, MASQUERADE], True),
        (MASQUERADED, [ELSEWHERE], True),
        (MASQUERADED, [PORTS], True),
        (FORWARDED, [forward(TARGET)], False),
        (FORWARDED, [forward(TARGET, 81)], True),
        (FORWARDED, [forward(CLIENT)], True),
        (FORWARDED, [], True),
        (LOCAL, [MASQUERADE], False),
    ],
)
def test_which_connections_are_outdated(ct: NfConn, rules: list[NatRule], wanted: bool) -> None:
    interfaces = Interfaces()
    interfaces.links[LAN] = Link("lan", [address("192.168.1.1")])
    interfaces.links[WAN] = Link("wan", [OUTER])
    assert outdated(Ruleset(rules, interfaces), interfaces, ct) is wanted


@pytest.mark.parametrize(("action", "kept"), [(NAT_SNAT, CLIENT), (NAT_DNAT, SERVER)])
def test_ports_alone_keep_the_address(action: int, kept: bytes) -> None:
    found = range_of(NatRule(action, to=Range(port_low=80, port_high=90)), Interfaces(), WAN, PLAIN.original)
    assert (found.low, found.high, found.port_low, found.port_high) == (kept, kept, 80, 90)


def tunnel(source: bytes, destination: bytes, answering: bytes, answered: bytes) -> NfConn:
    original, reply = (tuples.make(pair, bytes(4), 47) for pair in (source + destination, answering + answered))
    ct = NfConn(original, reply, GRE, 0)
    ct.iif, ct.oif = WAN, LAN
    return ct


ONLY_ADDRESS = NatRule(NAT_DNAT, Match(in_interface=OUT), Range(TARGET, TARGET))
ONLY_PORT = NatRule(NAT_DNAT, Match(in_interface=OUT, proto=Numbers([17, 17])), Range(port_low=80, port_high=81))
KEPT = connection(t(SERVER, 1000, OUTER, 8080), t(TARGET, 8080, SERVER, 1000), WAN, LAN)
OTHER_PORT = connection(t(SERVER, 1000, OUTER, 8080), t(OUTER, 80, SERVER, 1000), WAN, 0)
THIRD_PORT = connection(t(SERVER, 1000, OUTER, 8080), t(OUTER, 82, SERVER, 1000), WAN, 0)
TUNNEL = tunnel(SERVER, OUTER, TARGET, SERVER)
LOCAL_TUNNEL = tunnel(SERVER, OUTER, OUTER, SERVER)


@pytest.mark.parametrize(
    ("ct", "rules", "wanted"),
    [
        (KEPT, [ONLY_ADDRESS], False),
        (FORWARDED, [ONLY_ADDRESS], True),  # the port is translated, but by no rule
        (OTHER_PORT, [ONLY_PORT], False),
        (THIRD_PORT, [ONLY_PORT], True),
        (OTHER_PORT, [], True),
        (TUNNEL, [ONLY_ADDRESS], False),
        (TUNNEL, [], True),
        (LOCAL_TUNNEL, [ONLY_ADDRESS], True),
        (LOCAL_TUNNEL, [], False),
    ],
)
def test_a_connection_is_outdated_by_its_destination_address_or_port(
    ct: NfConn, rules: list[NatRule], wanted: bool
) -> None:
    interfaces = Interfaces()
    interfaces.links[WAN] = Link("wan", [OUTER])
    assert outdated(Ruleset(rules, interfaces), interfaces, ct) is wanted


def test_a_connection_is_outdated_if_the_interface_of_its_rule_has_no_address() -> None:
    interfaces = Interfaces()
    interfaces.links[WAN] = Link("wan", [])
    assert outdated(Ruleset([MASQUERADE], interfaces), interfaces, MASQUERADED)
    assert outdated(Ruleset([MASQUERADE], interfaces), interfaces, PLAIN)
    redirect = NatRule(NAT_REDIRECT, Match(in_interface=OUT))
    assert outdated(Ruleset([redirect], interfaces), interfaces, KEPT)


@pytest.mark.parametrize(("version", "loopback"), [(4, "127.0.0.1"), (6, "::1")])
def test_redirect_of_the_routers_own_packets_leads_to_the_loopback_address(version: int, loopback: str) -> None:
    source = address("203.0.113.1" if version == 4 else "2001:db8:1::1")
    current = t(source, 1, source, 2)
    assert range_of(NatRule(NAT_REDIRECT), Interfaces(), 0, current).low == address(loopback)
