"""Randomness from the kernel, read in blocks: each read costs 1 us."""

import os
from typing import Final, final

from conntrackd_py.conntrack.randomness import Randomness

POOL: Final = 4096  # bytes
EACH: Final = 8  # bytes a number: the bias of the remainder is below 2^-32


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
