"""The requests of the control socket and what each answers.

A request is one JSON object on one line, {"command": ..., and its arguments}. The answer is lines:

    list    table? filter? limit? zero?
                             {"ct": {...}}, or {"expect": {...}}, for each, then {"done": n}
    get     table? tuple     {"ct": {...}} or {"expect": {...}}, then {"done": 1}
    create  table? ct | expect, exclusive?
                             {"ct": {...}} or {"expect": {...}}, then {"done": 1}; {"done": 0} if it is there already
    update  filter? set      {"ct": {...}} for each as it is now, and "failed": why, then {"done": n} without those
    delete  table? filter?   {"ct": {...}} as each was when it ended, then {"done": n}; of expect: tuple
    flush   table? filter?   {"done": n}: as delete, without a line for each
    count   table?           {"count": n, "limit": n}
    stats   table?           {"stats": [{"cpu": 0, "found": n, ...}]}, one a worker
    recent  count?           {"recent": {...}} for each of the last refused packets, oldest first, then {"done": n}
    status, ping             {"status": {...}}, {"pong": version}
    reload  flush_stale?     {"reload": {"restart": [keys], "stale": {"nat": n, "filter": n}, "flushed": n}}
    top     hosts? sort? family?    {"top": {...}}: counters, and after a walk the hosts by connections, bytes or new
    events  table? mask? filter? buffer?
                             {"listening": n}, how many events may wait, then {"event": {...}} and {"lost": n}
                             until the client leaves

The table is conntrack, unconfirmed, dying (list only) or expect, whose only filter is the family. Filters are those of
query.py, what is told of a connection those of spec.py. `zero` sets the counters to zero as they are listed.
And {"error": text} instead, for anything that cannot be understood; the connection goes on.

A walk over the table takes a bounded turn, then lets packets pass, and only one client's walk is in its
turn at a time. What is created or dies meanwhile may or may not be seen; nothing is seen twice.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from conntrackd_py import __version__
from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.change import EXISTS
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.expect import Expectation
from conntrackd_py.const import IPS_CONFIRMED, IPS_DYING
from conntrackd_py.control import status as report
from conntrackd_py.control import view
from conntrackd_py.control.edit import WHY, Editor
from conntrackd_py.control.query import FAMILIES, FilterError, Query, shown
from conntrackd_py.control.refusals import note_fields
from conntrackd_py.control.reloads import ReloadError
from conntrackd_py.control.request import RequestError, object_of, table_of, without, yes
from conntrackd_py.control.spec import RefusedError
from conntrackd_py.control.subscriber import EXPECT, LIMIT, MOST, Subscriber, encode
from conntrackd_py.control.top import Top
from conntrackd_py.explain.stale import CURRENT, STALE_NAMES
from conntrackd_py.reasons import END_DELETED, END_FLUSHED

if TYPE_CHECKING:
    from conntrackd_py.control.server import ControlServer

Send = Callable[[list[str]], Awaitable[None]]
Act = Callable[[NfConn], str]
Command = Callable[[Mapping[str, object], Send], Awaitable[Subscriber | None]]

TURN: Final = 0.00015  # seconds that packets may wait for a walk
PIECE: Final = 16  # slots passed over between two looks at the time
A_TURN: Final = 16  # expectations or refused packets in a turn
TABLES: Final[Mapping[str, Callable[[int], bool]]] = {  # whether a connection with this status belongs there
    "conntrack": lambda status: status & (IPS_CONFIRMED | IPS_DYING) == IPS_CONFIRMED,
    "unconfirmed": lambda status: status & (IPS_CONFIRMED | IPS_DYING) == 0,
    "dying": lambda status: status & IPS_DYING != 0,
}
ENDED: Final = "ended"  # a line for one that is only counted
NO_LIMIT: Final = 1 << 62
NOTHING: Final[Mapping[str, str]] = {}
WHOLE_TABLES: Final = ("conntrack", EXPECT)
STATS: Final = (
    *("found", "invalid", "insert", "insert_failed", "drop", "early_drop", "error"),
    *("search_restart", "clash_resolve", "chaintoolong"),
)


class Commands:
    """Answers requests about one engine."""

    def __init__(self, control: "ControlServer") -> None:
        self.control = control
        self.core = control.engine.core
        self.orders = Editor(control)
        self.turn = asyncio.Lock()
        self.tops = Top(control, self.turn)
        self.by_name: dict[str, tuple[Command, frozenset[str]]] = {
            "list": (self.show, frozenset({"table", "filter", "limit", "zero"})),
            "get": (self.get, frozenset({"table", "tuple"})),
            "create": (self.create, frozenset({"table", "ct", "expect", "exclusive"})),
            "update": (self.update, frozenset({"filter", "set"})),
            "delete": (self.delete, frozenset({"table", "filter", "tuple"})),
            "flush": (self.flush, frozenset({"table", "filter"})),
            "count": (self.count, frozenset({"table"})),
            "stats": (self.stats, frozenset({"table"})),
            "status": (self.status, frozenset()),
            "top": (self.top, frozenset({"hosts", "sort", "family"})),
            "ping": (self.ping, frozenset()),
            "reload": (self.reload, frozenset({"flush_stale"})),
            "recent": (self.recent, frozenset({"count"})),
            "events": (self.events, frozenset({"table", "mask", "filter", "buffer"})),
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
        limit = request.get("limit", NO_LIMIT)
        if type(limit) is not int or limit < 0:
            raise RequestError(f"limit is a number of entries, not {shown(limit)}")
        if table == EXPECT:
            without(request, "zero")
            await self._answer(self._expectations(self._query(request)), send, limit)
            return
        act = self._line_and_zero if yes(request, "zero") else self._line
        await self._answer(self._walk(table, self._query(request), act), send, limit)

    async def get(self, request: Mapping[str, object], send: Send) -> None:
        spec = object_of(request, "tuple")
        if table_of(request, WHOLE_TABLES) == EXPECT:
            found = self._expectation(self.orders.get_expectation(spec))
        else:
            found = self._line(self.orders.get(spec))
        await send([found, encode({"done": 1})])

    async def create(self, request: Mapping[str, object], send: Send) -> None:
        if table_of(request, WHOLE_TABLES) == EXPECT:
            made = self._expectation(self.orders.expect(object_of(request, "expect")))
            await send([made, encode({"done": 1})])
            return
        exclusive = yes(request, "exclusive")
        ct = self.orders.create(object_of(request, "ct"))
        if ct is not None:
            await send([self._line(ct), encode({"done": 1})])
        elif exclusive:
            raise RefusedError(WHY[EXISTS])
        else:
            await send([encode({"done": 0})])

    async def update(self, request: Mapping[str, object], send: Send) -> None:
        spec = self.orders.check_update(request)
        failed = 0

        def change(ct: NfConn) -> str:
            nonlocal failed
            why = self.orders.update(ct, spec)
            if why:
                failed += 1
            return "" if why is None else self._line(ct, {"failed": why} if why else {})

        await self._answer(self._walk("conntrack", self._query(request), change), send, minus=lambda: failed)

    async def delete(self, request: Mapping[str, object], send: Send) -> None:
        if table_of(request, WHOLE_TABLES) == EXPECT:
            without(request, "filter")
            known = self.orders.get_expectation(object_of(request, "tuple"))
            self.orders.forget_expectation(known)
            await send([self._expectation(known), encode({"done": 1})])
            return
        without(request, "tuple")  # understood as no filter, it would delete everything
        await self._answer(self._walk("conntrack", self._query(request), self._delete), send)

    async def flush(self, request: Mapping[str, object], send: Send) -> None:
        if table_of(request, WHOLE_TABLES) == EXPECT:
            without(request, "filter")
            known = self.core.expectations.all()
            for expectation in known:
                self.orders.forget_expectation(expectation)
            await send([encode({"done": len(known)})])
            return
        flushed = 0
        async for killed in self._walk("conntrack", self._query(request), self._flush):
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

    async def reload(self, request: Mapping[str, object], send: Send) -> None:
        flush = yes(request, "flush_stale")
        if self.control.take_over is None:
            raise RequestError("this daemon cannot reload its configuration")
        try:
            await self.control.take_over()
        except ReloadError as error:
            raise RefusedError(str(error)) from error
        stale = await self.count_stale(flush)
        told = {"restart": self.control.reloads.restart, "stale": stale, "flushed": sum(stale.values()) if flush else 0}
        await send([encode({"reload": told})])

    async def count_stale(self, flush: bool) -> dict[str, int]:
        """Connections that the rules as they are now would not make, by why; flush: end them."""
        judge, found = self.control.engine.stale(), dict.fromkeys(STALE_NAMES[1:], 0)

        def note(ct: NfConn) -> str:
            why = judge.why(ct, self.control.clock())
            if why != CURRENT:
                found[STALE_NAMES[why]] += 1
                if flush:
                    self._end(ct, END_FLUSHED)
            return ""

        async for _ in self._walk("conntrack", Query({}), note):
            continue
        self.control.reloads.stale = 0 if flush else sum(found.values())
        return found

    async def recent(self, request: Mapping[str, object], send: Send) -> None:
        diagnostics = self.control.engine.diagnostics
        count = request.get("count", diagnostics.recent.limit)
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise RequestError(f"count is a number of packets, not {shown(count)}")
        offset = self.control.epoch()
        notes = diagnostics.recent.last(count)
        for at in range(0, len(notes), A_TURN):
            some = notes[at : at + A_TURN]
            await send([encode({"recent": note_fields(note, offset + note.at / 1000)}) for note in some])
            await asyncio.sleep(0)
        await send([encode({"done": len(notes)})])

    async def events(self, request: Mapping[str, object], send: Send) -> Subscriber:
        wanted = request.get("buffer", LIMIT)
        if type(wanted) is not int or wanted < 0:
            raise RequestError(f"buffer is a number of events, not {shown(wanted)}")
        table = table_of(request, WHOLE_TABLES)
        query = self._query(request)
        if table == EXPECT:
            check_expectation_filter(query)
        return Subscriber(query, request.get("mask", ["ALL"]), min(max(wanted, 1), MOST), table)

    def _query(self, request: Mapping[str, object]) -> Query:
        """The request's filter, or one that matches everything."""
        spec = request.get("filter", {})
        if not isinstance(spec, dict):
            raise FilterError(f"a filter is a JSON object, not {shown(spec)}")
        engine = self.control.engine
        return Query(spec, engine.names, self.control.clock(), engine.stale())

    def _line(self, ct: NfConn, more: Mapping[str, str] = NOTHING) -> str:
        epoch = self.control.epoch() if self.core.timestamps else None
        described = view.connection(ct, self.control.clock(), self.core.accounting, epoch)
        described.update(view.interfaces(ct, self.control.engine.names))
        return encode({"ct": described, **more})

    def _line_and_zero(self, ct: NfConn) -> str:
        line = self._line(ct)
        ct.packets_original = ct.packets_reply = ct.bytes_original = ct.bytes_reply = 0
        return line

    def _delete(self, ct: NfConn) -> str:
        line = self._line(ct)
        self._end(ct, END_DELETED)
        return line

    def _flush(self, ct: NfConn) -> str:
        self._end(ct, END_FLUSHED)
        return ENDED

    def _end(self, ct: NfConn, reason: int) -> None:
        with self.orders.by_client():
            self.core.kill(ct, reason, self.control.clock())

    async def _answer(
        self,
        walk: AsyncGenerator[list[str], None],
        send: Send,
        limit: int = NO_LIMIT,
        minus: Callable[[], int] = lambda: 0,
    ) -> None:
        count = 0
        async with aclosing(walk):
            async for lines in walk:
                some = lines[: limit - count]
                count += len(some)
                await send(some)
                if count >= limit:
                    break
        await send([encode({"done": count - minus()})])

    async def _walk(self, table: str, query: Query, act: Act) -> AsyncGenerator[list[str], None]:
        """What act says of each matching connection, a turn at a time. A slow reader delays only itself."""
        slots = self._slots(table)
        at = 0
        while at < len(slots):
            async with self.turn:
                lines, at = self._turn(slots, at, table, query, act)
                self.control.tell()  # a flush ends more connections than the engine's queue holds events
                await asyncio.sleep(0)
            yield lines

    def _turn(self, slots: Sequence[int], at: int, table: str, query: Query, act: Act) -> tuple[list[str], int]:
        lines: list[str] = []
        belongs = TABLES[table]
        until = time.perf_counter() + TURN
        while at < len(slots):
            ct = self.core.table.at(slots[at])
            at += 1
            acted = ct is not None and belongs(ct.status) and query.matches(ct, ct)
            if acted and ct is not None:
                line = act(ct)
                if line:
                    lines.append(line)
            if (acted or at % PIECE == 0) and time.perf_counter() >= until:
                break
        return lines, at

    async def _expectations(self, query: Query) -> AsyncGenerator[list[str], None]:
        """Those there were at the beginning, as far as they have not gone meanwhile."""
        check_expectation_filter(query)
        length = FAMILIES.get(str(query.spec.get("family")), 0)
        known = self.core.expectations.all()
        for at in range(0, len(known), A_TURN):
            async with self.turn:
                some = known[at : at + A_TURN]
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


def check_expectation_filter(query: Query) -> None:
    if query.spec.keys() - {"family"}:
        raise FilterError("expectations can be filtered by their family only")
