"""The requests of the control socket and what each answers.

A request is one JSON object on one line, {"command": ..., and its arguments}. The answer is lines:

    list    table? filter?   {"ct": {...}}, or {"expect": {...}}, for each, then {"done": n}
    get     filter           {"ct": {...}} of the first that matches, then {"done": 0 or 1}
    delete  filter?          {"ct": {...}} as each was when it ended, then {"done": n}
    flush   table?           {"done": n}
    count   table?           {"count": n, "limit": n}
    stats   table?           {"stats": [{"cpu": 0, "found": n, ...}]}, one a worker
    recent  count?           {"recent": {...}} for each of the last refused packets, oldest first, then {"done": n}
    status, ping             {"status": {...}}, {"pong": version}
    top     hosts? sort? family?    {"top": {...}}: counters, and after a walk the hosts by connections, bytes or new
    events  mask? filter?    {"listening": true}, then {"event": {...}} and {"lost": n} until the client leaves

The table is conntrack, unconfirmed, dying (list only) or expect, whose only filter is the family.
And {"error": text} instead, for anything that cannot be understood; the connection goes on.

A walk over the table takes a bounded turn, then lets packets pass, and only one client's walk is in its
turn at a time. What is created or dies meanwhile may or may not be seen; nothing is seen twice.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from conntrackd_py import __version__
from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.expect import Expectation
from conntrackd_py.const import IPS_CONFIRMED, IPS_DYING
from conntrackd_py.reasons import END_DELETED, END_FLUSHED
from conntrackd_py.service import report, view
from conntrackd_py.service.query import FAMILIES, FilterError, Query, shown
from conntrackd_py.service.recent import note_fields
from conntrackd_py.service.subscriber import Subscriber, encode
from conntrackd_py.service.top import Top

if TYPE_CHECKING:
    from conntrackd_py.service.control import Control

Send = Callable[[list[str]], Awaitable[None]]
Act = Callable[[NfConn], str]
Command = Callable[[Mapping[str, object], Send], Awaitable[Subscriber | None]]

SLOTS_A_TURN: Final = 256
CONNECTIONS_A_TURN: Final = 64  # rendering one costs as much as passing over a hundred slots
TABLES: Final[Mapping[str, Callable[[int], bool]]] = {  # whether a connection with this status belongs there
    "conntrack": lambda status: status & (IPS_CONFIRMED | IPS_DYING) == IPS_CONFIRMED,
    "unconfirmed": lambda status: status & (IPS_CONFIRMED | IPS_DYING) == 0,
    "dying": lambda status: status & IPS_DYING != 0,
}
EXPECT: Final = "expect"
WHOLE_TABLES: Final = ("conntrack", EXPECT)
STATS: Final = (
    *("found", "invalid", "insert", "insert_failed", "drop", "early_drop", "error"),
    *("search_restart", "clash_resolve", "chaintoolong"),
)


class RequestError(ValueError):
    """What is wrong with a request, in words for the one who sent it."""


class Commands:
    """Answers requests about one engine."""

    def __init__(self, control: "Control") -> None:
        self.control = control
        self.core = control.engine.core
        self.turn = asyncio.Lock()
        self.tops = Top(control, self.turn)
        self.by_name: dict[str, tuple[Command, frozenset[str]]] = {
            "list": (self.show, frozenset({"table", "filter"})),
            "get": (self.get, frozenset({"filter"})),
            "delete": (self.delete, frozenset({"filter"})),
            "flush": (self.flush, frozenset({"table"})),
            "count": (self.count, frozenset({"table"})),
            "stats": (self.stats, frozenset({"table"})),
            "status": (self.status, frozenset()),
            "top": (self.top, frozenset({"hosts", "sort", "family"})),
            "ping": (self.ping, frozenset()),
            "recent": (self.recent, frozenset({"count"})),
            "events": (self.events, frozenset({"mask", "filter"})),
        }

    async def run(self, request: object, send: Send) -> Subscriber | None:
        """Answer one request; a Subscriber when it asked for events. Raises RequestError and FilterError."""
        if not isinstance(request, dict):
            raise RequestError("a request is a JSON object")
        name = request.get("command")
        if not isinstance(name, str) or name not in self.by_name:
            raise RequestError(f"unknown command {shown(name)}, one of {', '.join(self.by_name)}")
        command, arguments = self.by_name[name]
        for key in request:
            if key != "command" and key not in arguments:
                raise RequestError(f"{name} takes no argument {shown(key)}")
        return await command(request, send)

    async def show(self, request: Mapping[str, object], send: Send) -> None:
        table = table_of(request, (*TABLES, EXPECT))
        if table == EXPECT:
            await self._answer(self._expectations(query_of(request)), send)
            return
        await self._answer(self._walk(table, query_of(request), self._line), send)

    async def get(self, request: Mapping[str, object], send: Send) -> None:
        if not request.get("filter"):
            raise RequestError("get needs a filter")
        async for lines in self._walk("conntrack", query_of(request), self._line):
            if lines:
                await send([lines[0], encode({"done": 1})])
                return
        await send([encode({"done": 0})])

    async def delete(self, request: Mapping[str, object], send: Send) -> None:
        await self._answer(self._walk("conntrack", query_of(request), self._delete), send)

    async def flush(self, request: Mapping[str, object], send: Send) -> None:
        if table_of(request, WHOLE_TABLES) == EXPECT:
            known = self.core.expectations.all()
            for expectation in known:
                self.core.expectations.remove(expectation)
            await send([encode({"done": len(known)})])
            return
        flushed = 0
        async for killed in self._walk("conntrack", Query({}), self._flush):
            flushed += len(killed)
        await send([encode({"done": flushed})])

    async def count(self, request: Mapping[str, object], send: Send) -> None:
        known = self.core.expectations
        if table_of(request, WHOLE_TABLES) == EXPECT:
            await send([encode({"count": known.count, "limit": known.limit})])
        else:
            await send([encode({"count": len(self.core.table), "limit": self.core.limit})])

    async def stats(self, request: Mapping[str, object], send: Send) -> None:
        if table_of(request, WHOLE_TABLES) == EXPECT:
            known = self.core.expectations
            made = {"cpu": 0, "expect_new": 0, "expect_create": known.created, "expect_delete": known.deleted}
            await send([encode({"stats": [made]})])
            return
        stats = self.core.stats
        row: dict[str, int] = {"cpu": 0}
        for name in STATS:
            row[name] = getattr(stats, name)
        await send([encode({"stats": [row]})])

    async def status(self, request: Mapping[str, object], send: Send) -> None:
        await send([encode({"status": report.status(self.control)})])

    async def top(self, request: Mapping[str, object], send: Send) -> None:
        await send([encode({"top": await self.tops.answer(request)})])

    async def ping(self, request: Mapping[str, object], send: Send) -> None:
        await send([encode({"pong": __version__})])

    async def recent(self, request: Mapping[str, object], send: Send) -> None:
        remarks = self.control.engine.remarks
        count = request.get("count", remarks.recent.limit)
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise RequestError(f"count is a number of packets, not {shown(count)}")
        offset = self.control.epoch()
        notes = remarks.recent.last(count)
        for at in range(0, len(notes), CONNECTIONS_A_TURN):
            some = notes[at : at + CONNECTIONS_A_TURN]
            await send([encode({"recent": note_fields(note, offset + note.at / 1000)}) for note in some])
            await asyncio.sleep(0)
        await send([encode({"done": len(notes)})])

    async def events(self, request: Mapping[str, object], send: Send) -> Subscriber:
        return Subscriber(query_of(request), request.get("mask", ["ALL"]))

    def _line(self, ct: NfConn) -> str:
        epoch = self.control.epoch() if self.core.timestamps else None
        return encode({"ct": view.connection(ct, self.control.clock(), self.core.accounting, epoch)})

    def _delete(self, ct: NfConn) -> str:
        line = self._line(ct)
        self.core.kill(ct, END_DELETED, self.control.clock())
        return line

    def _flush(self, ct: NfConn) -> str:
        self.core.kill(ct, END_FLUSHED, self.control.clock())
        return ""

    async def _answer(self, walk: AsyncIterator[list[str]], send: Send) -> None:
        count = 0
        async for lines in walk:
            count += len(lines)
            await send(lines)
        await send([encode({"done": count})])

    async def _walk(self, table: str, query: Query, act: Act) -> AsyncIterator[list[str]]:
        """What act says of each matching connection, a turn at a time. A slow reader delays only itself."""
        slots = self._slots(table)
        at = 0
        while at < len(slots):
            async with self.turn:
                lines, at = self._turn(slots, at, table, query, act)
                if self.core.events.waiting:  # a flush ends more connections than the engine's queue holds events
                    self.control.publish(self.control.engine.drain_events())
                await asyncio.sleep(0)
            yield lines

    def _turn(self, slots: Sequence[int], at: int, table: str, query: Query, act: Act) -> tuple[list[str], int]:
        lines: list[str] = []
        end = min(at + SLOTS_A_TURN, len(slots))
        while at < end and len(lines) < CONNECTIONS_A_TURN:
            ct = self.core.table.at(slots[at])
            at += 1
            if ct is not None and TABLES[table](ct.status) and query.matches(ct, ct):
                lines.append(act(ct))
        return lines, at

    async def _expectations(self, query: Query) -> AsyncIterator[list[str]]:
        """Those there were at the beginning, as far as they have not gone meanwhile."""
        if query.spec.keys() - {"family"}:
            raise FilterError("expectations can be filtered by their family only")
        length = FAMILIES.get(str(query.spec.get("family")), 0)
        known = self.core.expectations.all()
        for at in range(0, len(known), CONNECTIONS_A_TURN):
            async with self.turn:
                some = known[at : at + CONNECTIONS_A_TURN]
                lines = [self._expectation(one) for one in some if self._waits(one, length)]
                await asyncio.sleep(0)
            yield lines

    def _waits(self, known: Expectation, length: int) -> bool:
        if length not in (0, tuples.address_length(known.tuple)) or known.until <= self.control.clock():
            return False
        return known in self.core.expectations.by_master.get(known.master.slot, ())

    def _expectation(self, known: Expectation) -> str:
        return encode({"expect": view.expectation(known, self.control.clock())})

    def _slots(self, table: str) -> Sequence[int]:
        """Where to look. As many as there are now: a table that grows does not make a walk endless."""
        if table == "unconfirmed":
            return list(self.core.table.unconfirmed)
        if table == "dying":
            return list(self.core.table.dying)
        return range(len(self.core.table.slots))


def table_of(request: Mapping[str, object], tables: Sequence[str]) -> str:
    """The request's table. Raises RequestError when it is none of these."""
    table = request.get("table", "conntrack")
    if not isinstance(table, str) or table not in tables:
        raise RequestError(f"unknown table {shown(table)}, one of {', '.join(tables)}")
    return table


def query_of(request: Mapping[str, object]) -> Query:
    """The request's filter, or one that matches everything."""
    spec = request.get("filter", {})
    if not isinstance(spec, dict):
        raise FilterError(f"a filter is a JSON object, not {shown(spec)}")
    return Query(spec)
