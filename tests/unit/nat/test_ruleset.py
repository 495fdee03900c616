"""Which rule a connection gets: the first whose fields all match."""

import pytest

from conntrackd_py.const import LOCAL_IN, LOCAL_OUT, PRE_ROUTING
from conntrackd_py.match.address import Addresses, addresses, network
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.match.match import ABSENT, Match
from conntrackd_py.match.numbers import Numbers
from conntrackd_py.nat.interfaces import Interfaces, Link
from conntrackd_py.nat.range import Range
from conntrackd_py.nat.rules import NAT_ACCEPT, NAT_DNAT, NAT_MASQUERADE, NAT_REDIRECT, NAT_SNAT, NatRule
from conntrackd_py.nat.ruleset import Ruleset, packet_info, translating
from tests.support.packets import address

LAN, WAN = 2, 3
TO = address("203.0.113.1")


def links() -> Interfaces:
    interfaces = Interfaces()
    for index, name in ((LAN, "lan"), (WAN, "wan")):
        interfaces.replace(index, Link(name, []))
    return interfaces


def ruleset(*rules: NatRule) -> Ruleset:
    return Ruleset(list(rules), links())


def outgoing(
    rules: Ruleset, source: str = "192.168.1.2", proto: int = 17, sport: int = 1000, outdev: int = WAN
) -> NatRule | None:
    """The source rule of a packet to port 53."""
    destination = "198.51.100.2" if ":" not in source else "2001:db8:2::2"
    return rules.source(packet_info(address(source), address(destination), proto, sport, 53), outdev)


def incoming(rules: Ruleset, indev: int = WAN) -> NatRule | None:
    """The destination rule of a packet to port 80."""
    return rules.destination(packet_info(address("198.51.100.2"), address("203.0.113.1"), 6, 5555, 80), indev)


def net(text: str, invert: bool = False) -> Addresses:
    return addresses(network(text), invert)


def everything() -> dict[str, object]:
    """A match of every field, all fitting `outgoing()`."""
    return {
        "out_interface": InterfaceNames(["wan"]),
        "source": net("192.168.1.0/24"),
        "destination": net("198.51.100.0/24"),
        "proto": Numbers([17, 17]),
        "sport": Numbers([1000, 2000]),
        "dport": Numbers([53, 53]),
        "family": 4,
    }


def test_a_rule_that_fits_in_every_field() -> None:
    rule = NatRule(NAT_SNAT, Match(**everything()), Range(TO, TO))  # type: ignore[arg-type]
    assert outgoing(ruleset(rule)) is rule


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("out_interface", InterfaceNames(["lan"])),
        ("out_interface", InterfaceNames(["wan"], invert=True)),
        ("in_interface", InterfaceNames(["lan"])),
        ("source", net("192.168.2.0/24")),
        ("source", net("192.168.1.0/24", invert=True)),
        ("destination", net("198.51.101.0/24")),
        ("proto", Numbers([6, 6])),
        ("sport", Numbers([1, 999])),
        ("sport", Numbers([1000, 2000], invert=True)),
        ("dport", Numbers([54, 54])),
        ("family", 6),
    ],
)
def test_any_one_field_can_prevent_a_match(field: str, other: object) -> None:
    rule = NatRule(NAT_SNAT, Match(**{**everything(), field: other}), Range(TO, TO))  # type: ignore[arg-type]
    assert outgoing(ruleset(rule)) is None


def test_a_range_of_the_other_family_never_matches() -> None:
    to = address("2001:db8::1")
    assert outgoing(ruleset(NatRule(NAT_SNAT, to=Range(to, to)))) is None


def test_the_first_that_matches_binds() -> None:
    other = NatRule(NAT_SNAT, Match(source=net("10.0.0.0/8")), Range(TO, TO))
    first, second = NatRule(NAT_MASQUERADE), NatRule(NAT_SNAT, to=Range(TO, TO))
    assert outgoing(ruleset(other, first, second)) is first


def test_accept_ends_the_search() -> None:
    exempt = NatRule(NAT_ACCEPT, Match(source=net("192.168.1.2/32")))
    masquerade = NatRule(NAT_MASQUERADE)
    rules = ruleset(exempt, masquerade)
    assert outgoing(rules) is exempt
    assert translating(exempt) is None
    assert outgoing(rules, "192.168.1.3") is masquerade


def test_each_action_has_its_hook() -> None:
    source = [NatRule(action) for action in (NAT_SNAT, NAT_MASQUERADE)]
    destination = [NatRule(action) for action in (NAT_DNAT, NAT_REDIRECT)]
    rules = ruleset(*source, *destination)
    assert rules.source_rules == source
    assert rules.destination_rules == destination


def test_redirect_does_not_match_packets_of_the_router() -> None:
    """Without an incoming interface there is no address to redirect to, and a proxy would call itself."""
    rule = NatRule(NAT_REDIRECT)
    assert incoming(ruleset(rule)) is rule
    assert incoming(ruleset(rule), indev=0) is None


def test_the_interface_of_an_accept_rule_decides_its_kind() -> None:
    """Source rules do not know the incoming interface, destination rules not the outgoing one."""
    both, leaving, arriving = (
        NatRule(NAT_ACCEPT),
        NatRule(NAT_ACCEPT, Match(out_interface=InterfaceNames(["wan"]))),
        NatRule(NAT_ACCEPT, Match(in_interface=InterfaceNames(["wan"]))),
    )
    rules = ruleset(both, leaving, arriving)
    assert rules.source_rules == [both, leaving]
    assert rules.destination_rules == [both, arriving]


def test_destination_rules_match_the_incoming_interface() -> None:
    rule = NatRule(NAT_DNAT, Match(in_interface=InterfaceNames(["w+"])), Range(TO, TO))
    rules = ruleset(rule)
    assert incoming(rules) is rule
    assert incoming(rules, LAN) is None
    assert incoming(rules, 0) is None, "the router's own packets come in nowhere"


@pytest.mark.parametrize("invert", [False, True])
def test_an_unknown_interface_matches_only_inverted(invert: bool) -> None:
    rule = NatRule(NAT_MASQUERADE, Match(out_interface=InterfaceNames(["wan"], invert)))
    assert (outgoing(ruleset(rule), outdev=77) is rule) == invert


@pytest.mark.parametrize("invert", [False, True])
def test_ports_never_match_a_protocol_without_ports(invert: bool) -> None:
    rule = NatRule(NAT_MASQUERADE, Match(sport=Numbers([0, 65535], invert)))
    assert outgoing(ruleset(rule), proto=89, sport=ABSENT) is None


def test_a_rule_for_both_families() -> None:
    rule = NatRule(NAT_MASQUERADE)
    assert outgoing(ruleset(rule)) is rule
    assert outgoing(ruleset(rule), "fd00:1::2") is rule


def test_output_has_rules_of_its_own() -> None:
    own = NatRule(NAT_DNAT, to=Range(TO, TO), hooks=(LOCAL_OUT,))
    other = NatRule(NAT_DNAT, to=Range(TO, TO), hooks=(PRE_ROUTING,))
    rules = ruleset(own, other)
    assert (incoming(rules, 0), incoming(rules)) == (own, other)


def test_input_has_rules_of_its_own() -> None:
    own = NatRule(NAT_SNAT, Match(in_interface=InterfaceNames(["lan"])), Range(TO, TO), hooks=(LOCAL_IN,))
    rules = ruleset(own)
    info = packet_info(address("198.51.100.2"), address("203.0.113.1"), 6, 5555, 80)
    assert (rules.source(info, 0, indev=LAN), rules.source(info, 0, indev=WAN)) == (own, None)
    assert outgoing(rules) is None


def test_the_routers_own_addresses() -> None:
    """Also all of 127.0.0.0/8, as in the kernel."""
    rule, other = NatRule(NAT_DNAT, to=Range(TO, TO)), NatRule(NAT_DNAT, to=Range(TO, TO))
    rule.to_local, other.to_local = 1, -1
    interfaces = Interfaces()
    interfaces.replace(WAN, Link("wan", [address("203.0.113.1")]))
    rules = Ruleset([rule, other], interfaces)
    found = [
        rules.destination(packet_info(TO, address(to), 6, 1, 2), WAN)
        for to in ("203.0.113.1", "127.0.0.7", "203.0.113.2")
    ]
    assert found == [rule, rule, other]
