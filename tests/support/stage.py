"""A real control socket, clients of it, and real client processes."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from conntrackd_py.control.server import ControlServer
from tests.support.router import Router
from tests.support.waiting import until

CONNTRACKD_PY: Final = "conntrackd_py.cli.conntrackd.main"
CONNTRACK_PY: Final = "conntrackd_py.cli.conntrack.main"


LIMIT: Final = 4096  # bytes of a request, so that tests reach it soon


class Result(NamedTuple):
    status: int
    out: str
    err: str


class Ticking(Router):
    """Its clock goes on by itself, as a daemon's does."""

    def clock(self) -> int:
        return time.monotonic_ns() // 1_000_000


class Client:
    """A connection to the control socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def line(self) -> Any:
        """The next line as JSON; None at the end."""
        async with asyncio.timeout(10):
            line = await self.reader.readline()
        return json.loads(line) if line else None

    async def ask(self, command: str, **arguments: object) -> list[Any]:
        """Everything up to the line that ends an answer."""
        self.send(json.dumps({"command": command, **arguments}).encode() + b"\n")
        lines = [await self.line()]
        while "ct" in lines[-1] or "expect" in lines[-1]:
            lines.append(await self.line())
        return lines


class Stage:
    """A router and its control socket. program: the module of the command that `run` and `start` mean."""

    def __init__(self, path: Path, router: Router | None = None, program: str = CONNTRACKD_PY, **options: Any) -> None:
        self.path = path
        self.router = router or Router()
        self.program = program
        self.clients: list[Client] = []
        self.control = ControlServer(self.router.engine, self.router.clock, path=str(path), **options)

    async def client(self) -> Client:
        self.clients.append(Client(*await asyncio.open_unix_connection(str(self.path))))
        return self.clients[-1]

    async def listener(self, **arguments: object) -> Client:
        client = await self.client()
        assert await client.ask("events", **arguments) == [{"buffer": arguments.get("buffer", 8192)}]
        return client

    async def ask(self, command: str, **arguments: object) -> Any:
        """The first line of the answer to a client of its own."""
        client = await self.client()
        try:
            return (await client.ask(command, **arguments))[0]
        finally:
            client.writer.transport.abort()

    def publish(self) -> None:
        self.control.publisher.publish()

    async def until(self, condition: Callable[[], bool]) -> None:
        await until(condition)

    async def start(self, *words: str, env: dict[str, str] | None = None) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", self.program),
            *words,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "CONNTRACKD_PY_SOCKET": str(self.path), **(env or {})},
        )

    async def run(self, line: str, *words: str, env: dict[str, str] | None = None) -> Result:
        """The program with the words of the line and these, to its end."""
        return await finished(await self.start(*line.split(), *words, env=env))

    async def listening(self, *words: str) -> asyncio.subprocess.Process:
        """`conntrack-py -E` with these words, when it has subscribed."""
        process = await self.start("-E", *words)
        await until(lambda: bool(self.control.publisher.subscribers))
        return process


async def finished(process: asyncio.subprocess.Process) -> Result:
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Result(process.returncode, out.decode(), err.decode())


def play(path: Path, scene: Callable[[Stage], Awaitable[None]], **options: Any) -> None:
    """The scene with its control socket, which is gone afterwards. options: those of Stage and of Control."""

    async def run() -> None:
        stage = Stage(path, **{"max_request": LIMIT, **options})
        await stage.control.start()
        try:
            await scene(stage)
        finally:
            await stage.control.stop()
            for client in stage.clients:
                client.writer.transport.abort()
            await asyncio.sleep(0)

    asyncio.run(run())
