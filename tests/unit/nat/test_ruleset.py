"""Which rule a connection gets: every field can say no, the first rule that says yes binds."""

import pytest

from conntrackd_py.nat.interfaces import Interfaces, Link
from conntrackd_py.nat.rules import (
    NAT_ACCEPT,
    NAT_DNAT,
    NAT_MASQUERADE,
    NAT_REDIRECT,
    NAT_SNAT,
    Interface,
    NatRule,
    Net,
    Ports,
)
from conntrackd_py.nat.ruleset import Flow, Ruleset
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


def outgoing(source: str = "192.168.1.2", proto: int = 17, sport: int = 1000, outdev: int = WAN) -> Flow:
    destination = "198.51.100.2" if ":" not in source else "2001:db8:2::2"
    return Flow(address(source), address(destination), proto, sport, 53, 0, outdev)


def incoming(indev: int = WAN) -> Flow:
    return Flow(address("198.51.100.2"), address("203.0.113.1"), 6, 5555, 80, indev, 0)


def everything() -> dict[str, object]:
    """A rule that names every field, all fitting `outgoing()`."""
    return {
        "out_interface": Interface("wan"),
        "source": Net(address("192.168.1.0"), 24),
        "destination": Net(address("198.51.100.0"), 24),
        "protonum": 17,
        "sport": Ports(1000, 2000),
        "dport": Ports(53, 53),
        "family": 4,
        "to_low": TO,
        "to_high": TO,
    }


def test_a_rule_that_fits_in_every_field() -> None:
    rule = NatRule(NAT_SNAT, **everything())  # type: ignore[arg-type]
    assert ruleset(rule).source(outgoing()) is rule


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("out_interface", Interface("lan")),
        ("out_interface", Interface("wan", invert=True)),
        ("in_interface", Interface("lan")),
        ("source", Net(address("192.168.2.0"), 24)),
        ("source", Net(address("192.168.1.0"), 24, invert=True)),
        ("destination", Net(address("198.51.101.0"), 24)),
        ("protonum", 6),
        ("sport", Ports(1, 999)),
        ("sport", Ports(1000, 2000, invert=True)),
        ("dport", Ports(54, 54)),
        ("family", 6),
        ("to_low", address("2001:db8::1")),
    ],
)
def test_any_one_field_can_say_no(field: str, other: object) -> None:
    rule = NatRule(NAT_SNAT, **{**everything(), field: other})  # type: ignore[arg-type]
    assert ruleset(rule).source(outgoing()) is None


def test_the_first_that_matches_binds() -> None:
    other = NatRule(NAT_SNAT, source=Net(address("10.0.0.0"), 8), to_low=TO, to_high=TO)
    first, second = NatRule(NAT_MASQUERADE), NatRule(NAT_SNAT, to_low=TO, to_high=TO)
    assert ruleset(other, first, second).source(outgoing()) is first


def test_accept_ends_the_search() -> None:
    exempt = NatRule(NAT_ACCEPT, source=Net(address("192.168.1.2"), 32))
    masquerade = NatRule(NAT_MASQUERADE)
    rules = ruleset(exempt, masquerade)
    assert rules.source(outgoing()) is None
    assert rules.source(outgoing("192.168.1.3")) is masquerade


def test_each_action_has_its_hook() -> None:
    source = [NatRule(action) for action in (NAT_SNAT, NAT_MASQUERADE)]
    destination = [NatRule(action) for action in (NAT_DNAT, NAT_REDIRECT)]
    rules = ruleset(*source, *destination)
    assert rules.source_rules == source
    assert rules.destination_rules == destination


def test_a_redirect_leaves_what_the_router_itself_sends() -> None:
    """Where no interface is the incoming one, there is no address to redirect to, and a proxy would call itself."""
    rule = NatRule(NAT_REDIRECT)
    assert ruleset(rule).destination(incoming()) is rule
    assert ruleset(rule).destination(incoming(indev=0)) is None


def test_an_interface_says_which_search_an_accept_ends() -> None:
    """The incoming one is not known where sources are translated, nor the outgoing one where destinations are."""
    both, leaving, arriving = (
        NatRule(NAT_ACCEPT),
        NatRule(NAT_ACCEPT, out_interface=Interface("wan")),
        NatRule(NAT_ACCEPT, in_interface=Interface("wan")),
    )
    rules = ruleset(both, leaving, arriving)
    assert rules.source_rules == [both, leaving]
    assert rules.destination_rules == [both, arriving]


def test_destination_rules_look_where_a_packet_comes_in() -> None:
    rule = NatRule(NAT_DNAT, in_interface=Interface("w+"), to_low=TO, to_high=TO)
    rules = ruleset(rule)
    assert rules.destination(incoming()) is rule
    assert rules.destination(incoming(LAN)) is None
    assert rules.destination(incoming(0)) is None, "the router's own packets come in nowhere"


@pytest.mark.parametrize("invert", [False, True])
def test_an_unknown_interface_matches_by_an_empty_name(invert: bool) -> None:
    rule = NatRule(NAT_MASQUERADE, out_interface=Interface("wan", invert))
    assert (ruleset(rule).source(outgoing(outdev=77)) is rule) == invert


@pytest.mark.parametrize("invert", [False, True])
def test_ports_are_never_asked_of_what_has_none(invert: bool) -> None:
    rule = NatRule(NAT_MASQUERADE, sport=Ports(0, 65535, invert))
    assert ruleset(rule).source(outgoing(proto=89, sport=-1)) is None


def test_a_rule_for_both_families() -> None:
    rule = NatRule(NAT_MASQUERADE)
    assert ruleset(rule).source(outgoing()) is rule
    assert ruleset(rule).source(outgoing("fd00:1::2")) is rule
