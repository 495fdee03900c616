"""Events for subscribers. Each has a bounded queue; where events were dropped, it gets one line {"lost": n}.

publish() only fills the queues; it never waits, and renders nothing.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.events import Event
from conntrackd_py.conntrack.expect import ExpectationEvent
from conntrackd_py.control import view
from conntrackd_py.control.matcher import Matcher, expectation_family
from conntrackd_py.control.protocol.answers import encode
from conntrackd_py.control.protocol.requests import EventName, Filter
from conntrackd_py.engine.engine import Engine

CONNTRACK: Final = "conntrack"
EXPECT: Final = "expect"
LIMIT: Final = 8192  # events in the queue of one subscriber
MOST: Final = 65536  # the largest queue a subscriber gets
TURN: Final = 64  # lines rendered before the loop gets its turn
KINDS: Final = {"NEW": "NEW", "UPDATES": "UPDATE", "DESTROY": "DESTROY"}  # name in a mask -> kind of an event
PROGRAMS: Final = 256  # names kept


class Stream(ABC):
    """Lines for one client, until it closes. head: the first line."""

    head: bytes

    @abstractmethod
    async def lines(self) -> list[bytes]:
        """Wait for the next lines; at least one."""


class EventLine:
    """An event for all subscribers; rendered once, when the first one takes it."""

    def __init__(
        self, event: Event | ExpectationEvent, program: str, render: Callable[[], Mapping[str, object]]
    ) -> None:
        self.event = event
        self.table = CONNTRACK if isinstance(event, Event) else EXPECT
        self.program = program  # of the client whose request caused the event
        self.render = render
        self._text = b""

    @property
    def text(self) -> bytes:
        if not self._text:
            described = {**self.render()}
            if self.event.origin:
                program = {"program": self.program} if self.program else {}
                described["userspace"] = {"pid": self.event.origin, **program}
            self._text = encode({"event": described})
        return self._text


class Subscriber(Stream):
    """Raises RequestError for a filter that makes no sense, or that expectations do not have."""

    def __init__(self, matcher: Matcher, wanted: Filter, mask: tuple[EventName, ...], limit: int, table: str) -> None:
        self.table = table
        self.matcher = matcher
        self.kinds = frozenset(kind for name, kind in KINDS.items() if name in mask or "ALL" in mask)
        self.limit = min(max(limit, 1), MOST)
        self.head = encode({"buffer": self.limit})
        self.lost_total = 0
        self._length = expectation_family(wanted) if table == EXPECT else 0
        self._lost = 0  # since the last line in the queue
        self._waiting: deque[EventLine | int] = deque()
        self._ready = asyncio.Event()

    def offer(self, line: EventLine) -> None:
        """Queue the event if it matches; drop and count it if the queue is full."""
        if line.table != self.table or line.event.kind not in self.kinds or not self._matches(line):
            return
        if len(self._waiting) >= self.limit:
            self.lose(1)
            return
        if self._lost:
            self._waiting.append(self._lost)
            self._lost = 0
        self._waiting.append(line)
        self._ready.set()

    def _matches(self, line: EventLine) -> bool:
        if isinstance(line.event, Event):
            return self.matcher.matches(line.event.conn, line.event)
        return self._length in (0, tuples.address_length(line.event.expectation.tuple))

    def lose(self, count: int) -> None:
        """Report `count` dropped events at this place of the stream."""
        self._lost += count
        self.lost_total += count
        self._ready.set()

    async def lines(self) -> list[bytes]:
        """Wait for the next lines; at least one, TURN and one at most."""
        await self._ready.wait()
        taken: list[bytes] = []
        while self._waiting and len(taken) < TURN:
            item = self._waiting.popleft()
            taken.append(encode({"lost": item}) if isinstance(item, int) else item.text)
        if not self._waiting:
            if self._lost:
                taken.append(encode({"lost": self._lost}))
                self._lost = 0
            self._ready.clear()
        return taken


class Publisher:
    """Moves the engine's events into the queues of the subscribers. clock: the engine's, ms."""

    def __init__(self, engine: Engine, clock: Callable[[], int]) -> None:
        self.engine = engine
        self.clock = clock
        self.subscribers: set[Subscriber] = set()
        self.lost = 0  # events dropped because a subscriber's queue was full
        self.client: ContextVar[int] = ContextVar("client", default=0)  # process whose request is being answered
        self.programs: dict[int, str] = {}  # by process, oldest first
        self._queue_lost = {CONNTRACK: 0, EXPECT: 0}

    def identify(self, pid: int, program: str) -> None:
        """The current task answers this client."""
        self.client.set(pid)
        self.programs[pid] = program
        if len(self.programs) > PROGRAMS:
            del self.programs[next(iter(self.programs))]

    @contextmanager
    def by_client(self) -> Iterator[None]:
        """Events of what happens inside name the current client as their cause."""
        queues = (self.engine.core.events, self.engine.core.expectations.events)
        for queue in queues:
            queue.origin = self.client.get()
        try:
            yield
        finally:
            for queue in queues:
                queue.origin = 0

    def add(self, subscriber: Subscriber) -> None:
        self.subscribers.add(subscriber)
        self._enable()

    def discard(self, subscriber: Subscriber) -> None:
        self.subscribers.discard(subscriber)
        self._enable()

    def _enable(self) -> None:
        tables = {subscriber.table for subscriber in self.subscribers}
        self.engine.core.events.enabled = CONNTRACK in tables
        self.engine.core.expectations.events.enabled = EXPECT in tables

    def publish(self) -> None:
        core = self.engine.core
        if not core.events.waiting and not core.expectations.events.waiting:
            return
        events = self.engine.drain_events()
        expectations = self.engine.drain_expectation_events()
        if self.subscribers:
            offset = view.epoch(self.clock)
            for event in events:
                at = offset + event.at / 1000
                helper = self.engine.helpers.name_of(event.conn)
                self._offer(event, partial(view.event, event, at, core.accounting, core.timestamps, helper))
            for change in expectations:
                self._offer(change, partial(view.expectation_event, change, offset + change.at / 1000))
        self._report_queue_loss()

    def _offer(self, event: Event | ExpectationEvent, render: Callable[[], Mapping[str, object]]) -> None:
        line = EventLine(event, self.programs.get(event.origin, ""), render)
        for subscriber in self.subscribers:
            before = subscriber.lost_total
            subscriber.offer(line)
            self.lost += subscriber.lost_total - before

    def _report_queue_loss(self) -> None:
        """Report events that the engine's own queues dropped to every subscriber of their table."""
        for table, queue in ((CONNTRACK, self.engine.core.events), (EXPECT, self.engine.core.expectations.events)):
            lost = queue.lost - self._queue_lost[table]
            self._queue_lost[table] += lost
            if lost:
                for subscriber in self.subscribers:
                    if subscriber.table == table:
                        subscriber.lose(lost)
