"""The other end of the control socket: one request, its lines. Blocking, and quick to import."""

import json
import os
import select
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

DEFAULT_PATH: Final = "/run/conntrackd-py/control.sock"
VARIABLE: Final = "CONNTRACKD_PY_SOCKET"
CHUNK: Final = 65536

Line = dict[str, Any]


class ClientError(Exception):
    """The daemon cannot be asked, or refused; reads as one line."""


def socket_path(option: str | None) -> str:
    """From --socket, else the environment, else where the packaged daemon listens."""
    return option or os.environ.get(VARIABLE) or DEFAULT_PATH


class Client:
    """One connection to a daemon; a context manager. Raises ClientError."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._buffer = b""
        try:
            self._socket.connect(path)
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
        """Send one request and yield what comes back, until the daemon closes or fd `stop` becomes readable."""
        with suppress(ConnectionError):  # refused unread: the reason is waiting to be read
            self._socket.sendall(json.dumps(request).encode() + b"\n", socket.MSG_NOSIGNAL)
        while (raw := self._readline(stop)) is not None:
            line: Line = json.loads(raw)
            if "error" in line:
                raise ClientError(line["error"])
            yield line

    def _readline(self, stop: int | None) -> bytes | None:
        while b"\n" not in self._buffer:
            if stop is not None and stop in select.select([self._socket.fileno(), stop], [], [])[0]:
                return None
            try:
                received = self._socket.recv(CHUNK)
            except ConnectionError:
                received = b""
            if not received:
                raise ClientError(f"the daemon on {self.path} closed the connection")
            self._buffer += received
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _failed(self, why: str) -> ClientError:
        self._socket.close()
        return ClientError(why)
