"""A listener's event queue: bounded, and honest about what did not fit.

publish never waits for a listener. An event that finds the queue full is counted, and the gap stands in
the stream where it happened, as one line {"lost": n}.
"""

import asyncio
import json
from collections import deque
from typing import Final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.events import Event
from conntrackd_py.conntrack.expect import ExpectationEvent
from conntrackd_py.control import view
from conntrackd_py.control.query import FAMILIES, FilterError, Query, shown

CONNTRACK: Final = "conntrack"
EXPECT: Final = "expect"
LIMIT: Final = 8192  # events waiting for one listener
MOST: Final = 65536  # whatever a listener asks for
TURN: Final = 64  # lines rendered before the loop gets its turn
KINDS: Final = {"NEW": "NEW", "UPDATES": "UPDATE", "DESTROY": "DESTROY"}

encode: Final = json.JSONEncoder(separators=(",", ":")).encode


class EventLine:
    """One event on its way to all listeners; rendered once, and only if somebody takes it.

    program: whose order caused it, if one did.
    """

    table = CONNTRACK

    def __init__(self, event: Event, time: float, accounting: bool, timestamps: bool, program: str) -> None:
        self.event = event
        self.program = program
        self.time = time
        self.accounting = accounting
        self.timestamps = timestamps
        self._text = ""

    @property
    def text(self) -> str:
        if not self._text:
            described = view.event(self.event, self.time, self.accounting, self.timestamps)
            self._text = encode({"event": described | _origin(self.event.origin, self.program)})
        return self._text

    def asked_for(self, query: Query) -> bool:
        return query.matches(self.event.conn, self.event)


class ExpectationLine:
    """The same for an expectation."""

    table = EXPECT

    def __init__(self, event: ExpectationEvent, time: float, program: str) -> None:
        self.event = event
        self.time = time
        self.program = program

    @property
    def text(self) -> str:
        described = view.expectation_event(self.event, self.time)
        return encode({"event": described | _origin(self.event.origin, self.program)})

    def asked_for(self, query: Query) -> bool:
        length = FAMILIES.get(str(query.spec.get("family")), 0)
        return length in (0, tuples.address_length(self.event.expectation.tuple))


def _origin(pid: int, program: str) -> dict[str, object]:
    if not pid:
        return {}
    return {"userspace": {"pid": pid, "program": program} if program else {"pid": pid}}


class Subscriber:
    """mask: names of KINDS, or ALL. Raises FilterError for any other."""

    def __init__(self, query: Query, mask: object, limit: int = LIMIT, table: str = CONNTRACK) -> None:
        self.table = table
        self.query = query
        self.kinds = parse_mask(mask)
        self.limit = limit
        self.lost_total = 0
        self._lost = 0  # since the last line in the queue
        self._waiting: deque[EventLine | ExpectationLine | int] = deque()
        self._ready = asyncio.Event()

    def offer(self, line: EventLine | ExpectationLine) -> None:
        """Queue the event if this listener asked for it, or count it as lost."""
        if line.table != self.table or line.event.kind not in self.kinds or not line.asked_for(self.query):
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
