"""A dict with keys of bytes, in PARTS parts.

A dict copies itself when it grows, and from time to time while keys come and go. No packet passes meanwhile: 80 ms
with 700,000 keys. A part of a table of a million connections copies itself in about a millisecond.
The part follows from the key's hash, whose secret differs in each process: a sender cannot fill one part. It follows
from high bits: a dict begins its search with the low ones, and must not find them equal in all its keys.
"""

from typing import Final, Generic, TypeVar, final

from mypy_extensions import i64

PARTS: Final = 256
PART_AT: Final = 48  # lowest bit of the hash that chooses the part

V = TypeVar("V")


@final
class SplitDict(Generic[V]):
    def __init__(self) -> None:
        self.parts: list[dict[bytes, V]] = [{} for _ in range(PARTS)]

    def part(self, key: bytes) -> dict[bytes, V]:
        return self.parts[i64(hash(key)) >> PART_AT & (PARTS - 1)]

    def get(self, key: bytes) -> V | None:
        return self.part(key).get(key)

    def setdefault(self, key: bytes, value: V) -> V:
        return self.part(key).setdefault(key, value)

    def discard(self, key: bytes, value: V) -> None:
        """Delete the key if it has this very value."""
        part = self.part(key)
        if part.get(key) is value:
            del part[key]

    def __getitem__(self, key: bytes) -> V:
        return self.part(key)[key]

    def __setitem__(self, key: bytes, value: V) -> None:
        self.part(key)[key] = value

    def __delitem__(self, key: bytes) -> None:
        del self.part(key)[key]

    def __contains__(self, key: bytes) -> bool:
        return key in self.part(key)

    def __len__(self) -> int:
        """Reads the length of each part: for reports and tests."""
        return sum([len(part) for part in self.parts])

    def items(self) -> list[tuple[bytes, V]]:
        """All of them, in one list: for small tables and tests."""
        return [item for part in self.parts for item in part.items()]
