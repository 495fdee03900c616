"""A journal in memory, and an engine that is restarted from it in virtual time."""

from __future__ import annotations

from conntrackd_py.conntrack import journal as journals
from conntrackd_py.conntrack.journal import HEADER_SIZE, RECORD, SLACK, Journal, Room
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.engine.engine import Engine
from conntrackd_py.engine.takeover.restore import Origin, Restore
from conntrackd_py.service.journal import AWAY_MOST
from conntrackd_py.service.side_records import SideRecords

SIDE = 64
SEED = 0x5EED
MOST = 1 << 20
STEP = 64  # records


class Memory(Room):
    """A buffer that grows to `limit` bytes."""

    def __init__(self, limit: int = HEADER_SIZE + MOST * RECORD) -> None:
        self.buffer = bytearray(HEADER_SIZE + SIDE * RECORD)
        self.limit = limit

    def reserve(self, size: int) -> bool:
        if size > self.limit:
            return False
        self.buffer.extend(bytes(max(size + STEP * RECORD - len(self.buffer), 0)))
        return True


def attach(engine: Engine, room: Memory | None = None, *, seed: int = SEED) -> Journal:
    """Write the engine's connections into a new journal from now on."""
    room = room or Memory()
    journal = Journal(room.buffer, room, seed=seed, side=SIDE, most=MOST)
    engine.core.write_into(journal)
    return journal


def finish(engine: Engine) -> None:
    """What the daemon does at a clean stop."""
    journal = engine.core.journal
    assert journal is not None
    SideRecords(engine, journal).turn()
    journal.write_all(engine.core.table.slots)


def records(journal: Journal) -> list[tuple[int, bytes]]:
    found = journals.read(journal.buffer, journal.seed, 0, journal.records)
    assert found.damaged == 0
    return found.records


def restored(
    former: Journal, engine: Engine, now: int, *, clean: bool, away: int = 0, tunables: Tunables | None = None
) -> Restore:
    """Give a new engine, whose interfaces are set, what a former one wrote `away` ms ago."""
    margin = min(away, AWAY_MOST) + (0 if clean else SLACK * 1000 + former.lag(now - away))
    restore = Restore(engine, tunables or Tunables(), SIDE, Origin(0, margin, clean), now)
    restore.take(records(former))
    restore.finish()
    return restore
