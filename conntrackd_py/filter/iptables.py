"""Ct expressions in iptables' syntax: `-m conntrack`, `-m connmark` and the old `-m state` -> Expr.

All `-m` must match, and all conditions of one `-m`; for packets without a connection see match.expr. `--ctstatus NONE`
has no bit and so never matches, as in the kernel.
"""

from typing import Final, final

from conntrackd_py.const import (
    IPS_ASSURED,
    IPS_CONFIRMED,
    IPS_DST_NAT,
    IPS_EXPECTED,
    IPS_SEEN_REPLY,
    IPS_SRC_NAT,
    ORIGINAL,
    REPLY,
)
from conntrackd_py.match.address import addresses
from conntrackd_py.match.expr import (
    DIRECTION,
    DIRECTIONS,
    EITHER,
    EXPIRATION,
    LARGEST,
    MARK,
    PROTO_DST,
    PROTO_SRC,
    PROTOCOL,
    STATE_DNAT,
    STATE_ESTABLISHED,
    STATE_INVALID,
    STATE_NAT,
    STATE_NEW,
    STATE_RELATED,
    STATE_SNAT,
    STATE_UNTRACKED,
    STATUS,
    Address,
    Conntrack,
    Expr,
    Number,
    State,
    Term,
)
from conntrackd_py.match.numbers import exactly, numbers
from conntrackd_py.match.words import ParseError, address_range, colon_range, integer, lookup, protocol

STATES: Final = {
    "INVALID": STATE_INVALID,
    "NEW": STATE_NEW,
    "ESTABLISHED": STATE_ESTABLISHED,
    "RELATED": STATE_RELATED,
    "UNTRACKED": STATE_UNTRACKED,
    "SNAT": STATE_SNAT,
    "DNAT": STATE_DNAT,
}
STATUSES: Final = {
    "NONE": 0,
    "EXPECTED": IPS_EXPECTED,
    "SEEN_REPLY": IPS_SEEN_REPLY,
    "ASSURED": IPS_ASSURED,
    "CONFIRMED": IPS_CONFIRMED,
}
STATUS_OF_STATE: Final = {STATE_SNAT: IPS_SRC_NAT, STATE_DNAT: IPS_DST_NAT, STATE_NAT: IPS_SRC_NAT | IPS_DST_NAT}
MATCHES: Final = ("conntrack", "connmark", "state")
OPTION_OF: Final = {"state": "--state", "connmark": "--mark"}  # of the matches with a single option
ADDRESS_OPTIONS: Final = {
    "--ctorigsrc": (ORIGINAL, True),
    "--ctorigdst": (ORIGINAL, False),
    "--ctreplsrc": (REPLY, True),
    "--ctrepldst": (REPLY, False),
}
PORT_OPTIONS: Final = {
    "--ctorigsrcport": (ORIGINAL, PROTO_SRC),
    "--ctorigdstport": (ORIGINAL, PROTO_DST),
    "--ctreplsrcport": (REPLY, PROTO_SRC),
    "--ctrepldstport": (REPLY, PROTO_DST),
}
OPTIONS: Final = (
    "--ctstate",
    "--ctstatus",
    "--ctdir",
    "--ctproto",
    "--ctexpire",
    *ADDRESS_OPTIONS,
    *PORT_OPTIONS,
)


@final
class Block:
    """The terms of one `-m`, by their options."""

    def __init__(self, match: str) -> None:
        self.match = match
        self.options: list[str] = []
        self.found: list[Term] = []

    def knows(self, option: str) -> bool:
        return option in OPTIONS if self.match == "conntrack" else option == OPTION_OF[self.match]

    def terms(self) -> list[Term]:
        """The terms in canonical form."""
        for one in self.found:
            if isinstance(one, State) and one.holds_unattached() and len(self.found) > 1:
                return [Conntrack(one, [other for other in self.found if other is not one])]
        return self.found


def parse(text: str) -> Expr:
    """The expression: one or more `-m`, each with its options. Raises ParseError."""
    words = text.split()
    blocks: list[Block] = []
    at = 0
    while at < len(words):
        invert = words[at] == "!"
        at += 1 if invert else 0
        option = words[at] if at < len(words) else ""
        value = words[at + 1] if at + 1 < len(words) else ""
        at += 2
        if option in ("-m", "--match") and not invert:
            if value not in MATCHES:
                raise ParseError(f"no such match: -m {value}", value, MATCHES)
            blocks.append(Block(value))
        else:
            _add(blocks, option, value, invert)
    terms: list[Term] = []
    for block in blocks:
        if not block.found:
            raise ParseError(f"-m {block.match} has no condition")
        terms += block.terms()
    return Expr(terms)


def _add(blocks: list[Block], option: str, value: str, invert: bool) -> None:
    if not option.startswith("-"):
        raise ParseError(f"expected an option, found {option or 'the end of the text'}", option)
    if not blocks or not blocks[-1].knows(option):
        if option in OPTIONS:
            raise ParseError(f"{option} needs -m conntrack before it", option)
        raise ParseError(f"no such option: {option}", option, OPTIONS)
    block = blocks[-1]
    if option in block.options:
        raise ParseError(f"{option} can be used only once in one -m", option)
    if not value or value == "!":
        raise ParseError(f"{option} needs a value", option)
    block.options.append(option)
    block.found.append(_term(option, value, invert))


def _term(option: str, value: str, invert: bool) -> Term:
    if option in ("--ctstate", "--state"):
        return _state(_bits(value, STATES, "state"), invert)
    if option in ADDRESS_OPTIONS:
        direction, source = ADDRESS_OPTIONS[option]
        return Address(direction, source, addresses(address_range(value), invert))
    if option in PORT_OPTIONS:
        direction, key = PORT_OPTIONS[option]
        return Number(key, direction, LARGEST[key], numbers(colon_range(value, 65535, "port"), invert, 65535))
    if option == "--ctstatus":
        return Number(STATUS, EITHER, _bits(value, STATUSES, "status"), exactly([0, 0], not invert))
    if option == "--ctdir":
        number = lookup(value, DIRECTIONS, "direction")
        return _number(DIRECTION, [number, number], invert)
    if option == "--ctproto":
        number = protocol(value.lower())
        return _number(PROTOCOL, [number, number], invert)
    if option == "--ctexpire":
        bounds = colon_range(value, LARGEST[EXPIRATION] // 1000, "number of seconds")
        return _number(EXPIRATION, [bounds[0] * 1000, min(bounds[1] * 1000 + 999, LARGEST[EXPIRATION])], invert)
    text, _, mask = value.partition("/")
    bits = integer(mask, LARGEST[MARK], "mask") if mask else LARGEST[MARK]
    mark = integer(text, LARGEST[MARK], "mark")
    return Number(MARK, EITHER, bits, numbers([mark, mark], invert, LARGEST[MARK]))


def _number(key: int, bounds: list[int], invert: bool) -> Number:
    return Number(key, EITHER, LARGEST[key], numbers(bounds, invert, LARGEST[key]))


def _state(mask: int, invert: bool) -> Term:
    if mask in STATUS_OF_STATE and not invert:
        return Number(STATUS, EITHER, STATUS_OF_STATE[mask], exactly([0, 0], True))
    return State(mask, invert)


def _bits(value: str, known: dict[str, int], what: str) -> int:
    bits = 0
    for word in value.split(","):
        if word.upper() not in known:
            raise ParseError(f"no such {what}: {word}", word, tuple(known))
        bits |= known[word.upper()]
    return bits
