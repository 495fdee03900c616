"""A server in a loop of its own thread, for tests whose clients block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Server(Protocol):
    def start(self) -> None: ...

    async def stop(self) -> None: ...


@contextmanager
def running(server: Server) -> Iterator[None]:
    loop = asyncio.new_event_loop()

    async def call() -> None:
        server.start()

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(call(), loop).result(10)
        yield
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
