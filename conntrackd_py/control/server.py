"""The control socket: JSON lines over a unix socket, for conntrack-py and whoever else the file's mode lets in.

commands.py has the requests and their answers. What holds here: packets never wait for a client, a client
never waits for another one, and nothing a client does or leaves undone grows without a bound:
at most max_clients connections, max_request bytes a request, one listener queue each, IDLE seconds
between requests, STALLED seconds without reading an answer. acceptor.py bounds what connecting costs.

A mistake of ours is answered too, counted (`acceptor.errors`) and logged once for its place in the code.
"""

import asyncio
import json
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Final

from conntrackd_py.control.acceptor import CONNECTIONS, DESCRIPTORS, Acceptor, close
from conntrackd_py.control.commands import Commands, Send
from conntrackd_py.control.query import FilterError
from conntrackd_py.control.reloads import Reloads
from conntrackd_py.control.request import RequestError
from conntrackd_py.control.socket_file import SocketFile
from conntrackd_py.control.spec import RefusedError
from conntrackd_py.control.status import About
from conntrackd_py.control.subscriber import CONNTRACK, EXPECT, EventLine, ExpectationLine, Subscriber, encode
from conntrackd_py.engine.engine import Engine

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter

IDLE: Final = 60.0  # seconds
STALLED: Final = 60.0
PEER: Final = struct.Struct("=iii")  # struct ucred: process, user, group
PROGRAMS: Final = 256  # whose names are kept
OUR_MISTAKE: Final = "internal error: the daemon's log has the reason"


class ControlServer:
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
        self.max_request = max_request
        self.events_lost = 0  # by listeners that did not read
        self.acceptor = Acceptor(
            "control",
            self._session,
            most=max_clients,
            limit=max_request,
            refusals=refusals(max_clients),
            apology=line_of({"error": OUR_MISTAKE}),
        )
        self.take_over: Callable[[], Awaitable[None]] | None = None  # reloads the configuration; raises ReloadError
        self.reloads = Reloads(time.time())
        self._file = SocketFile(Path(path), mode, group)
        self._subscribers: set[Subscriber] = set()
        self._commands = Commands(self)
        self._queue_lost = {CONNTRACK: 0, EXPECT: 0}
        self.origin: ContextVar[int] = ContextVar("origin", default=0)  # process of the client that is served
        self.programs: dict[int, str] = {}  # of the last ones, by process

    @property
    def clients(self) -> int:
        return self.acceptor.sessions

    @property
    def refused(self) -> int:
        """Clients that were not served."""
        return sum(self.acceptor.refused.values())

    @property
    def listeners(self) -> int:
        return len(self._subscribers)

    async def start(self) -> None:
        """Listen. Raises ConfigError when the path cannot be used or another daemon answers there."""
        self.acceptor.start(self._file.open())

    def limit(self, max_clients: int, max_request: int) -> None:
        """Other limits, for connections from now on."""
        self.max_request = self.acceptor.limit = max_request
        self.acceptor.most = max_clients
        self.acceptor.refusals = refusals(max_clients)

    def prepare_move(self, path: str, mode: int, group: str) -> tuple[Callable[[], None], Callable[[], None]]:
        """Prepare another path, mode or group of the socket; connected clients stay.

        Returns what carries it out and what abandons it. Raises ConfigError when it is impossible.
        """
        former, new = self._file, SocketFile(Path(path), mode, group)
        listening = new.prepare(former)

        def carry_out() -> None:
            new.commit()
            self.acceptor.move(listening)
            self._file = new
            if new.path != former.path:
                former.remove()

        def abandon() -> None:
            listening.close()
            new.abandon()

        return carry_out, abandon

    async def count_stale(self, flush: bool = False) -> dict[str, int]:
        """Connections that the rules as they are now would not make, by why; flush: end them."""
        return await self._commands.count_stale(flush)

    async def stop(self) -> None:
        """Close every connection and remove the socket file."""
        await self.acceptor.stop()
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
            program = Path(f"/proc/{pid}/comm").read_bytes().decode(errors="backslashreplace").removesuffix("\n")
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
        writer.write(line_of({"error": f"request longer than {self.max_request} bytes"}))
        await close(reader, writer)

    async def _answer(self, request: bytes, send: Send) -> Subscriber | None:
        try:
            return await self._commands.run(parse(request), send)
        except RefusedError as error:
            await send([encode({"error": f"Operation failed: {error}"})])
        except (RequestError, FilterError) as error:
            await send([encode({"error": str(error)})])
        except RecursionError:
            await send([encode({"error": "nested too deeply"})])
        except (ConnectionError, TimeoutError):
            raise
        except Exception as error:  # noqa: BLE001  a mistake of ours costs this request its answer, nobody else anything
            self.acceptor.failed(error)
            await send([encode({"error": OUR_MISTAKE})])
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


def refusals(max_clients: int) -> dict[str, bytes]:
    """What a client is sent that is not served, by cause."""
    return {
        CONNECTIONS: line_of({"error": f"too many clients ({max_clients} at most)"}),
        DESCRIPTORS: line_of({"error": "the daemon has no file descriptors left for clients"}),
    }


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
