"""Answers the requests of protocol/requests.py. After an error the connection stays open."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final

from msgspec import UNSET, UnsetType

from conntrackd_py import __version__
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.expect import Expectation
from conntrackd_py.conntrack.split_dict import PARTS
from conntrackd_py.control import status as report
from conntrackd_py.control import view
from conntrackd_py.control.edit import WHY, Editor
from conntrackd_py.control.follower import Follower, line, matching, wanted_by
from conntrackd_py.control.matcher import Matcher, expectation_family
from conntrackd_py.control.protocol import requests
from conntrackd_py.control.protocol.answers import encode
from conntrackd_py.control.protocol.requests import Change, Filter, RefusedError, RequestError, UpdateFilter
from conntrackd_py.control.report import targets as nat_targets
from conntrackd_py.control.status import Clients, DaemonInfo, ReloadError, Reloads, UpgradeError
from conntrackd_py.control.steering import Hold, network
from conntrackd_py.control.subscriber import EXPECT, LIMIT, Publisher, Stream, Subscriber
from conntrackd_py.control.sync import state as sync
from conntrackd_py.control.top import Top
from conntrackd_py.control.transfer import transfer
from conntrackd_py.control.walk import A_TURN, Walker
from conntrackd_py.engine.change import EXISTS
from conntrackd_py.engine.engine import Engine
from conntrackd_py.engine.offload import RETURNED_CHANGED
from conntrackd_py.explain import blocks, mappings
from conntrackd_py.explain.stale import CURRENT, STALE_NAMES
from conntrackd_py.reasons import END_DELETED, END_FLUSHED

Send = Callable[[list[bytes]], Awaitable[None]]
Command = Callable[[Any, Send], Awaitable[Stream | Hold | None]]

NO_LIMIT: Final = 1 << 62
STATS: Final = (
    *("found", "invalid", "insert", "insert_failed", "drop", "early_drop", "error"),
    *("search_restart", "clash_resolve", "chaintoolong"),
)


class Commands:
    """clients: counts the server's clients."""

    def __init__(
        self,
        engine: Engine,
        publisher: Publisher,
        info: DaemonInfo,
        reloads: Reloads,
        clients: Callable[[], Clients],
    ) -> None:
        self.engine = engine
        self.core = engine.core
        self.clock = publisher.clock
        self.info = info
        self.reloads = reloads
        self.clients = clients
        self.editor = Editor(engine, self.clock, publisher)
        self.walker = Walker(self.core, self.clock, publisher.publish)
        self.tops = Top(engine, self.clock, info, self.walker.turn)
        self.by_type: dict[type[requests.Request], Command] = {
            requests.List: self.show,
            requests.Get: self.get,
            requests.Create: self.create,
            requests.Update: self.update,
            requests.Delete: self.delete,
            requests.Flush: self.flush,
            requests.Counts: self.count,
            requests.Stats: self.stats,
            requests.DaemonStatus: self.status,
            requests.Top: self.top,
            requests.Ping: self.ping,
            requests.Reload: self.reload,
            requests.Upgrade: self.upgrade,
            requests.Recent: self.recent,
            requests.Steering: self.steering,
            requests.Targets: self.targets,
            requests.Mappings: self.mappings,
            requests.Export: self.export,
            requests.Import: self.import_,
            requests.Sync: self.sync,
            requests.Events: self.events,
        }

    async def run(self, request: requests.Request, send: Send) -> Stream | Hold | None:
        """Answer the request; the Stream of an `events`, or of a `recent` that follows; the Hold of a `steering`.

        Raises RequestError and RefusedError.
        """
        return await self.by_type[type(request)](request, send)

    async def show(self, request: requests.List, send: Send) -> None:
        limit = NO_LIMIT if request.limit is UNSET else request.limit
        if request.table == EXPECT:
            if request.zero:
                raise RequestError("list of expect takes no zero")
            length = expectation_family(request.filter)
            await self._answer(self.walker.expectations(length, self._expectation), send, limit)
            return
        act = self._line_and_zero if request.zero else self._line
        await self._answer(self.walker.connections(request.table, self._matcher(request.filter), act), send, limit)

    async def get(self, request: requests.Get, send: Send) -> None:
        if request.table == EXPECT:
            found = self._expectation(self.editor.get_expectation(request.tuple))
        else:
            found = self._line(self.editor.get(request.tuple))
        await send([found, encode({"done": 1})])

    async def create(self, request: requests.Create, send: Send) -> None:
        if request.table == EXPECT:
            if request.expect is UNSET:
                raise RequestError("create of expect needs expect")
            await send([self._expectation(self.editor.expect(request.expect)), encode({"done": 1})])
            return
        if request.ct is UNSET:
            raise RequestError("create needs ct")
        ct = self.editor.create(request.ct)
        if ct is not None:
            await send([self._line(ct), encode({"done": 1})])
        elif request.exclusive:
            raise RefusedError(WHY[EXISTS])
        else:
            await send([encode({"done": 0})])

    async def update(self, request: requests.Update, send: Send) -> None:
        if request.set == Change():
            raise RequestError("update needs a change in `set`")
        failed = 0

        def change(ct: NfConn) -> bytes:
            nonlocal failed
            why = self.editor.update(ct, request.set)
            if why:
                failed += 1
            return b"" if why is None else self._line(ct, why)

        walk = self.walker.connections("conntrack", self._matcher(request.filter), change)
        await self._answer(walk, send, minus=lambda: failed)

    async def delete(self, request: requests.Delete, send: Send) -> None:
        if request.table == EXPECT:
            if request.tuple is UNSET or request.filter is not UNSET:
                raise RequestError("delete of expect needs tuple, and takes no filter")
            known = self.editor.get_expectation(request.tuple)
            self.editor.delete_expectation(known)
            await send([self._expectation(known), encode({"done": 1})])
            return
        if request.tuple is not UNSET:  # ignored, it would delete everything
            raise RequestError("delete of conntrack takes no tuple")
        await self._answer(self.walker.connections("conntrack", self._matcher(request.filter), self._delete), send)

    async def flush(self, request: requests.Flush, send: Send) -> None:
        flushed = 0
        if request.table == EXPECT:
            if request.filter is not UNSET:
                raise RequestError("flush of expect takes no filter")
            for known in self.core.expectations.all():
                self.editor.delete_expectation(known)
                flushed += 1
        else:
            async for killed in self.walker.connections("conntrack", self._matcher(request.filter), self._flush):
                flushed += len(killed)
        await send([encode({"done": flushed})])

    async def count(self, request: requests.Counts, send: Send) -> None:
        known = self.core.expectations
        if request.table == EXPECT:
            await send([encode({"count": known.count, "limit": known.limit})])
        else:
            await send([encode({"count": len(self.core.table), "limit": self.core.limit})])

    async def stats(self, request: requests.Stats, send: Send) -> None:
        row = {"cpu": 0}
        if request.table == EXPECT:
            known = self.core.expectations
            row.update(expect_new=0, expect_create=known.created, expect_delete=known.deleted)
        else:
            row |= {name: getattr(self.core.stats, name) for name in STATS}
        await send([encode({"stats": [row]})])

    async def status(self, request: requests.DaemonStatus, send: Send) -> None:
        status = report.status(self.engine, self.clock, self.info, self.reloads, self.clients())
        await send([encode({"status": status})])

    async def top(self, request: requests.Top, send: Send) -> None:
        await send([encode({"top": await self.tops.answer(request)})])

    async def ping(self, request: requests.Ping, send: Send) -> None:
        await send([encode({"pong": __version__})])

    async def reload(self, request: requests.Reload, send: Send) -> None:
        if self.reloads.take_over is None:
            raise RequestError("this daemon cannot reload its configuration")
        try:
            await self.reloads.take_over()
        except ReloadError as error:
            raise RefusedError(str(error)) from error
        stale = await self.count_stale(request.flush_stale)
        flushed = sum(stale.values()) if request.flush_stale else 0
        await send([encode({"reload": {"restart": self.reloads.restart, "stale": stale, "flushed": flushed}})])

    async def upgrade(self, request: requests.Upgrade, send: Send) -> None:
        if self.reloads.prepare is None or self.reloads.hand_over is None:
            raise RequestError("this daemon cannot hand over its queues")
        try:
            pid = await self.reloads.prepare()
        except UpgradeError as error:
            raise RefusedError(str(error)) from error
        try:
            await send([encode({"upgrade": {"pid": pid}})])
        finally:
            self.reloads.hand_over()

    async def targets(self, request: requests.Targets, send: Send) -> None:
        if (request.set is UNSET) != (request.target is UNSET):
            raise RequestError("targets needs set and target, or neither")
        if request.target is not UNSET:
            nat_targets.set_down(self.engine.nat, request.target, request.set == "down")
        await send([encode({"targets": nat_targets.rows(self.engine.nat)})])

    async def mappings(self, request: requests.Mappings, send: Send) -> None:
        nat, now = self.engine.nat, self.clock()
        for part in range(PARTS):
            if request.blocks and (held := blocks.rows(nat.blocks, part, now)):
                await send([encode({"blocks": held})])
            elif not request.blocks and (found := mappings.rows(nat.endpoints, part, now)):
                await send([encode({"mappings": found})])
        await send([encode({"done": len(nat.blocks.by_place) if request.blocks else nat.endpoints.count})])

    async def steering(self, request: requests.Steering, send: Send) -> Hold | None:
        hold = self.info.steering.hold
        if request.step != "begin":
            raise RequestError("steering begins with step begin")
        if hold is None:
            raise RequestError("this daemon does not guard its steering rules")
        if request.network != network():
            await send([encode({"steering": {}})])
            return None
        return hold

    async def count_stale(self, flush: bool = False) -> dict[str, int]:
        """Connections that the current rules would not create, by reason; flush: delete them."""
        judge, found = self.engine.stale(), dict.fromkeys(STALE_NAMES[1:], 0)

        def note(ct: NfConn) -> bytes:
            why = judge.why(ct, self.clock())
            if why != CURRENT:
                found[STALE_NAMES[why]] += 1
                if flush:
                    self.editor.delete(ct, END_FLUSHED)
            return b""

        async for _ in self.walker.connections("conntrack", Matcher(Filter()), note):
            continue
        self.reloads.stale = 0 if flush else sum(found.values())
        return found

    async def recent(self, request: requests.Recent, send: Send) -> Stream | None:
        ring, wanted = self.engine.diagnostics.recent, wanted_by(request)
        count = (0 if request.follow else ring.limit) if request.count is UNSET else request.count
        read = ring.total
        notes, offset = await matching(ring.last(ring.limit), wanted, count), view.epoch(self.clock)
        if request.follow:
            return Follower(ring, wanted, self.clock, notes, read)
        for at in range(0, len(notes), A_TURN):
            await send([line(note, offset) for note in notes[at : at + A_TURN]])
            await asyncio.sleep(0)
        await send([encode({"done": len(notes)})])
        return None

    async def export(self, request: requests.Export, send: Send) -> None:
        await send([transfer.head(self.info.mode)])
        line = transfer.line_of(self.engine, self.clock)
        await self._answer(self.walker.connections("conntrack", self._matcher(request.filter), line), send)

    async def import_(self, request: requests.Import, send: Send) -> None:
        await send([await transfer.import_(self.engine, self.editor.publisher, request)])

    async def sync(self, request: requests.Sync, send: Send) -> None:
        await send([await sync.command(request, self.info.sync)])

    async def events(self, request: requests.Events, send: Send) -> Subscriber:
        limit = LIMIT if request.buffer is UNSET else request.buffer
        return Subscriber(self._matcher(request.filter), request.filter, request.mask, limit, request.table)

    def _matcher(self, wanted: UpdateFilter | UnsetType) -> Matcher:
        wanted = Filter() if wanted is UNSET else wanted
        return Matcher(wanted, self.engine.names, self.clock(), self.engine.stale())

    def _line(self, ct: NfConn, failed: str = "") -> bytes:
        epoch = view.epoch(self.clock) if self.core.timestamps else None
        helper = self.engine.helpers.name_of(ct)
        described = view.connection(ct, self.clock(), self.core.accounting, epoch, self.engine.names, helper)
        return encode({"ct": described, "failed": failed} if failed else {"ct": described})

    def _line_and_zero(self, ct: NfConn) -> bytes:
        self.engine.offload.take_back(ct, RETURNED_CHANGED, self.clock())  # the kernel's counters begin at these
        line = self._line(ct)
        ct.counters = None
        return line

    def _delete(self, ct: NfConn) -> bytes:
        line = self._line(ct)
        self.editor.delete(ct, END_DELETED)
        return line

    def _flush(self, ct: NfConn) -> bytes:
        self.editor.delete(ct, END_FLUSHED)
        return b"flushed"  # counted, not sent

    def _expectation(self, known: Expectation) -> bytes:
        return encode({"expect": view.expectation(known, self.clock())})

    async def _answer(
        self,
        walk: AsyncGenerator[list[bytes], None],
        send: Send,
        limit: int = NO_LIMIT,
        minus: Callable[[], int] = lambda: 0,
    ) -> None:
        """Send the lines of the walk, at most `limit`, and their count less `minus()`."""
        count = 0
        async with aclosing(walk):
            async for lines in walk:
                some = lines[: limit - count]
                count += len(some)
                await send(some)
                if count >= limit:
                    break
        await send([encode({"done": count - minus()})])
