"""A real control socket and real processes of ours that ask it, for tests of the commands."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

from conntrackd_py.control.server import ControlServer
from conntrackd_py.control.status import DaemonInfo
from tests.support.router import Router


class Result(NamedTuple):
    status: int
    out: str
    err: str


class Ticking(Router):
    """Its clock goes on by itself, as a daemon's does."""

    def clock(self) -> int:
        return time.monotonic_ns() // 1_000_000


class Stage:
    def __init__(self, path: Path, router: Router | None = None, info: DaemonInfo | None = None) -> None:
        self.path = path
        self.router = router or Router()
        self.control = ControlServer(self.router.engine, self.router.clock, path=str(path), info=info)

    async def run(self, *words: str, env: dict[str, str] | None = None) -> Result:
        """conntrackd-py with these words, to its end."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "conntrackd_py.cli.conntrackd.main"),
            *words,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "CONNTRACKD_PY_SOCKET": str(self.path), **(env or {})},
        )
        async with asyncio.timeout(30):
            out, err = await process.communicate()
        assert process.returncode is not None
        return Result(process.returncode, out.decode(), err.decode())

    async def ask(self, command: str, **arguments: object) -> Any:
        """The first line of the answer."""
        reader, writer = await asyncio.open_unix_connection(str(self.path))
        try:
            writer.write(json.dumps({"command": command, **arguments}).encode() + b"\n")
            async with asyncio.timeout(10):
                return json.loads(await reader.readline())
        finally:
            writer.transport.abort()


def play(path: Path, scene: Callable[[Stage], Awaitable[None]], **options: Any) -> None:
    """The scene with its control socket, which is gone afterwards."""

    async def run() -> None:
        stage = Stage(path, **options)
        await stage.control.start()
        try:
            await scene(stage)
        finally:
            await stage.control.stop()

    asyncio.run(run())
