"""What one NAT rule did, and how many of the ports it may choose are in use. Plain integers; nothing here decides.

The pool of a source rule is its ports (ids, for ICMP) on each of its outer addresses.
"""

from typing import Final, final

UNPRIVILEGED: Final = (1024, 65535)
IDS: Final = (0, 65535)  # of ICMP


@final
class Use:
    """Ports in use of one pool and protocol. low, high: the first and last port that count."""

    def __init__(self, low: int, high: int) -> None:
        self.low = low
        self.high = high
        self.ports = 0  # in use, over all outer addresses
        self.fullest = 0  # in use at the outer address where most are
        self.levels: dict[int, int] = {}  # ports in use -> outer addresses with so many; empty while only one has any

    def moved(self, before: int, after: int) -> None:
        """An outer address has `after` ports in use, not `before` any more; down by one at most."""
        levels = self.levels
        if not levels:
            if before == self.ports:  # the only address with any
                self.ports = self.fullest = after
                return
            levels[self.ports] = 1
        self.ports += after - before
        if before:
            left = levels[before] - 1
            if left:
                levels[before] = left
            else:
                del levels[before]
        if after:
            levels[after] = levels.get(after, 0) + 1
        if after > self.fullest or (before == self.fullest and before not in levels):
            self.fullest = after
        if self.fullest == self.ports:
            levels.clear()


@final
class Pool:
    """The counters of one NAT rule."""

    def __init__(self) -> None:
        self.connections = 0  # whose first packet matched the rule
        self.allocations = 0  # of these, those whose address or port it changed
        self.failures = 0  # of these, those for which no port was free
        self.uses: dict[int, Use] = {}  # by protocol number
