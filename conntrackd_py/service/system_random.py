"""The daemon's randomness: the system's, taken in large pieces because each call into the kernel costs 1 us."""

import os
from typing import Final, final

from conntrackd_py.conntrack.randomness import Randomness

POOL: Final = 4096  # bytes
EACH: Final = 8  # bytes a number: what the remainder favours is then one in 2^32 at most


@final
class SystemRandom(Randomness):
    def __init__(self) -> None:
        self.pool = b""
        self.at = 0

    def below(self, limit: int) -> int:
        if self.at >= len(self.pool):
            self.pool = os.urandom(POOL)
            self.at = 0
        number = int.from_bytes(self.pool[self.at : self.at + EACH])
        self.at += EACH
        return number % limit
