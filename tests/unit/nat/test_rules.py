"""What a rule translates, by its action."""

import pytest

from conntrackd_py.const import LOCAL_IN, LOCAL_OUT, MANIP_DST, MANIP_SRC, POST_ROUTING, PRE_ROUTING
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.match.match import Match
from conntrackd_py.nat.rules import NAT_ACTIONS, NAT_NETMAP, NatRule


@pytest.mark.parametrize(
    ("action", "source", "destination"),
    [
        ("ACCEPT", False, False),
        ("SNAT", True, False),
        ("MASQUERADE", True, False),
        ("SNPT", True, False),
        ("DNAT", False, True),
        ("REDIRECT", False, True),
        ("DNPT", False, True),
    ],
)
def test_the_action_decides_what_is_translated(action: str, source: bool, destination: bool) -> None:
    rule = NatRule(NAT_ACTIONS.index(action))
    assert (rule.translates(MANIP_SRC), rule.translates(MANIP_DST)) == (source, destination)


def test_the_interface_decides_what_netmap_translates() -> None:
    wan = InterfaceNames(["wan"])
    leaving, entering = NatRule(NAT_NETMAP, Match(out_interface=wan)), NatRule(NAT_NETMAP, Match(in_interface=wan))
    assert (leaving.translates(MANIP_SRC), leaving.translates(MANIP_DST)) == (True, False)
    assert (entering.translates(MANIP_SRC), entering.translates(MANIP_DST)) == (False, True)


def test_a_rule_without_an_interface_leaves_by_all() -> None:
    assert NatRule(NAT_NETMAP).leaves_by("lan")
    assert not NatRule(NAT_NETMAP, Match(out_interface=InterfaceNames(["wan"]))).leaves_by("lan")


def test_the_hooks_decide_what_netmap_translates() -> None:
    assert NatRule(NAT_NETMAP, hooks=(LOCAL_OUT,)).translates(MANIP_DST)
    assert NatRule(NAT_NETMAP, hooks=(LOCAL_IN,)).translates(MANIP_SRC)


@pytest.mark.parametrize(
    ("action", "key", "hooks"),
    [
        ("SNAT", "", (POST_ROUTING,)),
        ("DNAT", "", (PRE_ROUTING, LOCAL_OUT)),
        ("DNAT", "in_interface", (PRE_ROUTING,)),
        ("REDIRECT", "", (PRE_ROUTING,)),
        ("ACCEPT", "", (PRE_ROUTING, LOCAL_OUT, POST_ROUTING)),
        ("ACCEPT", "in_interface", (PRE_ROUTING,)),
        ("ACCEPT", "out_interface", (POST_ROUTING,)),
    ],
)
def test_the_usual_hooks(action: str, key: str, hooks: tuple[int, ...]) -> None:
    match = Match(
        in_interface=InterfaceNames(["wan"]) if key == "in_interface" else None,
        out_interface=InterfaceNames(["wan"]) if key == "out_interface" else None,
    )
    assert NatRule(NAT_ACTIONS.index(action), match).hooks == hooks
