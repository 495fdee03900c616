"""Which [[nat]] rule may translate packets that a NAT rule of the kernel matches.

Interfaces, the source network, protocol and destination port are compared; any overlap counts.
"""

from typing import Final

from conntrackd_py.const import MANIP_DST, MANIP_SRC
from conntrackd_py.kernel.doctor.ruleset import Rule
from conntrackd_py.match.address import AddressError, Addresses, addresses, network
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.match.match import Match
from conntrackd_py.match.numbers import Numbers
from conntrackd_py.match.words import ParseError, protocol
from conntrackd_py.settings.schema import NAT, Settings

VERSION: Final = {"ip": 4, "ip6": 6}


def doubled(settings: Settings, family: str, source: bool, rule: Rule) -> str:
    """The label of the first [[nat]] rule of this kind (source or destination) that overlaps; empty if none does."""
    if settings.mode != NAT:
        return ""
    manip = MANIP_SRC if source else MANIP_DST
    found = (own.label for own in settings.nat if own.translates(manip) and _overlap(own.match, family, rule))
    return next(found, "")


def _overlap(match: Match, family: str, rule: Rule) -> bool:
    return (
        (not match.family or match.family == VERSION.get(family, match.family))
        and _interface(match.in_interface, rule.in_interface)
        and _interface(match.out_interface, rule.out_interface)
        and _network(match.source, rule.source)
        and _protocol(match.proto, rule.proto)
        and _ports(match.dport, rule.dports)
    )


def _interface(wanted: InterfaceNames | None, name: str) -> bool:
    return wanted is None or not name or wanted.has(name) or (name.endswith("+") and not wanted.invert)


def _network(wanted: Addresses | None, text: str) -> bool:
    """Whether an address of the network is in the set: one of the ends, or the set lies inside the network."""
    if wanted is None or not text:
        return True
    try:
        bounds = network(text)
    except AddressError:
        return True
    return any(wanted.has(end) for end in bounds) or any(addresses(bounds).has(end) for end in wanted.bounds)


def _protocol(wanted: Numbers | None, name: str) -> bool:
    if wanted is None or not name:
        return True
    try:
        return wanted.has(protocol(name))
    except ParseError:
        return True


def _ports(wanted: Numbers | None, ports: tuple[int, int] | None) -> bool:
    if wanted is None or ports is None:
        return True
    return any(wanted.has(port) for port in ports) or any(ports[0] <= port <= ports[1] for port in wanted.bounds)
