"""`play`: a router that translates nothing, in both families. `snat` and `dnat`: with rules."""

import pytest

from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.match.match import Match
from conntrackd_py.match.numbers import Numbers
from conntrackd_py.nat.range import Range
from conntrackd_py.nat.rules import NAT_DNAT, NAT_MASQUERADE, NatRule
from tests.support.packets import address
from tests.support.play import CLIENT, Play


@pytest.fixture(params=[4, 6], ids=["v4", "v6"])
def family(request: pytest.FixtureRequest) -> int:
    value: int = request.param
    return value


@pytest.fixture
def play(family: int) -> Play:
    return Play(family)


def masquerade() -> NatRule:
    return NatRule(NAT_MASQUERADE, Match(out_interface=InterfaceNames(["wan"])), label="nat[0]")


def web_server_inside(family: int) -> NatRule:
    to = address(CLIENT.v4 if family == 4 else CLIENT.v6)
    return NatRule(
        NAT_DNAT,
        Match(in_interface=InterfaceNames(["wan"]), proto=Numbers([6, 6]), dport=Numbers([8080, 8080])),
        Range(to, to, 80, 80),
        label="nat[1]",
    )


@pytest.fixture
def snat(family: int) -> Play:
    """Everything that leaves by wan gets the router's address."""
    return Play(family, [masquerade()])


@pytest.fixture
def dnat(family: int) -> Play:
    """Port 8080 of the router is the client's port 80; and what leaves by wan is masqueraded."""
    return Play(family, [masquerade(), web_server_inside(family)])
