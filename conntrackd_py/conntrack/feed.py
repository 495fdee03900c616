"""The feed: what a standby must still be told, by slot, the newest record of each.

A connection that changes ten times before the feed is read is in it once. Bound: `most` slots; `lost` counts changes
that did not fit: the standby needs a snapshot then. Side records of the journal have the numbers -1, -2 and so on.
"""

from collections import OrderedDict
from typing import Final, final

MOST: Final = 65536
ENDED: Final = b""  # the record of a connection that has ended


@final
class Feed:
    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.changed: OrderedDict[int, bytes] = OrderedDict()
        self.lost = 0

    def add(self, slot: int, data: bytes) -> None:
        changed = self.changed
        if len(changed) >= self.most and slot not in changed:
            self.lost += 1
        else:
            changed[slot] = data

    def drain(self, most: int) -> list[tuple[int, bytes]]:
        """At most so many, oldest first."""
        found: list[tuple[int, bytes]] = []
        for _ in range(min(most, len(self.changed))):
            found.append(self.changed.popitem(last=False))
        return found
