"""Expr -> `-m conntrack` and `-m connmark` options; iptables.parse reads the same expression back."""

from typing import Final

from conntrackd_py.const import IPS_DST_NAT, IPS_SRC_NAT, REPLY
from conntrackd_py.filter.iptables import ADDRESS_OPTIONS, PORT_OPTIONS, STATES, STATUSES
from conntrackd_py.match.address import range_text
from conntrackd_py.match.expr import (
    DIRECTION,
    EXPIRATION,
    LARGEST,
    MARK,
    PROTO_DST,
    PROTO_SRC,
    PROTOCOL,
    STATUS,
    Address,
    Conntrack,
    Expr,
    Number,
    State,
    Term,
)
from conntrackd_py.match.numbers import Numbers
from conntrackd_py.match.words import Inexpressible, protocol_name

IPS_NAT: Final = IPS_SRC_NAT | IPS_DST_NAT


def text(expr: Expr) -> str:
    """Raises Inexpressible when iptables has no option for it."""
    words: list[str] = []
    used: list[str] = []  # options of the last -m conntrack
    alone = True  # whether the next term needs a -m of its own
    for term in expr.terms:
        if isinstance(term, Conntrack):
            inner = " ".join([_option(one) for one in [term.state, *term.others]])
            words.append(f"-m conntrack {inner}")
            alone = True
            continue
        option = _option(term)
        name = option.removeprefix("! ").split()[0]
        if name == "--mark":
            words.append(f"-m connmark {option}")
            alone = True
            continue
        answers_alone = isinstance(term, State) and term.holds_unattached()
        if alone or answers_alone or name in used:
            words.append("-m conntrack")
            used = []
        words.append(option)
        used.append(name)
        alone = answers_alone
    return " ".join(words)


def _option(term: Term) -> str:
    if isinstance(term, State):
        return f"{_not(term.invert)}--ctstate {_words(term.mask, STATES)}"
    if isinstance(term, Address):
        return _address(term)
    if isinstance(term, Number):
        if term.key == STATUS:
            return _status(term)
        if term.mask != LARGEST[term.key] and term.key != MARK:
            raise Inexpressible("iptables has a mask only for marks")
        return _number(term)
    raise Inexpressible("iptables has no nested matches")


def _not(invert: bool) -> str:
    return "! " if invert else ""


def _words(mask: int, known: dict[str, int]) -> str:
    return ",".join([word for word, bit in known.items() if mask & bit])


def _address(term: Address) -> str:
    bounds = term.addresses.bounds
    value = range_text(bounds[0], bounds[1])
    if len(bounds) > 2 or "-" in value:
        raise Inexpressible("iptables matches one address or prefix of a connection, no range or set")
    for option, (direction, source) in ADDRESS_OPTIONS.items():
        if (direction, source) == (term.direction, term.source):
            return f"{_not(term.addresses.invert)}{option} {value}"
    raise Inexpressible("iptables needs a direction")


def _status(term: Number) -> str:
    if term.numbers.bounds != [0, 0] or term.mask == LARGEST[STATUS]:
        raise Inexpressible("iptables matches only if one of some status bits is set")
    if term.mask & IPS_NAT:
        if term.mask & ~IPS_NAT or not term.numbers.invert:
            raise Inexpressible("iptables counts SNAT and DNAT among the states")
        return f"--ctstate {_words((term.mask & IPS_NAT) << 3, STATES)}"
    words = _words(term.mask, STATUSES)
    if sum([bit for bit in STATUSES.values() if term.mask & bit]) != term.mask:
        raise Inexpressible("iptables knows the status bits EXPECTED, SEEN_REPLY, ASSURED and CONFIRMED")
    return f"{_not(not term.numbers.invert)}--ctstatus {words or 'NONE'}"


def _number(term: Number) -> str:
    found = term.numbers
    if len(found.bounds) > 2:
        raise Inexpressible("iptables has no sets")
    low, high = found.bounds
    if not found.invert and term.key in (MARK, PROTOCOL) and high - low == LARGEST[term.key] - 1:
        low = high = LARGEST[term.key] if low == 0 else 0  # all but one
        found = Numbers([low, high], True)
    invert = _not(found.invert)
    if term.key == MARK:
        return _mark(term.mask, found)
    if term.key in (PROTO_SRC, PROTO_DST):
        for option, (direction, key) in PORT_OPTIONS.items():
            if (direction, key) == (term.direction, term.key):
                return f"{invert}{option} {_range(low, high)}"
    if term.key == EXPIRATION and low % 1000 == 0 and (high % 1000 == 999 or high == LARGEST[EXPIRATION]):
        return f"{invert}--ctexpire {_range(low // 1000, high // 1000)}"
    if low == high and term.key == DIRECTION:
        return f"{invert}--ctdir {'REPLY' if low == REPLY else 'ORIGINAL'}"
    if low == high and term.key == PROTOCOL:
        return f"{invert}--ctproto {protocol_name(low)}"
    raise Inexpressible("iptables has no option for it")


def _mark(bits: int, found: Numbers) -> str:
    low, high = found.bounds
    if low != high:
        raise Inexpressible("iptables compares a mark with one value")
    mask = f"/{bits:#x}" if bits != LARGEST[MARK] else ""
    return f"{_not(found.invert)}--mark {low:#x}{mask}"


def _range(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}:{high}"
