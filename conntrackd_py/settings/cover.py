"""Whether one match covers another: every packet that the second matches, the first matches too.

Only certain answers: False can also mean "not known". A packet that lacks a field never matches a rule with that field,
so a match without a field is not covered by one that has it, whatever its value.
"""

from collections.abc import Callable
from typing import Final, final

from conntrackd_py.match.address import Addresses
from conntrackd_py.match.expr import STATE_ALL, STATE_NAT, Expr, State, Term
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.match.match import Match
from conntrackd_py.match.numbers import Masked, Numbers, join

MOST_RULES: Final = 1000  # of one place that are compared, each with all before it: about 0.1 s
IPV6: Final = 1 << 32  # added to an IPv6 address: no IPv4 address is equal to it

Ranges = list[tuple[int, int]]  # inclusive, not adjacent


@final
class Extent:
    """The packets of a match, in a form that is quick to compare."""

    def __init__(self, match: Match) -> None:
        self.family = match.family
        self.in_interface = match.in_interface
        self.out_interface = match.out_interface
        self.source = _addresses(match.source)
        self.destination = _addresses(match.destination)
        self.proto = _numbers(match.proto, 255)
        self.sport = _numbers(match.sport, 65535)
        self.dport = _numbers(match.dport, 65535)
        self.mark = match.mark
        self.ct = match.ct

    def covers(self, other: "Extent") -> bool:
        return (
            _includes(self.dport, other.dport)
            and _includes(self.source, other.source)
            and _includes(self.destination, other.destination)
            and _includes(self.proto, other.proto)
            and _includes(self.sport, other.sport)
            and self.family in (0, other.family)
            and _interfaces(self.in_interface, other.in_interface)
            and _interfaces(self.out_interface, other.out_interface)
            and _mark(self.mark, other.mark)
            and _ct(self.ct, other.ct)
        )


def unreachable(places: list[list[int]], covered: Callable[[int, int], bool]) -> dict[int, list[int]]:
    """By rule that is covered in every place where it stands, the rules that cover it.

    places: the rules of each place in the order of matching. covered(first, second): whether first leaves nothing to
    second, which comes later in the same place. Of each place only the first MOST_RULES are compared.
    """
    covering: dict[int, list[int | None]] = {}
    for place in places:
        for at, rule in enumerate(place):
            before = place[:at] if at < MOST_RULES else []
            found = next((first for first in before if covered(first, rule)), None)
            covering.setdefault(rule, []).append(found)
    return {
        rule: sorted({first for first in found if first is not None})
        for rule, found in sorted(covering.items())
        if None not in found
    }


def _numbers(found: Numbers | None, most: int) -> Ranges | None:
    return None if found is None else _ranges(found.bounds, found.invert, most)


def _addresses(found: Addresses | None) -> Ranges | None:
    if found is None:
        return None
    bounds = [int.from_bytes(bound, "big") for bound in found.bounds]
    offset = IPV6 if found.length == 16 else 0
    return [(low + offset, high + offset) for low, high in _ranges(bounds, found.invert, (1 << found.length * 8) - 1)]


def _ranges(bounds: list[int], invert: bool, most: int) -> Ranges:
    """The same set, not inverted."""
    joined = join(bounds)
    if invert:
        edges = [-1, *joined, most + 1]
        pairs = [(edges[at] + 1, edges[at + 1] - 1) for at in range(0, len(edges), 2)]
        return [(low, high) for low, high in pairs if low <= high]
    return [(joined[at], joined[at + 1]) for at in range(0, len(joined), 2)]


def _includes(outer: Ranges | None, inner: Ranges | None) -> bool:
    if outer is None or inner is None:
        return outer is None
    for low, high in inner:
        for first, last in outer:
            if first <= low and high <= last:
                break
        else:
            return False
    return True


def _interfaces(outer: InterfaceNames | None, inner: InterfaceNames | None) -> bool:
    if outer is None or inner is None:
        return outer is None
    if outer.invert and inner.invert:
        return all(any(_within(name, other) for other in inner.names) for name in outer.names)
    if outer.invert:
        return not any(_within(a, b) or _within(b, a) for a in outer.names for b in inner.names)
    if inner.invert:
        return "+" in outer.names
    return all(any(_within(name, other) for other in outer.names) for name in inner.names)


def _within(name: str, other: str) -> bool:
    """Whether every interface that matches `name` matches `other`; a final + is any rest of the name."""
    return name == other or (other.endswith("+") and name.removesuffix("+").startswith(other[:-1]))


def _mark(outer: Masked | None, inner: Masked | None) -> bool:
    if outer is None or inner is None:
        return outer is None
    return (outer.value, outer.mask, outer.invert) == (inner.value, inner.mask, inner.invert)


def _ct(outer: Expr | None, inner: Expr | None) -> bool:
    """All terms of an expression hold: each of `outer` must follow from one of `inner`."""
    if outer is None or inner is None:
        return outer is None
    return all(any(_follows(wanted, known) for known in inner.terms) for wanted in outer.terms)


def _follows(wanted: Term, known: Term) -> bool:
    if isinstance(wanted, State) and isinstance(known, State) and not (wanted.mask | known.mask) & STATE_NAT:
        return not _states(known) & ~_states(wanted)
    return wanted.form() == known.form()


def _states(term: State) -> int:
    return STATE_ALL & ~term.mask if term.invert else STATE_ALL & term.mask
