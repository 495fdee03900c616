"""Real connections to a real listening socket: how many are served, and what the others cost."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from conntrackd_py.kernel import acceptor as module
from conntrackd_py.kernel.acceptor import ACCEPT, CONNECTIONS, DESCRIPTORS, Acceptor
from tests.support.waiting import until

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Stage:
    """An acceptor whose sessions answer each line with it; `boom` raises an exception."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.path = path
        self.now = 0.0
        self.acceptor = Acceptor("echo", self.serve, limit=100, clock=lambda: self.now, apology=b"sorry\n", **options)
        self.clients: list[Client] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if line == b"boom\n":
                raise ZeroDivisionError
            writer.write(line)

    async def client(self) -> Client:
        self.clients.append(await asyncio.open_unix_connection(str(self.path)))
        return self.clients[-1]

    async def line(self, client: Client) -> bytes:
        async with asyncio.timeout(10):
            return await client[0].readline()

    async def ask(self, client: Client, text: bytes) -> bytes:
        client[1].write(text)
        return await self.line(client)


def play(path: Path, scene: Callable[[Stage], Awaitable[None]], **options: Any) -> list[Any]:
    """The log."""

    async def run() -> None:
        stage = Stage(path, **options)
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(path))
        listening.listen(100)
        listening.setblocking(False)
        stage.acceptor.start(listening)
        try:
            await scene(stage)
        finally:
            await stage.acceptor.stop()
            for _, writer in stage.clients:
                writer.transport.abort()
            await asyncio.sleep(0)

    with capture_logs() as logs:
        asyncio.run(run())
    return [entry for entry in logs if entry["log_level"] != "debug"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "socket"


@contextmanager
def descriptors(limit: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def next_descriptor() -> int:
    with socket.socket() as probe:
        return probe.fileno()


def test_beyond_the_limit_a_client_gets_an_error_and_is_counted(path: Path) -> None:
    async def scene(stage: Stage) -> None:
        first = await stage.client()
        assert await stage.ask(first, b"a\n") == b"a\n"
        refused = [await stage.client() for _ in range(20)]
        assert [await stage.line(client) for client in refused] == [b"full\n"] * 20
        assert stage.acceptor.refused == {CONNECTIONS: 20, DESCRIPTORS: 0, ACCEPT: 0}
        assert await stage.ask(first, b"b\n") == b"b\n"

    (told,) = play(path, scene, most=1, refusals={CONNECTIONS: b"full\n"})
    assert (told["event"], told["server"], told["cause"], told["refused"]) == (
        *("connection_refused", "echo", "connections", 1),
    )


def test_or_the_oldest_makes_room(path: Path) -> None:
    async def scene(stage: Stage) -> None:
        idle = [await stage.client() for _ in range(40)]
        newest = await stage.client()
        assert await stage.ask(newest, b"a\n") == b"a\n"
        assert [await stage.line(client) for client in idle[:38]] == [b""] * 38
        assert await stage.ask(idle[-1], b"b\n") == b"b\n"
        assert stage.acceptor.refused[CONNECTIONS] == 38
        await until(lambda: stage.acceptor.sessions == 3)

    play(path, scene, most=3, evict=True)


def test_each_cause_is_logged_once_a_minute(path: Path) -> None:
    async def scene(stage: Stage) -> None:
        for _ in range(5):
            await stage.line(await stage.client())
        stage.now += module.EVERY
        await stage.line(await stage.client())

    assert [entry["refused"] for entry in play(path, scene, most=0)] == [1, 6]


def test_the_last_descriptors_are_the_daemons(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY", 0.01)

    async def scene(stage: Stage) -> None:
        first = await stage.client()
        assert await stage.ask(first, b"a\n") == b"a\n"
        client = await stage.client()  # has the lower of the two descriptors that its connection takes
        assert await stage.ask(client, b"a\n") == b"a\n"
        with descriptors(next_descriptor() + module.RESERVE):
            refused = [await stage.client() for _ in range(3)]
            assert [await stage.line(one) for one in refused] == [b"no descriptors\n"] * 3
            assert stage.acceptor.refused[DESCRIPTORS] == 3
        assert await stage.ask(await stage.client(), b"b\n") == b"b\n"

    assert len(play(path, scene, most=9, refusals={DESCRIPTORS: b"no descriptors\n"})) == 1


def test_without_any_descriptor_clients_wait_and_little_is_logged(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY", 0.01)

    async def scene(stage: Stage) -> None:
        assert await stage.ask(await stage.client(), b"a\n") == b"a\n"
        with descriptors(next_descriptor() + 1):  # the client takes the last
            late = await stage.client()
            late[1].write(b"b\n")
            await until(lambda: stage.acceptor.refused[ACCEPT] > 10)
        assert await stage.line(late) == b"b\n"

    (told,) = play(path, scene, most=9)
    assert (told["cause"], told["why"]) == ("accept", "EMFILE")


def test_a_mistake_of_ours_is_answered_counted_and_logged_once(path: Path) -> None:
    async def scene(stage: Stage) -> None:
        for _ in range(3):
            assert await stage.ask(await stage.client(), b"boom\n") == b"sorry\n"
        assert stage.acceptor.errors == 3
        assert await stage.ask(await stage.client(), b"a\n") == b"a\n"

    (told,) = play(path, scene, most=9)
    assert (told["event"], told["server"]) == ("session_failed", "echo")


def test_many_at_once_are_served_by_and_by(path: Path) -> None:
    async def scene(stage: Stage) -> None:
        clients = [await stage.client() for _ in range(50)]
        assert [await stage.ask(client, b"a\n") for client in clients] == [b"a\n"] * 50

    assert play(path, scene, most=50) == []
