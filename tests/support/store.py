"""A real redis-server on a unix socket, for tests without root."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import redis

from tests.support.waiting import wait_until


class Store:
    """words: options of redis-server."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.path = folder / "redis.sock"
        self.words = ("--port", "0", "--save", "", "--appendonly", "no", "--dir", str(folder), *words)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def start(self) -> None:
        command = ("redis-server", "--unixsocket", str(self.path), *self.words)
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_until(self.answers, "the server answers")

    def answers(self) -> bool:
        with contextlib.suppress(redis.RedisError):
            return bool(self.client().ping())
        return False

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.path), protocol=2)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextlib.contextmanager
def store_in(folder: Path, *words: str) -> Iterator[Store]:
    store = Store(folder, *words)
    store.start()
    try:
        yield store
    finally:
        store.stop()
