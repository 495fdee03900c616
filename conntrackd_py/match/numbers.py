"""A set of numbers (ports, protocols, marks), possibly inverted (`!`).

`bounds` are inclusive ranges, `low, high, low, high, ...`, sorted and without overlap: equal sets are equal lists.
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
        at = bisect_left(bounds, number)  # odd: above a low bound, at most its high bound
        within = at % 2 == 1 or (at < len(bounds) and bounds[at] == number)
        return within != self.invert

    def only(self) -> int:
        """The number, if the set is exactly one; otherwise -1."""
        bounds = self.bounds
        return bounds[0] if not self.invert and bounds[0] == bounds[-1] else -1

    def within(self, allowed: tuple[int, ...]) -> bool:
        """Whether every number of the set is allowed; an inverted set never."""
        if self.invert:
            return False
        for at in range(0, len(self.bounds), 2):
            for number in range(self.bounds[at], self.bounds[at + 1] + 1):
                if number not in allowed:
                    return False
        return True


@final
class Masked:
    """Numbers whose bits of the mask are those of the value, or (inverted) are not (`-m mark`)."""

    def __init__(self, value: int, mask: int, invert: bool = False) -> None:
        self.value = value
        self.mask = mask
        self.invert = invert

    def has(self, number: int) -> bool:
        return (number & self.mask == self.value) != self.invert


def numbers(bounds: list[int], invert: bool, most: int) -> Numbers:
    """The set in canonical form: an inverted range at either edge of 0..most becomes the plain range of the rest."""
    joined = join(bounds)
    if invert and len(joined) == 2 and joined != [0, most]:
        if joined[0] == 0:
            return Numbers([joined[1] + 1, most])
        if joined[1] == most:
            return Numbers([0, joined[0] - 1])
    return Numbers(joined, invert)


def exactly(bounds: list[int], invert: bool) -> Numbers:
    """The set of these values of a bit mask; an inverted one stays inverted."""
    return Numbers(join(bounds), invert)


def join(bounds: list[int]) -> list[int]:
    """The same ranges sorted, overlapping and adjacent ones merged."""
    pairs = sorted([(bounds[at], bounds[at + 1]) for at in range(0, len(bounds), 2)])
    joined: list[int] = []
    for low, high in pairs:
        if joined and low <= joined[-1] + 1:
            joined[-1] = max(joined[-1], high)
        else:
            joined += [low, high]
    return joined
