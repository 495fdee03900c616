"""What the journal costs and how long reading it takes: `scripts/bench journal [CONNECTIONS]`.

No root, no network: packets go through the engine in this process, in virtual time, as in memory.py. On and off take
turns in one run; the figures are medians of ROUNDS. The journal is a real mapped file.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from conntrackd_py.control.journal import JournalState
from conntrackd_py.service.daemon import GC_THRESHOLDS
from conntrackd_py.service.journal import JournalKeeper
from conntrackd_py.settings.schema import Settings
from tests.bench.memory import Traffic, answered, tcp

ROUNDS: Final = 7
CONNECTIONS: Final = 20_000
SAMPLES: Final = 10_000
FOLDER: Final = Path("/dev/shm")
FIN_ACK, ACK = 0x11, 0x10


class Journalled(Traffic):
    """path: of the journal; None: none is written."""

    def __init__(self, kind: str, path: Path | None) -> None:
        super().__init__(kind, False)
        self.state = JournalState()
        self.keeper = JournalKeeper(self.engine, Settings(), path or Path(), self.state, lambda: self.now)
        if path is not None:
            asyncio.run(self.keeper.start(lambda: None))

    def whole(self, numbers: range) -> float:
        """CPU time in us of a TCP connection from SYN to TIME_WAIT, every visit of its six packets."""
        began = time.thread_time_ns()
        for i in numbers:
            left = self.visits(self.first(i), 1, 2)
            self.answer(i, left)
            self.visits(tcp(*self.address(i), FIN_ACK, 100, 500), 1, 2)
            self.visits(tcp(*answered(left), FIN_ACK, 500, 101), 2, 1)
            self.visits(tcp(*self.address(i), ACK, 101, 501), 1, 2)
        return (time.thread_time_ns() - began) / len(numbers) / 1000

    def refreshed(self) -> float:
        """CPU time in us of a record that the walk writes."""
        journal, written = self.state.journal, 0
        if journal is None:
            return 0.0
        for ct in self.engine.core.table.slots:
            if ct is not None:
                ct.timeout += 60_000
        began = time.thread_time_ns()
        while written < CONNECTIONS:
            written += journal.turn(self.engine.core.table.slots, self.now, 4096, 256)
        return (time.thread_time_ns() - began) / written / 1000


def once(kind: str, path: Path | None) -> dict[str, float]:
    traffic = Journalled(kind, path)
    traffic.grow(CONNECTIONS)
    found = {"known packet": traffic.known(SAMPLES)}
    found["new connection"] = traffic.fresh(range(CONNECTIONS, CONNECTIONS + SAMPLES))
    if traffic.tcp:
        found["whole connection"] = traffic.whole(range(CONNECTIONS + SAMPLES, CONNECTIONS + 2 * SAMPLES))
    found["refreshed record"] = traffic.refreshed()
    traffic.keeper.close()
    return found


def cost(folder: Path) -> None:
    print(f"{'':8}{'us of CPU time':20}{'off':>8}{'on':>8}{'more':>8}")
    for kind in ("udp", "tcp"):
        off: list[dict[str, float]] = []
        on: list[dict[str, float]] = []
        for number in range(ROUNDS):
            off.append(once(kind, None))
            on.append(once(kind, folder / f"{kind}{number}"))
        for name in off[0]:
            without, with_it = (statistics.median(one[name] for one in rows) for rows in (off, on))
            more = f"{100 * (with_it / without - 1):6.1f} %" if without else ""
            print(f"{kind:8}{name:20}{without:8.2f}{with_it:8.2f}{more:>9}")


def reading(path: Path, count: int) -> None:
    former = Journalled("tcp", path)
    former.grow(count)
    began = time.monotonic()
    former.keeper.finish()
    print(f"clean stop with {count:,} connections: {time.monotonic() - began:.2f} s")
    former.keeper.close()
    size = path.stat().st_size
    del former
    gc.collect()
    began = time.monotonic()
    restored = Journalled("tcp", path)
    took = time.monotonic() - began
    print(f"start with {restored.state.restored:,} connections: {took:.2f} s; file {size / 1e6:.0f} MB")
    assert restored.state.restored == count, restored.state.error


def main() -> None:
    gc.set_threshold(*GC_THRESHOLDS)
    with tempfile.TemporaryDirectory(dir=FOLDER) as name:
        folder = Path(name)
        if len(sys.argv) > 1:
            reading(folder / "journal", int(sys.argv[1]))
        else:
            cost(folder)


if __name__ == "__main__":
    main()
