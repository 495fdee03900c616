"""Port blocks: each inside address has outer ports of its own, in blocks (RFC 6888, requirement 14; RFC 7422 2).

The engine's blocks are `engine.nat.blocks`.
"""

from typing import Final, final

MOST_EVENTS: Final = 65_536


@final
class BlockEvent:
    """A block was allocated or released. inside, outer: 4 or 16 bytes; low, high: its first and last port.

    label: of the rule, for example `nat[2]`. when: engine time, in ms.
    """

    def __init__(
        self, allocated: bool, inside: bytes, outer: bytes, low: int, high: int, label: str, when: int
    ) -> None:
        self.allocated = allocated
        self.inside = inside
        self.outer = outer
        self.low = low
        self.high = high
        self.label = label
        self.when = when


@final
class Blocks:
    """All blocks of all rules. While `recording`, each change is an event, MOST_EVENTS at most between two drains."""

    def __init__(self) -> None:
        self.recording = False
        self.events: list[BlockEvent] = []
        self.events_lost = 0  # not recorded: `events` was full

    def drain_events(self) -> list[BlockEvent]:
        """The events since the last call, oldest first."""
        events, self.events = self.events, []
        return events
