"""The match keys of a rule table -> Match, once for [[nat]], [[filter.rule]], [[raw]] and [[connmark]].

Refused: ports without a protocol that has them, addresses of both families, `family = "any"` with an address.
"""

from collections.abc import Callable
from typing import Final, TypeVar

from conntrackd_py.const import IPPROTO_ICMP, IPPROTO_ICMPV6, WITH_PORTS
from conntrackd_py.filter import iptables, nft
from conntrackd_py.match.address import VERSIONS, AddressError, Addresses, addresses, network
from conntrackd_py.match.expr import Expr
from conntrackd_py.match.interface import InterfaceNames, wrong_name
from conntrackd_py.match.match import Match
from conntrackd_py.match.numbers import Numbers, numbers
from conntrackd_py.match.words import ParseError, colon_range, negation, protocol
from conntrackd_py.settings.errors import ABSENT, did_you_mean
from conntrackd_py.settings.table import Table

FAMILY_OF_PROTO: Final = {IPPROTO_ICMP: 4, IPPROTO_ICMPV6: 6}
ANY: Final = 0
FAMILY_NAMES: Final = {"ipv4": 4, "ipv6": 6, "any": ANY}  # Match.family by the value of `family`
T = TypeVar("T")


def match_of(table: Table, to: bytes = b"", family: int = ANY) -> Match:
    """All match keys but `ct`. A wrong one is reported in the table and matches anything.

    to: an address of `to`. family: that of a rule without a family and without an address.
    """
    match = Match(
        in_interface=read(table, "in_interface", _interface),
        out_interface=read(table, "out_interface", _interface),
        source=read(table, "source", _addresses),
        destination=read(table, "destination", _addresses),
        proto=read(table, "proto", _protocol),
        sport=read(table, "sport", _ports),
        dport=read(table, "dport", _ports),
    )
    for key, ports in (("sport", match.sport), ("dport", match.dport)):
        if ports is not None and match.only_protocol() not in WITH_PORTS:
            table.wrong(key, "needs proto tcp, udp, udplite, dccp or sctp")
    match.family = _family(table, match, to, family)
    return match


def _family(table: Table, match: Match, to: bytes, default: int) -> int:
    """4, 6, or ANY; two keys of different families are a mistake."""
    absent = table.value("family") is ABSENT
    given = default if absent else FAMILY_NAMES[table.choice("family", "any", FAMILY_NAMES)]
    families = {
        "family": 0 if absent else given,
        "source": VERSIONS[match.source.length] if match.source else 0,
        "destination": VERSIONS[match.destination.length] if match.destination else 0,
        "proto": FAMILY_OF_PROTO.get(match.only_protocol(), 0),
        "to": VERSIONS.get(len(to), 0),
    }
    decided = [(key, family) for key, family in families.items() if family]
    for key, family in decided:
        if family != decided[0][1]:
            table.wrong(key, f"is IPv{family}, but {decided[0][0]} is IPv{decided[0][1]}")
    if not decided:
        return given
    if not absent and given == ANY:
        table.wrong("family", f"is any, but {decided[0][0]} is IPv{decided[0][1]}")
    return decided[0][1]


def ct_of(table: Table) -> Expr | None:
    return read(table, "ct", expression)


def expression(text: str) -> Expr:
    """A ct expression in nft's syntax, or in iptables' if it begins with an option. Raises ParseError."""
    found = iptables.parse(text) if text.strip().startswith(("-", "!")) else nft.parse(text)
    if not found.terms:
        raise ParseError("has no condition")
    return found


def read(table: Table, key: str, reader: Callable[[str], T]) -> T | None:
    """The value as reader parses it, a number as its text; None when absent or wrong."""
    value = table.value(key)
    if value is ABSENT:
        return None
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else table.string(key, "")
    if not text:
        if isinstance(value, str):
            table.wrong(key, "must not be empty")
        return None
    try:
        return reader(text)
    except ParseError as error:
        table.wrong(key, hint(error))
    except ValueError as error:
        table.wrong(key, str(error))
    return None


def hint(error: ParseError) -> str:
    return error.why + (did_you_mean(error.word, error.known) if error.known and error.word else "")


def hooks_of(table: Table, default: tuple[str, ...], known: dict[str, int]) -> tuple[int, ...]:
    names = table.strings("hooks", default)
    for name in names:
        if name not in known:
            table.wrong("hooks", f"must be of {', '.join(known)}{did_you_mean(name, known)}")
    return tuple(known[name] for name in names if name in known)


def _interface(text: str) -> InterfaceNames:
    name, invert = negation(text)
    if why := wrong_name(name):
        raise ValueError(why)
    return InterfaceNames([name], invert)


def _addresses(text: str) -> Addresses:
    text, invert = negation(text)
    try:
        return addresses(network(text), invert)
    except AddressError as error:
        gaps = "gaps" in str(error)
        why = "has a netmask with gaps" if gaps else "must be an address, address/prefix or address/netmask"
        raise ValueError(why) from None


def _protocol(text: str) -> Numbers | None:
    """None for `all`."""
    text, invert = negation(text.lower())
    if text == "all" and not invert:
        return None
    number = protocol("icmpv6" if text == "icmp6" else text)
    return numbers([number, number], invert, 255)


def _ports(text: str) -> Numbers:
    text, invert = negation(text)
    return numbers(colon_range(text, 65535, "port"), invert, 65535)
