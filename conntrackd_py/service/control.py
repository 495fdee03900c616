"""The control socket: JSON lines over a unix socket, for conntrack-py and whoever else the file's mode lets in.

commands.py has the requests and their answers. What holds here: packets never wait for a client, a client
never waits for another one, and nothing a client does or leaves undone grows without a bound:
at most max_clients connections, max_request bytes a request, one listener queue each, IDLE seconds
between requests, STALLED seconds without reading an answer.
"""

import asyncio
import json
import socket
import struct
import time
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from conntrackd_py.engine.engine import Engine
from conntrackd_py.service.commands import Commands, RequestError, Send
from conntrackd_py.service.query import FilterError
from conntrackd_py.service.report import About
from conntrackd_py.service.socketfile import SocketFile
from conntrackd_py.service.spec import RefusedError
from conntrackd_py.service.subscriber import CONNTRACK, EXPECT, EventLine, ExpectationLine, Subscriber, encode

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter

IDLE: Final = 60.0  # seconds
STALLED: Final = 60.0
PEER: Final = struct.Struct("=iii")  # struct ucred: process, user, group
PROGRAMS: Final = 256  # whose names are kept
LINGER: Final = 1.0  # how long a client that is being refused may go on sending

log = structlog.get_logger(__name__)


class Control:
    """clock: the engine's, milliseconds. Everything runs in the daemon's loop; nothing is thread-safe."""

    def __init__(
        self,
        engine: Engine,
        clock: Callable[[], int],
        *,
        path: str,
        mode: int = 0o660,
        group: str = "",
        max_clients: int = 64,
        max_request: int = 65536,
        about: About | None = None,
    ) -> None:
        self.engine = engine
        self.clock = clock
        self.about = about or About()
        self.max_clients = max_clients
        self.max_request = max_request
        self.refused = 0  # clients beyond max_clients
        self.events_lost = 0  # by listeners that did not read
        self._file = SocketFile(Path(path), mode, group)
        self._server: asyncio.Server | None = None
        self._sessions: set[asyncio.Task[None]] = set()
        self._subscribers: set[Subscriber] = set()
        self._commands = Commands(self)
        self._queue_lost = {CONNTRACK: 0, EXPECT: 0}
        self.origin: ContextVar[int] = ContextVar("origin", default=0)  # process of the client that is served
        self.programs: dict[int, str] = {}  # of the last ones, by process

    @property
    def clients(self) -> int:
        return len(self._sessions)

    @property
    def listeners(self) -> int:
        return len(self._subscribers)

    async def start(self) -> None:
        """Listen. Raises ConfigError when the path cannot be used or another daemon answers there."""
        listening = self._file.open()
        self._server = await asyncio.start_unix_server(self._accept, sock=listening, limit=self.max_request)

    async def stop(self) -> None:
        """Close every connection and remove the socket file."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        sessions = list(self._sessions)
        for task in sessions:
            task.cancel()
        await asyncio.gather(*sessions, return_exceptions=True)
        self._file.remove()

    def epoch(self) -> float:
        """When the engine's clock was zero, in seconds since 1970."""
        return time.time() - self.clock() / 1000

    def tell(self) -> None:
        """Give what has happened to the listeners: their queues only, nothing is rendered or sent here."""
        core = self.engine.core
        if not core.events.waiting and not core.expectations.events.waiting:
            return
        events = self.engine.drain_events()
        expectations = self.engine.drain_expectation_events()
        if self._subscribers:
            offset = self.epoch()
            for event in events:
                program = self.programs.get(event.origin, "")
                self._offer(EventLine(event, offset + event.at / 1000, core.accounting, core.timestamps, program))
            for change in expectations:
                self._offer(ExpectationLine(change, offset + change.at / 1000, self.programs.get(change.origin, "")))
        self._tell_queue_loss()

    def _offer(self, line: EventLine | ExpectationLine) -> None:
        for subscriber in self._subscribers:
            before = subscriber.lost_total
            subscriber.offer(line)
            self.events_lost += subscriber.lost_total - before

    def _tell_queue_loss(self) -> None:
        """The engine's own queues overflowed: everybody missed those."""
        for table, queue in ((CONNTRACK, self.engine.core.events), (EXPECT, self.engine.core.expectations.events)):
            lost = queue.lost - self._queue_lost[table]
            self._queue_lost[table] += lost
            if lost:
                for subscriber in self._subscribers:
                    if subscriber.table == table:
                        subscriber.lose(lost)

    def _accept(self, reader: "StreamReader", writer: "StreamWriter") -> None:
        if len(self._sessions) >= self.max_clients:
            self.refused += 1
            writer.write(line_of({"error": f"too many clients ({self.max_clients} at most)"}))
            writer.close()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._sessions.add(task)
        task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        self._sessions.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("control session failed", exc_info=task.exception())

    async def _serve(self, reader: "StreamReader", writer: "StreamWriter") -> None:
        try:
            await self._session(reader, writer)
        except ConnectionError:
            log.debug("control client gone")
        except TimeoutError:
            log.debug("control client stalled")
        finally:
            writer.transport.abort()

    async def _session(self, reader: "StreamReader", writer: "StreamWriter") -> None:
        async def send(lines: list[str]) -> None:
            if lines:
                writer.write(("\n".join(lines) + "\n").encode())
            async with asyncio.timeout(STALLED):
                await writer.drain()

        self.origin.set(self._identify(writer))
        while request := await self._request(reader, writer):
            subscriber = await self._answer(request, send)
            if subscriber is not None:
                await self._listen(subscriber, reader, writer)
                return
        async with asyncio.timeout(STALLED):
            writer.close()
            await writer.wait_closed()

    def _identify(self, writer: "StreamWriter") -> int:
        """The client's process; its program is noted for those who are told what it did."""
        credentials = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size)
        pid: int = PEER.unpack(credentials)[0]
        try:
            program = Path(f"/proc/{pid}/comm").read_text().strip()
        except OSError:  # gone already, or of another user
            program = ""
        self.programs[pid] = program
        if len(self.programs) > PROGRAMS:
            del self.programs[next(iter(self.programs))]
        return pid

    async def _request(self, reader: "StreamReader", writer: "StreamWriter") -> bytes:
        """The next line; empty when there is none to answer. Blank lines are not requests."""
        while True:
            try:
                async with asyncio.timeout(IDLE):
                    line = await reader.readuntil(b"\n")
            except asyncio.IncompleteReadError as end:
                return end.partial.strip()
            except asyncio.LimitOverrunError:
                await self._refuse(reader, writer)
                return b""
            if line.strip():
                return line

    async def _refuse(self, reader: "StreamReader", writer: "StreamWriter") -> None:
        """Say so, and take in a little of what is still coming, so that the peer lives to read it."""
        writer.write(line_of({"error": f"request longer than {self.max_request} bytes"}))
        await writer.drain()
        try:
            async with asyncio.timeout(LINGER):
                while await reader.read(65536):
                    continue
        except TimeoutError:
            log.debug("control client sends on after its refusal")

    async def _answer(self, request: bytes, send: Send) -> Subscriber | None:
        try:
            return await self._commands.run(parse(request), send)
        except RefusedError as error:
            await send([encode({"error": f"Operation failed: {error}"})])
        except (RequestError, FilterError) as error:
            await send([encode({"error": str(error)})])
        except RecursionError:
            await send([encode({"error": "nested too deeply"})])
        return None

    async def _listen(self, subscriber: Subscriber, reader: "StreamReader", writer: "StreamWriter") -> None:
        """Events, until the client leaves."""
        self._subscribers.add(subscriber)
        self._listen_to_engine()
        tasks = {asyncio.ensure_future(gone(reader)), asyncio.ensure_future(pump(subscriber, writer))}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._subscribers.discard(subscriber)
            self._listen_to_engine()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _listen_to_engine(self) -> None:
        tables = {subscriber.table for subscriber in self._subscribers}
        self.engine.core.events.enabled = CONNTRACK in tables
        self.engine.core.expectations.events.enabled = EXPECT in tables


def parse(request: bytes) -> object:
    """The JSON value of a line. Raises RequestError, also for what only JSON's own grammar allows."""
    try:
        return json.loads(request)
    except ValueError as error:
        raise RequestError(f"not JSON: {str(error)[:100]}") from error


async def gone(reader: "StreamReader") -> None:
    """Wait until the client closes; what it says meanwhile is not for us."""
    while await reader.read(65536):
        continue


async def pump(subscriber: Subscriber, writer: "StreamWriter") -> None:
    """Write events as fast as the client reads them, with a turn for the loop between batches."""
    writer.write(line_of({"listening": subscriber.limit}))
    while True:
        await writer.drain()
        writer.write(("\n".join(await subscriber.lines()) + "\n").encode())
        await asyncio.sleep(0)


def line_of(value: dict[str, object]) -> bytes:
    return encode(value).encode() + b"\n"
