"""A histogram of times, with bounds from 1 microsecond to 100 milliseconds."""

from bisect import bisect_left
from typing import Final, final

US: Final = 1_000  # nanoseconds
BOUNDS: Final = tuple(digit * 10**power * US for power in range(6) for digit in (1, 2, 5))[:16]


@final
class Histogram:
    """counts: of times up to each bound and above the previous one; the last: above all. sum: nanoseconds."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.sum = 0

    def observe(self, nanoseconds: int) -> None:
        self.counts[bisect_left(BOUNDS, nanoseconds)] += 1
        self.sum += nanoseconds
