"""Part turns: how long packets wait for one turn of the daemon's loop, while it lists, ends or counts a full table.

No root, no network: engine, control socket and metrics of the daemon run in this process, the commands are the real
ones. A turn is everything between two looks at the packet queue. It is measured in CPU time, so other programs do not
lengthen it. "nothing" is a loop without work: the noise of the machine.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from conntrackd_py.control.server import ControlServer
from conntrackd_py.kernel.queues.queue import QueueCounters
from conntrackd_py.service.daemon import EXPIRE_A_TURN, GC_THRESHOLDS, SOON
from conntrackd_py.service.metrics.collector import EngineCollector
from conntrackd_py.service.metrics.exporter import Exporter
from conntrackd_py.service.pauses import Pauses
from tests.bench.memory import DAY, Traffic
from tests.bench.results import Results, Table, plain, table

PART: Final = "turns"
SCRAPES: Final = 100
PROGRAMS: Final = {
    name: (sys.executable, "-P", "-m", f"conntrackd_py.cli.{name}.main") for name in ("conntrack", "conntrackd")
}
OPERATIONS: Final = {
    "nothing": "nothing",
    "list": "`-L`",
    "json": "`-L -o json`",
    "top": "`top`",
    "scrape": "a scrape of the metrics",
    "flush": "`-F`",
    "expire": "connections expire",
}
COLUMNS: Final = [
    plain("turns", "turns"),
    plain("p50, ms", "p50"),
    plain("p99, ms", "p99"),
    plain("longest, ms", "max"),
    plain("over 1 ms", "over"),
]


async def turns(work: Awaitable[None]) -> list[float]:
    """The ms of each turn of the loop until the work is done."""
    found: list[float] = []
    task = asyncio.ensure_future(work)
    while not task.done():
        began = time.thread_time_ns()
        await asyncio.sleep(0)
        found.append((time.thread_time_ns() - began) / 1e6)
    task.result()
    return found


class Daemon:
    """The servers of the daemon over an engine with `count` connections."""

    def __init__(self, folder: Path, count: int) -> None:
        self.count = count
        self.traffic = Traffic("udp", accounting=True)
        self.socket = str(folder / "control.sock")
        engine, clock = self.traffic.engine, lambda: self.traffic.now
        self.control = ControlServer(engine, clock, path=self.socket)
        collector = EngineCollector(engine, QueueCounters(), self.control, pauses=Pauses())
        self.exporter = Exporter(collector, ("127.0.0.1", 0))

    async def measured(self) -> dict[str, list[float]]:
        await self.control.start()
        self.exporter.start()
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        self.traffic.grow(self.count)
        works: dict[str, Callable[[], Awaitable[None]]] = {
            "nothing": lambda: asyncio.sleep(1),
            "list": lambda: self.command("conntrack", "-L"),
            "json": lambda: self.command("conntrack", "-L", "-o", "json"),
            "top": lambda: self.command("conntrackd", "top", "--once", "--json", "--interval", "1"),
            "scrape": self.scrape,
            "flush": lambda: self.command("conntrack", "-F"),
            "expire": self.expire,
        }
        found = {}
        for name, work in works.items():
            if not len(self.traffic.engine.core.table):
                self.traffic.shrink("flush")
                self.traffic.grow(self.count)
            found[name] = await turns(work())
        await self.exporter.stop()
        await self.control.stop()
        return found

    async def command(self, program: str, *words: str) -> None:
        command = (*PROGRAMS[program], *words, "--socket", self.socket)
        devnull = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(*command, stdout=devnull, stderr=devnull)
        if await process.wait():
            raise SystemExit(f"scripts/bench: {' '.join(words)} failed")

    async def scrape(self) -> None:
        for _ in range(SCRAPES):
            reader, writer = await asyncio.open_connection(*self.exporter.address)
            writer.write(b"GET /metrics HTTP/1.0\r\nAccept-Encoding: gzip\r\n\r\n")  # as Prometheus
            if b" 200 " not in await reader.readline() or not await reader.read():
                raise SystemExit("scripts/bench: the scrape failed")
            writer.close()

    async def expire(self) -> None:
        self.traffic.now += 10 * DAY
        engine = self.traffic.engine
        while len(engine.core.table):
            engine.expire(self.traffic.now, EXPIRE_A_TURN)
            await asyncio.sleep(SOON)


def measure(results: Results, count: int, rounds: int) -> None:
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            for name, took in asyncio.run(Daemon(Path(folder), count).measured()).items():
                ordered = sorted(took)
                for column, value in {
                    "turns": len(took),
                    "p50": ordered[len(took) // 2],
                    "p99": ordered[len(took) * 99 // 100],
                    "max": ordered[-1],
                    "over": sum(one > 1 for one in took),
                }.items():
                    results.add(PART, name, column, value)


def tables(results: Results) -> dict[str, Table]:
    return {PART: table(results, PART, OPERATIONS, COLUMNS, "meanwhile")}
