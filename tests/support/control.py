"""A router with its control socket, and clients of it that read JSON lines."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from conntrackd_py.control.server import ControlServer
from tests.support.router import Router

LIMIT = 4096
Scene = Callable[["Stage"], Awaitable[None]]


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def line(self) -> Any:
        """The next line as JSON; None at the end."""
        async with asyncio.timeout(5):
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
    """A router, its control socket, and clients."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.router = Router()
        self.path = path
        self.clients: list[Client] = []
        options.setdefault("max_request", LIMIT)
        self.control = ControlServer(self.router.engine, self.router.clock, path=str(path), **options)

    async def client(self) -> Client:
        self.clients.append(Client(*await asyncio.open_unix_connection(str(self.path))))
        return self.clients[-1]

    async def listener(self, **arguments: object) -> Client:
        client = await self.client()
        assert await client.ask("events", **arguments) == [{"buffer": arguments.get("buffer", 8192)}]
        return client

    def publish(self) -> None:
        self.control.publisher.publish()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0.005)


def play(path: Path, scene: Scene, **options: Any) -> None:
    async def run() -> None:
        stage = Stage(path, **options)
        await stage.control.start()
        try:
            await scene(stage)
        finally:
            await stage.control.stop()
            for client in stage.clients:
                client.writer.transport.abort()
            await asyncio.sleep(0)

    asyncio.run(run())
