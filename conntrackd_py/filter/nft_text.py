"""Expr -> ct expression in nft's syntax; nft.parse reads the same expression back."""

from conntrackd_py.const import AF_INET, AF_INET6, ORIGINAL, REPLY
from conntrackd_py.filter.nft import KEYS, STATES, STATUSES
from conntrackd_py.match.address import range_text
from conntrackd_py.match.expr import (
    DIRECTION,
    EITHER,
    EXPIRATION,
    L3PROTO,
    LARGEST,
    MARK,
    PROTOCOL,
    STATE_NAT,
    STATUS,
    Address,
    Expr,
    Number,
    State,
    Term,
)
from conntrackd_py.match.numbers import Numbers
from conntrackd_py.match.words import Inexpressible, protocol_name, time_text


def text(expr: Expr) -> str:
    """Raises Inexpressible when nft has no syntax for it."""
    return " ".join([f"ct {_term(term)}" for term in expr.terms])


def _term(term: Term) -> str:
    if isinstance(term, State):
        return _state(term)
    if isinstance(term, Address):
        return _address(term)
    if isinstance(term, Number):
        name = next(word for word, key in KEYS.items() if key == term.key)
        return f"{_direction(term.direction)}{name} {_relation(term)}"
    raise Inexpressible("nft has no separate condition for packets without a connection")


def _direction(direction: int) -> str:
    if direction == EITHER:
        return ""
    return "original " if direction == ORIGINAL else "reply "


def _state(term: State) -> str:
    if term.mask & STATE_NAT:
        raise Inexpressible("nft has no states SNAT and DNAT, only status bits")
    words = ",".join([word for word, bit in STATES.items() if term.mask & bit])
    if not term.invert:
        return f"state {words}"
    return f"state ! {words}" if "," in words else f"state != {words}"


def _address(term: Address) -> str:
    bounds = term.addresses.bounds
    values = [range_text(bounds[at], bounds[at + 1]) for at in range(0, len(bounds), 2)]
    family = "ip" if term.addresses.length == 4 else "ip6"
    name = "saddr" if term.source else "daddr"
    return f"{_direction(term.direction)}{family} {name} {'!= ' if term.addresses.invert else ''}{_set(values)}"


def _set(values: list[str]) -> str:
    return values[0] if len(values) == 1 else "{ " + ", ".join(values) + " }"


def _relation(term: Number) -> str:
    found = term.numbers
    most = LARGEST[term.key]
    if term.key == STATUS and term.mask != most and found.bounds == [0, 0]:
        return _any_bit(term)
    masked = f"& {term.mask:#x} " if term.mask != most else ""
    operator = "!= " if found.invert else ("== " if masked or term.key == STATUS else "")
    if len(found.bounds) == 2 and found.bounds[0] != found.bounds[1] and not found.invert and term.key != STATUS:
        low, high = found.bounds
        if high == most:
            return f"{masked}>= {_value(term.key, low)}"
        if low == 0:
            return f"{masked}<= {_value(term.key, high)}"
    return masked + operator + _set(_ranges(term.key, found))


def _any_bit(term: Number) -> str:
    words = [word for word, bit in STATUSES.items() if term.mask & bit]
    if not term.mask:
        raise Inexpressible("nft cannot match an empty set of status bits")
    if sum([STATUSES[word] for word in words]) != term.mask:
        words = [f"{term.mask:#x}"]
    return ("" if term.numbers.invert else "! ") + ",".join(words)


def _ranges(key: int, found: Numbers) -> list[str]:
    values: list[str] = []
    for at in range(0, len(found.bounds), 2):
        low, high = found.bounds[at], found.bounds[at + 1]
        if key in (STATUS, PROTOCOL, DIRECTION):  # these have no ranges
            values += [_value(key, value) for value in range(low, high + 1)]
        else:
            values.append(_value(key, low) if low == high else f"{_value(key, low)}-{_value(key, high)}")
    return values


def _value(key: int, value: int) -> str:
    if key == EXPIRATION:
        return time_text(value)
    if key == PROTOCOL:
        return protocol_name(value)
    if key == DIRECTION:
        return "reply" if value == REPLY else "original"
    if key == L3PROTO and value in (AF_INET, AF_INET6):
        return "ipv4" if value == AF_INET else "ipv6"
    return f"{value:#x}" if key in (STATUS, MARK) else str(value)
