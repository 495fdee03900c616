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
from conntrackd_py.match.numbers import Masked, Numbers, numbers
from conntrackd_py.match.words import ParseError, address_range, colon_range, integer, negation, protocol
from conntrackd_py.settings.errors import ABSENT, did_you_mean
from conntrackd_py.settings.table import Table

FAMILY_OF_PROTO: Final = {IPPROTO_ICMP: 4, IPPROTO_ICMPV6: 6}
M32: Final = 0xFFFFFFFF
ANY: Final = 0
FAMILY_NAMES: Final = {"ipv4": 4, "ipv6": 6, "any": ANY}  # Match.family by the value of `family`
T = TypeVar("T")


def match_of(table: Table, to: bytes = b"", family: int = ANY) -> Match:
    """All match keys but `mark` and `ct`. A wrong one is reported in the table and matches anything.

    Every key but `family` takes a list.

    to: an address of `to`. family: that of a rule without a family and without an address.
    """
    match = Match(
        in_interface=_interfaces(table, "in_interface"),
        out_interface=_interfaces(table, "out_interface"),
        source=_addresses(table, "source"),
        destination=_addresses(table, "destination"),
        proto=_protocols(table, "proto"),
        sport=_numbers(table, "sport", _ports, 65535),
        dport=_numbers(table, "dport", _ports, 65535),
    )
    for key, ports in (("sport", match.sport), ("dport", match.dport)):
        if ports is not None and not match.only_protocols(WITH_PORTS):
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


def mark_of(table: Table) -> Masked | None:
    """A packet mark. Its mask is 0 if none is given: `free_marks` sets it."""
    return read(table, "mark", _mark)


def free_marks(tables: list[Table], matches: list[Match], own: int) -> None:
    """A mark without a mask means the bits that the daemon does not write (own). A rule cannot match those."""
    for table, match in zip(tables, matches, strict=True):
        if match.mark is None:
            continue
        match.mark.mask = match.mark.mask or M32 & ~own
        if (match.mark.mask | match.mark.value) & own:
            table.wrong("mark", f"has bits of steering.mark_mask ({own:#x}), which the daemon writes")


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
    return None if value is ABSENT else read_value(table, key, value, reader)


def read_value(table: Table, key: str, value: object, reader: Callable[[str], T]) -> T | None:
    """The same for one value of the key."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str):
        table.wrong(key, "must be a string")
        return None
    if not text:
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


def read_set(table: Table, key: str, reader: Callable[[str], list[T]]) -> tuple[list[T], bool] | None:
    """What the texts of a list, or the one text, contain, and whether they are inverted; None when absent or wrong."""
    value = table.value(key)
    if value is ABSENT:
        return None
    items = value if isinstance(value, list) else [value]
    if not items:
        table.wrong(key, "must not be empty")
        return None
    found: list[T] = []
    inverted: set[bool] = set()
    for item in items:
        one = read_value(table, key, item, lambda text: (reader(negation(text)[0]), negation(text)[1]))
        if one is None:
            return None
        found += one[0]
        inverted.add(one[1])
    if len(inverted) > 1:
        table.wrong(key, "is inverted in part: write ! before each item of the list or before none")
        return None
    return found, inverted == {True}


def _interfaces(table: Table, key: str) -> InterfaceNames | None:
    found = read_set(table, key, _interface)
    return None if found is None else InterfaceNames(*found)


def _interface(name: str) -> list[str]:
    if why := wrong_name(name):
        raise ValueError(why)
    return [name]


def _addresses(table: Table, key: str) -> Addresses | None:
    found = read_set(table, key, network_of)
    if found is None:
        return None
    if len({len(bound) for bound in found[0]}) > 1:
        table.wrong(key, "mixes IPv4 and IPv6")
        return None
    return addresses(*found)


def network_of(text: str) -> list[bytes]:
    if "-" in text:
        return address_range(text)
    try:
        return network(text)
    except AddressError as error:
        gaps = "gaps" in str(error)
        why = "has a netmask with gaps" if gaps else "must be an address, address/prefix or address/netmask"
        raise ValueError(why) from None


def _protocols(table: Table, key: str) -> Numbers | None:
    """None for `all`."""
    if table.value(key) == "all":
        return None
    return _numbers(table, key, _protocol, 255)


def _protocol(text: str) -> list[int]:
    number = protocol("icmpv6" if text.lower() == "icmp6" else text.lower())
    return [number, number]


def _numbers(table: Table, key: str, reader: Callable[[str], list[int]], most: int) -> Numbers | None:
    found = read_set(table, key, reader)
    return None if found is None else numbers(*found, most)


def _ports(text: str) -> list[int]:
    return colon_range(text, 65535, "port")


def _mark(text: str) -> Masked:
    """`value` or `value/mask`."""
    text, invert = negation(text)
    value, slash, mask = text.partition("/")
    found = Masked(integer(value, M32, "mark"), integer(mask, M32, "mask") if slash else 0, invert)
    if slash and (not found.mask or found.value & ~found.mask):
        raise ParseError("has bits outside its mask" if found.mask else "has a mask of 0")
    return found
