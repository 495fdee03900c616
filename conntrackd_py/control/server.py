"""The control socket of the daemon: clients, their requests (commands.py) and their events (subscriber.py).

Packets never wait for a client, and clients never wait for each other. Everything a client uses is bounded: clients
(max_clients), bytes of a request (max_request), the event queue, IDLE seconds between two requests, STALLED seconds
without reading an answer. acceptor.py bounds the cost of connecting.

An exception of our own code is answered, counted (`acceptor.errors`) and logged once for its place in the code.
"""

import asyncio
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from conntrackd_py.control.commands import Commands, Send
from conntrackd_py.control.follower import FOLLOWERS_LIMIT, Follower
from conntrackd_py.control.protocol.answers import encode
from conntrackd_py.control.protocol.requests import RefusedError, RequestError, Steering, decode
from conntrackd_py.control.status import Clients, DaemonInfo, Reloads
from conntrackd_py.control.steering import Hold
from conntrackd_py.control.subscriber import Publisher, Stream, Subscriber
from conntrackd_py.engine.engine import Engine
from conntrackd_py.kernel.acceptor import CONNECTIONS, DESCRIPTORS, Acceptor, close
from conntrackd_py.kernel.socket_file import SocketFile

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter

IDLE: Final = 60.0  # seconds
STALLED: Final = 60.0
PEER: Final = struct.Struct("=iii")  # struct ucred: process, user, group
INTERNAL_ERROR: Final = "internal error: the daemon's log has the reason"


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
        info: DaemonInfo | None = None,
    ) -> None:
        self.max_request = max_request
        self.acceptor = Acceptor(
            "control",
            self._session,
            most=max_clients,
            limit=max_request,
            refusals=refusals(max_clients),
            apology=error_line(INTERNAL_ERROR),
        )
        self.reloads = Reloads(time.time())
        self.publisher = Publisher(engine, clock)
        self.commands = Commands(engine, self.publisher, info or DaemonInfo(), self.reloads, self.clients)
        self.followers = 0  # clients of `recent` with follow
        self._file = SocketFile(Path(path), mode, group)

    def clients(self) -> Clients:
        return Clients(self.acceptor.sessions, self.refused, len(self.publisher.subscribers), self.publisher.lost)

    @property
    def refused(self) -> int:
        """Clients that were not served."""
        return sum(self.acceptor.refused.values())

    async def start(self) -> None:
        """Listen. Raises ConfigError when the path cannot be used or another daemon answers there."""
        self.acceptor.start(self._file.open())

    def limit(self, max_clients: int, max_request: int) -> None:
        """New limits, for later connections."""
        self.max_request = self.acceptor.limit = max_request
        self.acceptor.most = max_clients
        self.acceptor.refusals = refusals(max_clients)

    def prepare_move(self, path: str, mode: int, group: str) -> tuple[Callable[[], None], Callable[[], None]]:
        """Prepare another path, mode or group of the socket; connected clients stay.

        Returns two functions: carry out, abandon. Raises ConfigError when it is impossible.
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

    async def stop(self) -> None:
        """Close every connection and remove the socket file."""
        await self.acceptor.stop()
        self._file.remove()

    async def _session(self, reader: "StreamReader", writer: "StreamWriter") -> None:
        async def send(lines: list[bytes]) -> None:
            if lines:
                writer.write(b"\n".join(lines) + b"\n")
            async with asyncio.timeout(STALLED):
                await writer.drain()

        self._identify(writer)
        while request := await self._request(reader, writer):
            stream = await self._answer(request, send)
            if isinstance(stream, Follower) and self.followers >= FOLLOWERS_LIMIT:
                await send(
                    [error_line(f"too many clients follow refused packets ({FOLLOWERS_LIMIT} at most)").rstrip()]
                )
                continue
            if isinstance(stream, Hold):
                await self._hold(stream, reader, send)
            elif stream is not None:
                await self._subscription(stream, reader, writer)
                return
        async with asyncio.timeout(STALLED):
            writer.close()
            await writer.wait_closed()

    def _identify(self, writer: "StreamWriter") -> None:
        credentials = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size)
        pid: int = PEER.unpack(credentials)[0]
        try:
            program = Path(f"/proc/{pid}/comm").read_bytes().decode(errors="backslashreplace").removesuffix("\n")
        except OSError:  # the process has ended, or belongs to another user
            program = ""
        self.publisher.identify(pid, program)

    async def _request(self, reader: "StreamReader", writer: "StreamWriter") -> bytes:
        """The next line that is not blank; empty at the end, or when a line was too long."""
        while True:
            try:
                async with asyncio.timeout(IDLE):
                    line = await reader.readuntil(b"\n")
            except asyncio.IncompleteReadError as end:
                return end.partial.strip()
            except asyncio.LimitOverrunError:
                writer.write(error_line(f"request longer than {self.max_request} bytes"))
                await close(reader, writer)
                return b""
            if line.strip():
                return line

    async def _hold(self, hold: Hold, reader: "StreamReader", send: Send) -> None:
        """Hold the guard of the steering rules until the client says `done` or closes; it may take long."""
        report = self.commands.info.steering.report
        step = ""
        await hold.begin()
        try:
            with suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError, RequestError):
                while step != "done":
                    if step == "trial":
                        await hold.trial()
                    await send([encode({"steering": report()})])
                    request = decode(await reader.readuntil(b"\n"))
                    step = request.step if isinstance(request, Steering) else ""
        finally:
            await hold.end(step == "done")
        await send([encode({"steering": report()})])

    async def _answer(self, request: bytes, send: Send) -> Stream | Hold | None:
        try:
            return await self.commands.run(decode(request), send)
        except RefusedError as error:
            text = f"Operation failed: {error}"
        except RequestError as error:
            text = str(error)
        except (ConnectionError, TimeoutError):
            raise
        except Exception as error:  # noqa: BLE001  a mistake of our code costs only the answer to this request
            self.acceptor.failed(error)
            text = INTERNAL_ERROR
        await send([error_line(text).rstrip()])
        return None

    async def _subscription(self, stream: Stream, reader: "StreamReader", writer: "StreamWriter") -> None:
        """Send lines until the client closes."""
        if isinstance(stream, Subscriber):
            self.publisher.add(stream)
        self.followers += isinstance(stream, Follower)
        tasks = {asyncio.ensure_future(closed(reader)), asyncio.ensure_future(pump(stream, writer))}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self.followers -= isinstance(stream, Follower)
            if isinstance(stream, Subscriber):
                self.publisher.discard(stream)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def refusals(max_clients: int) -> dict[str, bytes]:
    """The answer to a refused client, by cause."""
    return {
        CONNECTIONS: error_line(f"too many clients ({max_clients} at most)"),
        DESCRIPTORS: error_line("the daemon has no file descriptors left for clients"),
    }


def error_line(text: str) -> bytes:
    """text may hold bytes that are not UTF-8, as in a path."""
    return encode({"error": text.encode(errors="backslashreplace").decode()}) + b"\n"


async def closed(reader: "StreamReader") -> None:
    """Wait until the client closes; ignore what it sends."""
    while await reader.read(65536):
        continue


async def pump(stream: Stream, writer: "StreamWriter") -> None:
    """Write lines as fast as the client reads them, with a turn for the loop between batches."""
    writer.write(stream.head + b"\n")
    while True:
        await writer.drain()
        writer.write(b"\n".join(await stream.lines()) + b"\n")
        await asyncio.sleep(0)
