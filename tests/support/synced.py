"""Daemons without packets that share a real server: an engine, a journal and a SyncKeeper each, in one loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from conntrackd_py.control.journal import JournalState
from conntrackd_py.control.sync.state import SyncState
from conntrackd_py.service.sync.keeper import SyncKeeper
from conntrackd_py.settings.schema import Settings, Sync
from tests.support.invariants import check
from tests.support.journals import attach
from tests.support.stage import Ticking
from tests.support.store import Store, store_in
from tests.support.waiting import until

TIME: Final = 60.0  # seconds that a scene may take


class Node:
    """A daemon. name: of the file with its role."""

    def __init__(self, folder: Path, url: str, name: str, **sync: object) -> None:
        self.router = Ticking()
        self.engine = self.router.engine
        self.router.now = self.router.clock()
        journal = JournalState()
        journal.journal = attach(self.engine)
        settings = Settings(mode="track", sync=Sync(url=url, **sync))  # type: ignore[arg-type]  # keys of a Sync
        self.state = SyncState()
        self.path = folder / f"{name}.role"
        self.keeper = SyncKeeper(self.engine, settings, journal, self.state, self.path, self.router.clock)

    def udp(self, *ports: int) -> None:
        self.router.now = self.router.clock()
        for port in ports:
            self.router.udp(port)

    def tuples(self) -> set[bytes]:
        return {ct.original for _, ct in self.engine.core.table.hash.items()}

    def whole(self) -> None:
        if self.engine.core.standby:
            self.engine.core.table.fill_free()
        check(self.engine)


class Scene:
    def __init__(self, folder: Path, store: Store) -> None:
        self.folder = folder
        self.store = store
        self.nodes: list[Node] = []

    async def node(self, name: str, **sync: object) -> Node:
        node = Node(self.folder, self.store.url, name, **sync)
        self.nodes.append(node)
        await node.keeper.start()
        return node

    async def pair(self) -> tuple[Node, Node]:
        """An active one, and a standby that is complete."""
        active = await self.node("a", role="active")
        await until(lambda: active.state.epoch > 0)
        standby = await self.node("b")
        await until(lambda: standby.state.synced)
        return active, standby

    async def equal(self, one: Node, other: Node) -> None:
        """Both have the same connections, soon."""
        await until(lambda: one.tuples() == other.tuples())
        one.whole()
        other.whole()


def play(folder: Path, scene: Callable[[Scene], Awaitable[None]], *words: str) -> None:
    """words: options of the server."""

    async def run() -> None:
        with store_in(folder, *words) as store:
            made = Scene(folder, store)
            try:
                async with asyncio.timeout(TIME):
                    await scene(made)
            finally:
                links = [node.keeper.link for node in made.nodes if node.keeper.link is not None]
                for link in links:
                    link.end()
                for link in links:
                    await asyncio.to_thread(link.join, 5)
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0)

    asyncio.run(run())
