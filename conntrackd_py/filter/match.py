"""What a rule compares with: sets of numbers, of addresses and of interface names, each possibly inverted.

A set is a list of inclusive ranges, `low, high, low, high, ...`, sorted and without overlap, so that equal sets
are equal lists.
"""

from bisect import bisect_left
from typing import final


@final
class Numbers:
    def __init__(self, bounds: list[int], invert: bool = False) -> None:
        self.bounds = bounds
        self.invert = invert

    def has(self, number: int) -> bool:
        bounds = self.bounds
        at = bisect_left(bounds, number)  # odd: behind a low bound and not behind its high one
        within = at % 2 == 1 or (at < len(bounds) and bounds[at] == number)
        return within != self.invert


def numbers(bounds: list[int], invert: bool, most: int) -> Numbers:
    """The set of these ranges within 0..most, in its one form: what begins or ends the scale is not inverted."""
    joined = _joined(bounds)
    if invert and len(joined) == 2 and joined != [0, most]:
        if joined[0] == 0:
            return Numbers([joined[1] + 1, most])
        if joined[1] == most:
            return Numbers([0, joined[0] - 1])
    return Numbers(joined, invert)


def exactly(bounds: list[int], invert: bool) -> Numbers:
    """The set of these values of a bit mask, where a scale means nothing."""
    return Numbers(_joined(bounds), invert)


def _joined(bounds: list[int]) -> list[int]:
    """Sorted, and as few ranges as possible."""
    pairs = sorted([(bounds[at], bounds[at + 1]) for at in range(0, len(bounds), 2)])
    joined: list[int] = []
    for low, high in pairs:
        if joined and low <= joined[-1] + 1:
            joined[-1] = max(joined[-1], high)
        else:
            joined += [low, high]
    return joined


@final
class Addresses:
    """Of one family, which the length of the bounds tells; a packet of the other one never matches, `!` or not."""

    def __init__(self, bounds: list[bytes], invert: bool = False) -> None:
        self.bounds = bounds
        self.length = len(bounds[0])
        self.invert = invert

    def has(self, address: bytes) -> bool:
        if len(address) != self.length:
            return False
        bounds = self.bounds
        at = bisect_left(bounds, address)
        within = at % 2 == 1 or (at < len(bounds) and bounds[at] == address)
        return within != self.invert


def addresses(bounds: list[bytes], invert: bool = False) -> Addresses:
    """The set of these ranges, all of one family, in its one form."""
    length = len(bounds[0])
    joined = _joined([int.from_bytes(bound, "big") for bound in bounds])
    return Addresses([bound.to_bytes(length, "big") for bound in joined], invert)


@final
class Names:
    """Interface names; `+` at the end matches any continuation, as in iptables."""

    def __init__(self, names: list[str], invert: bool = False) -> None:
        self.names = names
        self.invert = invert

    def has(self, name: str) -> bool:
        """Never for an empty name, `!` or not: there is no such interface at this hook."""
        if not name:
            return False
        for wanted in self.names:
            if name == wanted or (wanted.endswith("+") and name.startswith(wanted[:-1])):
                return not self.invert
        return self.invert
