"""A listener's event queue: bounded, and honest about what did not fit.

publish never waits for a listener. An event that finds the queue full is counted, and the gap stands in
the stream where it happened, as one line {"lost": n}.
"""

import asyncio
import json
from collections import deque
from typing import Final

from conntrackd_py.conntrack.events import Event
from conntrackd_py.service import view
from conntrackd_py.service.query import FilterError, Query, shown

LIMIT: Final = 8192  # events waiting for one listener
TURN: Final = 64  # lines rendered before the loop gets its turn
KINDS: Final = {"NEW": "NEW", "UPDATES": "UPDATE", "DESTROY": "DESTROY"}

encode: Final = json.JSONEncoder(separators=(",", ":")).encode


class EventLine:
    """One event on its way to all listeners; rendered once, and only if somebody takes it."""

    def __init__(self, event: Event, time: float, accounting: bool, timestamps: bool) -> None:
        self.event = event
        self.time = time
        self.accounting = accounting
        self.timestamps = timestamps
        self._text = ""

    @property
    def text(self) -> str:
        if not self._text:
            self._text = encode({"event": view.event(self.event, self.time, self.accounting, self.timestamps)})
        return self._text


class Subscriber:
    """mask: names of KINDS, or ALL. Raises FilterError for any other."""

    def __init__(self, query: Query, mask: object, limit: int = LIMIT) -> None:
        self.query = query
        self.kinds = parse_mask(mask)
        self.limit = limit
        self.lost_total = 0
        self._lost = 0  # since the last line in the queue
        self._waiting: deque[EventLine | int] = deque()
        self._ready = asyncio.Event()

    def offer(self, line: EventLine) -> None:
        """Queue the event if this listener asked for it, or count it as lost."""
        event = line.event
        if event.kind not in self.kinds or not self.query.matches(event.conn, event):
            return
        if len(self._waiting) >= self.limit:
            self.lose(1)
            return
        if self._lost:
            self._waiting.append(self._lost)
            self._lost = 0
        self._waiting.append(line)
        self._ready.set()

    def lose(self, count: int) -> None:
        """Events are missing from here on in the stream."""
        self._lost += count
        self.lost_total += count
        self._ready.set()

    async def lines(self) -> list[str]:
        """The next lines, at least one, once there are some."""
        await self._ready.wait()
        taken: list[str] = []
        while self._waiting and len(taken) < TURN:
            item = self._waiting.popleft()
            taken.append(encode({"lost": item}) if isinstance(item, int) else item.text)
        if not self._waiting:
            if self._lost:
                taken.append(encode({"lost": self._lost}))
                self._lost = 0
            self._ready.clear()
        return taken


def parse_mask(mask: object) -> frozenset[str]:
    """The kinds of Event meant by ["NEW", "UPDATES", "DESTROY"] or ["ALL"]."""
    if not isinstance(mask, list) or not mask:
        raise FilterError("mask must be a list of NEW, UPDATES, DESTROY, ALL")
    kinds: set[str] = set()
    for name in mask:
        if name == "ALL":
            kinds |= set(KINDS.values())
        elif isinstance(name, str) and name in KINDS:
            kinds.add(KINDS[name])
        else:
            raise FilterError(f"unknown event {shown(name)}")
    return frozenset(kinds)
