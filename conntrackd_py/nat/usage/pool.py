"""The counters of one NAT rule, and its ports in use.

The pool of a source rule is its ports (ids, for ICMP) on each of its outer addresses.
"""

from typing import Final, final

UNPRIVILEGED: Final = (1024, 65535)
IDS: Final = (0, 65535)  # of ICMP


@final
class PoolUsage:
    """Ports in use of one pool and protocol. low, high: the first and last port that count."""

    def __init__(self, low: int, high: int) -> None:
        self.low = low
        self.high = high
        self.ports = 0  # in use, over all outer addresses
        self.fullest = 0  # in use at the fullest outer address
        self.levels: dict[int, int] = {}  # ports in use -> number of outer addresses; empty while at most one has any

    def moved(self, before: int, after: int) -> None:
        """The ports in use at one outer address went from `before` to `after`, down by at most one."""
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
    def __init__(self) -> None:
        self.connections = 0  # first packets that matched the rule
        self.allocations = 0  # of these, translated
        self.failures = 0  # of these, refused: no free port
        self.limited = 0  # of these, because the host has used the ports of its blocks or its slice
        self.usage: dict[int, PoolUsage] = {}  # by protocol number
