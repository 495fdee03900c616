"""The targets of a DNAT rule that balances, and which of them a new connection gets.

By source: every connection of a source goes to the same target. A target that goes down, comes or leaves moves only
the sources that it gains or loses (rendezvous hashing with weights). The choice is the same after a restart and on
another router with the same rule. At random: each connection anew. Both in proportion to the weights.
A target that is down gets no new connections. Bound: MOST_TARGETS, all looked at once a connection.
"""

from math import log
from typing import Final, final

from conntrackd_py.conntrack.randomness import Randomness
from conntrackd_py.nat.range import Range, fnv

MOST_TARGETS: Final = 64
MOST_WEIGHT: Final = 100
M32: Final = 0xFFFFFFFF


@final
class Target:
    """name: its address and port, as in the configuration."""

    def __init__(self, to: Range, weight: int, name: str) -> None:
        self.to = to
        self.weight = weight
        self.name = name
        self.key = fnv(to.low + to.high + to.port_low.to_bytes(2, "big"))
        self.down = False
        self.connections = 0  # new ones, since the rule is in force

    def named(self, address: bytes, port: int) -> bool:
        """Whether an operator means this target. port 0: any."""
        return self.to.has_address(address) and port in (0, self.to.port_low)

    def score(self, source: int) -> float:
        """The lowest score of all targets wins. source: a hash."""
        number = (source ^ self.key) * 0x85EBCA6B & M32
        number = (number ^ number >> 13) * 0xC2B2AE35 & M32
        number ^= number >> 16
        return -log((number + 1) / (M32 + 2)) / self.weight


@final
class Targets:
    def __init__(self, targets: list[Target], by_source: bool) -> None:
        self.targets = targets
        self.by_source = by_source

    def choose(self, source: bytes, randomness: Randomness) -> Target | None:
        """The target of a new connection of this source; None if all are down."""
        return self._of_source(fnv(source)) if self.by_source else self._at_random(randomness)

    def _of_source(self, source: int) -> Target | None:
        best: Target | None = None
        least = 0.0
        for target in self.targets:
            if target.down:
                continue
            score = target.score(source)
            if best is None or score < least:
                best, least = target, score
        return best

    def _at_random(self, randomness: Randomness) -> Target | None:
        total = 0
        for target in self.targets:
            if not target.down:
                total += target.weight
        if not total:
            return None
        left = randomness.below(total)
        for target in self.targets:
            if target.down:
                continue
            left -= target.weight
            if left < 0:
                return target
        return None

    def keep(self, before: "Targets") -> None:
        """After a reload: a target that was down is down."""
        down = {target.name: target.down for target in before.targets}
        for target in self.targets:
            target.down = target.down or down.get(target.name, False)
