"""The NAT rules of most conversations: what leaves by wan is masqueraded, ports of the router lead to a host inside."""

import tomllib

from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.match.match import Match
from conntrackd_py.match.numbers import Numbers
from conntrackd_py.nat.range import Range
from conntrackd_py.nat.rules import NAT_DNAT, NAT_MASQUERADE, NatRule
from conntrackd_py.settings.load import parse
from tests.support.packets import address
from tests.support.play import CLIENT, Host


def masquerade(*, random: bool = False) -> NatRule:
    return NatRule(NAT_MASQUERADE, Match(out_interface=InterfaceNames(["wan"])), Range(random=random), label="nat[0]")


def forward(
    family: int, ports: tuple[int, int], to_port: int = 0, *, protonum: int = 17, host: Host = CLIENT, label: str = ""
) -> NatRule:
    """What comes in by wan to these ports goes to the host, to to_port if it is not 0."""
    to = address(host.v4 if family == 4 else host.v6)
    return NatRule(
        NAT_DNAT,
        Match(
            in_interface=InterfaceNames(["wan"]),
            proto=Numbers([protonum, protonum]),
            dport=Numbers(list(ports)),
            family=family,
        ),
        Range(to, to, to_port, to_port),
        label=label,
    )


def web_server_inside(family: int) -> NatRule:
    """Port 8080 of the router is port 80 of the client."""
    return forward(family, (8080, 8080), 80, protonum=6, label="nat[1]")


def rules_of(text: str) -> list[NatRule]:
    """The [[nat]] rules of a configuration."""
    return list(parse(tomllib.loads(text), "FILE").nat)
