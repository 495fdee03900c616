"""The other end of the control socket: one request, its lines. Blocking, and quick to import.

A daemon that answers nothing for PATIENCE seconds is given up. An order may take longer and say nothing meanwhile (it
walks the table): so after half of the time a second connection asks whether the daemon answers at all.
"""

import json
import os
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

DEFAULT_PATH: Final = "/run/conntrackd-py/control.sock"
VARIABLE: Final = "CONNTRACKD_PY_SOCKET"
CHUNK: Final = 65536
PATIENCE: Final = 10.0  # seconds
TIMEVAL: Final = struct.Struct("@ll")

Line = dict[str, Any]


class ClientError(Exception):
    """The daemon cannot be asked, or refused; reads as one line."""


def socket_path(option: str | None) -> str:
    """From --socket, else the environment, else where the packaged daemon listens."""
    return option or os.environ.get(VARIABLE) or DEFAULT_PATH


class Client:
    """One connection to a daemon; a context manager. Raises ClientError.

    patience: seconds without an answer after which the daemon is given up.
    """

    def __init__(self, path: str, patience: float | None = None) -> None:
        self.path = path
        self.patience = PATIENCE if patience is None else patience
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._buffer = b""
        # Of the kernel, not Python's: with settimeout, connect(2) would fail at once when the backlog is full.
        limit = TIMEVAL.pack(int(self.patience), int(self.patience % 1 * 1e6))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        try:
            self._socket.connect(path)
        except BlockingIOError as error:
            raise self._failed(self._silent()) from error
        except FileNotFoundError as error:
            raise self._failed(f"no daemon listens on {path}") from error
        except ConnectionRefusedError as error:
            raise self._failed(f"the daemon that listened on {path} is gone") from error
        except OSError as error:
            raise self._failed(f"cannot reach a daemon on {path}: {error.strerror or error}") from error

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *unused: object) -> None:
        self._socket.close()

    def ask(self, request: Line, stop: int | None = None) -> Iterator[Line]:
        """Send one request and yield what comes back, until the daemon closes or fd `stop` becomes readable.

        With `stop` it is a subscription: only the first line has to come in time.
        """
        try:
            with suppress(ConnectionError):  # refused unread: the reason is waiting to be read
                self._socket.sendall(json.dumps(request).encode() + b"\n", socket.MSG_NOSIGNAL)
        except BlockingIOError as error:
            raise ClientError(self._silent()) from error
        limit: float | None = self.patience
        while (raw := self._readline(stop, limit)) is not None:
            limit = self.patience if stop is None else None
            line: Line = json.loads(raw)
            if "error" in line:
                raise ClientError(line["error"])
            yield line

    def _readline(self, stop: int | None, limit: float | None) -> bytes | None:
        """The next line; None when `stop` is readable. limit: seconds until the daemon must show that it lives."""
        files = [self._socket.fileno(), *([] if stop is None else [stop])]
        while b"\n" not in self._buffer:
            ready = select.select(files, [], [], None if limit is None else limit / 2)[0]
            if stop in ready:
                return None
            if not ready:
                self._check_alive()
                continue
            try:
                received = self._socket.recv(CHUNK)
            except ConnectionError:
                received = b""
            if not received:
                raise ClientError(f"the daemon on {self.path} closed the connection")
            self._buffer += received
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _check_alive(self) -> None:
        """Raises ClientError when the daemon answers nothing on another connection either."""
        with Client(self.path, self.patience / 2) as other:
            with suppress(ConnectionError):  # too many clients: an answer
                other._socket.sendall(b'{"command":"ping"}\n', socket.MSG_NOSIGNAL)
            if not select.select([other._socket], [], [], other.patience)[0]:
                raise ClientError(self._silent())

    def _silent(self) -> str:
        return f"the daemon on {self.path} does not answer: it is stopped or overloaded"

    def _failed(self, why: str) -> ClientError:
        self._socket.close()
        return ClientError(why)
