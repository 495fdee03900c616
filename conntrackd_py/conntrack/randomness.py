"""Randomness is an argument: the system's in the daemon, a repeatable sequence in a test."""

from abc import ABC, abstractmethod
from typing import final

from mypy_extensions import mypyc_attr


@mypyc_attr(allow_interpreted_subclasses=True)  # service/system_random.py is not compiled
class Randomness(ABC):
    @abstractmethod
    def below(self, limit: int) -> int:
        """A number from 0 to limit - 1."""


@final
class Repeatable(Randomness):
    """xorshift64: the same seed gives the same numbers. For tests and captures only."""

    def __init__(self, seed: int = 1) -> None:
        self.state = seed & 0xFFFFFFFFFFFFFFF or 1

    def below(self, limit: int) -> int:
        x = self.state
        x ^= x << 13 & 0xFFFFFFFFFFFFFFF
        x ^= x >> 7
        x ^= x << 17 & 0xFFFFFFFFFFFFFFF
        self.state = x
        return (x >> 8) % limit
