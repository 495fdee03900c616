"""The client of the control socket: sends a request and reads the lines of its answer. Blocking.

A daemon that sends nothing for PATIENCE seconds is given up. A walk over the table may take longer: after half of the
time the client sends a ping on a second connection, and waits on if that is answered.
"""

import os
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from msgspec.json import Decoder, Encoder

from conntrackd_py.control.protocol.answers import Line
from conntrackd_py.control.protocol.requests import Ping, Request

DEFAULT_PATH: Final = "/run/conntrackd-py/control.sock"
VARIABLE: Final = "CONNTRACKD_PY_SOCKET"
CHUNK: Final = 65536
PATIENCE: Final = 10.0  # seconds
TIMEVAL: Final = struct.Struct("@ll")
_encode: Final = Encoder().encode
_decode: Final = Decoder(Line).decode


class ClientError(Exception):
    """The daemon does not answer, or refused the request; the text is one line."""


def socket_path(option: str | None) -> str:
    """The path of --socket, else of the environment, else of the packaged daemon."""
    return option or os.environ.get(VARIABLE) or DEFAULT_PATH


class Client:
    """One connection to a daemon; a context manager. Raises ClientError. patience: seconds without an answer."""

    def __init__(self, path: str, patience: float | None = None) -> None:
        self.path = path
        self.patience = PATIENCE if patience is None else patience
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._buffer = b""
        # The kernel's timeout: with settimeout(), connect(2) fails at once when the backlog is full.
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

    def ask(self, request: Request, stop: int | None = None) -> Iterator[Line]:
        """Send the request and yield the lines of its answer, until the daemon closes or fd `stop` becomes readable.

        With `stop` it is a subscription: only the first line must come in time.
        """
        try:
            with suppress(ConnectionError):  # the daemon refused the client: its reason can still be read
                self._socket.sendall(_encode(request) + b"\n", socket.MSG_NOSIGNAL)
        except BlockingIOError as error:
            raise ClientError(self._silent()) from error
        except UnicodeEncodeError as error:
            raise ClientError(f"not UTF-8: {error.object!r}") from error
        limit: float | None = self.patience
        while (raw := self._readline(stop, limit)) is not None:
            limit = self.patience if stop is None else None
            line = _decode(raw)
            if "error" in line:
                raise ClientError(line["error"])
            yield line

    def _readline(self, stop: int | None, limit: float | None) -> bytes | None:
        """The next line; None when `stop` is readable. limit: seconds until the daemon must answer."""
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
        """Raises ClientError when the daemon does not answer a ping on another connection."""
        with Client(self.path, self.patience / 2) as other:
            with suppress(ConnectionError):  # "too many clients" is an answer too
                other._socket.sendall(_encode(Ping()) + b"\n", socket.MSG_NOSIGNAL)
            if not select.select([other._socket], [], [], other.patience)[0]:
                raise ClientError(self._silent())

    def _silent(self) -> str:
        return f"the daemon on {self.path} does not answer: it is stopped or overloaded"

    def _failed(self, why: str) -> ClientError:
        self._socket.close()
        return ClientError(why)
