"""Accepts connections in the daemon's loop and serves each in a task, without delaying packets.

- At most `most` connections at once. The next one is refused; with `evict`, the oldest is closed instead.
- RESERVE descriptors stay free for the daemon itself.
- At most A_TURN connections are accepted in a turn, with TLS one (a handshake takes up to 2 ms), then none for PAUSE
  seconds.
- When accept(2) fails (no descriptor, no memory), nothing is accepted for RETRY seconds.

Refusals are counted by cause. Each cause is logged at most once in EVERY seconds.
"""

import asyncio
import contextlib
import errno
import resource
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final, final

import structlog

from conntrackd_py.kernel.failures import FailureLog

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from ssl import SSLContext

RESERVE: Final = 16  # file descriptors
A_TURN: Final = 8  # connections
PAUSE: Final = 0.02  # seconds
RETRY: Final = 1.0
HANDSHAKE: Final = 5.0
EVERY: Final = 60.0
LINGER: Final = 1.0  # seconds for which close() reads
LINGER_READS: Final = 16

CONNECTIONS: Final = "connections"  # `most` connections are open
DESCRIPTORS: Final = "descriptors"  # only the reserve was left
ACCEPT: Final = "accept"  # accept(2) failed; the client waits
TLS: Final = "tls"  # the handshake failed
CAUSES: Final = (CONNECTIONS, DESCRIPTORS, ACCEPT)

log = structlog.get_logger()

Serve = Callable[["StreamReader", "StreamWriter"], Awaitable[None]]


@final
class Acceptor:
    """name: of the server, for logs and metrics. limit: bytes of a line. clock: seconds. tls: None: plain connections.

    refusals: bytes sent to a refused client, by cause. apology: bytes sent after an exception in `serve`.
    """

    def __init__(
        self,
        name: str,
        serve: Serve,
        *,
        most: int,
        limit: int,
        evict: bool = False,
        refusals: Mapping[str, bytes] | None = None,
        apology: bytes = b"",
        clock: Callable[[], float] = time.monotonic,
        tls: "SSLContext | None" = None,
    ) -> None:
        self.name = name
        self.serve = serve
        self.most = most
        self.limit = limit
        self.evict = evict
        self.refusals = refusals or {}
        self.apology = apology
        self.clock = clock
        self.tls = tls
        self.refused = dict.fromkeys((*CAUSES, TLS) if tls else CAUSES, 0)
        self.errors = 0  # exceptions of our own code
        self._failures = FailureLog("session_failed")
        self._logged: dict[str, float] = {}  # time of the last line, by cause
        self._sessions: dict[asyncio.Task[None], None] = {}  # oldest first
        self._listening: socket.socket | None = None
        self._pausing: asyncio.TimerHandle | None = None

    @property
    def sessions(self) -> int:
        return len(self._sessions)

    def start(self, listening: socket.socket) -> None:
        """Accept in the running loop. The socket must be non-blocking; `stop` closes it."""
        self._listening = listening
        self._listen()

    def move(self, listening: socket.socket) -> None:
        """Accept from another listening socket; open connections stay."""
        if self._listening is not None:
            self._mute()
            self._listening.close()
        self.start(listening)

    async def stop(self) -> None:
        """Close the listening socket and every connection."""
        if self._listening is None:
            return
        self._mute()
        self._listening.close()
        self._listening = None
        sessions = list(self._sessions)
        for task in sessions:
            task.cancel()
        await asyncio.gather(*sessions, return_exceptions=True)

    def failed(self, error: Exception) -> None:
        """Count an exception of our own code; log it once for its place."""
        self.errors += 1
        self._failures.note(error, server=self.name)

    def _listen(self) -> None:
        assert self._listening is not None
        self._pausing = None
        asyncio.get_running_loop().add_reader(self._listening.fileno(), self._ready, self._listening)

    def _mute(self) -> None:
        assert self._listening is not None
        if self._pausing is None:
            asyncio.get_running_loop().remove_reader(self._listening.fileno())
        else:
            self._pausing.cancel()

    def _pause(self, seconds: float) -> None:
        self._mute()
        self._pausing = asyncio.get_running_loop().call_later(seconds, self._listen)

    def _ready(self, listening: socket.socket) -> None:
        for _ in range(1 if self.tls else A_TURN):
            try:
                sock, _ = listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                self._count(ACCEPT, errno.errorcode.get(error.errno or 0, str(error)))
                self._pause(RETRY)
                return
            sock.setblocking(False)
            if sock.fileno() >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVE:
                self._refuse(sock, DESCRIPTORS, f"the last {RESERVE} file descriptors are reserved")
                self._pause(RETRY)
                return
            self._admit(sock)
        self._pause(PAUSE)

    def _admit(self, sock: socket.socket) -> None:
        if len(self._sessions) >= self.most:
            why = f"{self.most} connections at most"
            if not self.evict:
                self._refuse(sock, CONNECTIONS, why)
                return
            self._count(CONNECTIONS, why)
            oldest = next(iter(self._sessions))
            del self._sessions[oldest]
            oldest.cancel()
        task = asyncio.get_running_loop().create_task(self._session(sock))
        self._sessions[task] = None
        task.add_done_callback(lambda done: self._over(done, sock))

    def _refuse(self, sock: socket.socket, cause: str, why: str) -> None:
        self._count(cause, why)
        with sock, contextlib.suppress(OSError):  # the client has closed
            sock.send(self.refusals.get(cause, b""))

    def _count(self, cause: str, why: str) -> None:
        self.refused[cause] += 1
        now = self.clock()
        if cause not in self._logged or now - self._logged[cause] >= EVERY:
            self._logged[cause] = now
            log.warning(
                "connection_refused", server=self.name, cause=cause, why=why, refused=self.refused[cause], every=EVERY
            )

    async def _session(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(self.limit)
        protocol = asyncio.StreamReaderProtocol(reader)
        patience = HANDSHAKE if self.tls else None
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, sock, ssl=self.tls, ssl_handshake_timeout=patience
            )
        except OSError as error:
            self._count(TLS, str(error))
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            await self._serve(reader, writer)
        except ConnectionError:
            log.debug("client_gone", server=self.name)
        except TimeoutError:
            log.debug("client_stalled", server=self.name)
        finally:
            transport.abort()

    async def _serve(self, reader: "StreamReader", writer: "StreamWriter") -> None:
        try:
            await self.serve(reader, writer)
        except (ConnectionError, TimeoutError):
            raise
        except Exception as error:  # noqa: BLE001  a mistake of our code ends only this session
            self.failed(error)
            writer.write(self.apology)
            await close(reader, writer)

    def _over(self, task: asyncio.Task[None], sock: socket.socket) -> None:
        self._sessions.pop(task, None)
        sock.close()  # also when the task was cancelled before it started
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("session_lost", server=self.name, error=str(error))


async def close(reader: "StreamReader", writer: "StreamWriter") -> None:
    """Send the written bytes, then read a little: closing with unread input would reset the connection."""
    try:
        async with asyncio.timeout(LINGER):
            await writer.drain()
            if writer.can_write_eof():  # TLS cannot close one direction
                writer.write_eof()
            for _ in range(LINGER_READS):
                if not await reader.read(65536):
                    return
    except TimeoutError:
        log.debug("client_lingers")
