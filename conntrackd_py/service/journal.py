"""The journal of the daemon: read at the start, written while it runs, completed at a clean stop.

A journal that cannot be made or written never stops the daemon: an error is logged, status and metrics show it.
Margins after a crash: a record may be SLACK and one round of `turn` old. The time without a daemon does not count up to
AWAY_MOST, because packets were dropped that would have refreshed their connections.
"""

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, final

import structlog

from conntrackd_py.conntrack import journal as journals
from conntrackd_py.conntrack.journal import SLACK, Journal
from conntrackd_py.conntrack.records import record
from conntrackd_py.control.journal import JournalState
from conntrackd_py.engine.engine import Engine
from conntrackd_py.engine.takeover.restore import Origin, Restore
from conntrackd_py.service.journal_file import (
    OTHER_MODE,
    Header,
    JournalFile,
    NotBelievedError,
    Pulse,
    boot_id,
    fresh,
    journal_of,
    put_in_place,
    set_aside,
)
from conntrackd_py.service.side_records import LINKS, SideRecords
from conntrackd_py.settings.schema import OBSERVE, Settings

log = structlog.get_logger()

CHECKS: Final = 4096  # slots a turn
WRITES: Final = 256  # records a turn, about 0.4 ms
ROUND: Final = 10.0  # seconds in which the turns shall visit every slot
SOON: Final = 0.02  # seconds between two turns
LATEST: Final = 0.5
SIDES_EVERY: Final = 20  # ms: a change reads all expectations
READ_AT_ONCE: Final = 4096  # records
AWAY_MOST: Final = 60_000  # ms
FORWARDED: Final = "packets passed without a daemon for more than a minute"
NO_CLOCK: Final = "it is from before the last boot, and its clock is damaged"


@final
class JournalKeeper:
    """path: of the file. state: what status and metrics show. clock: ms."""

    def __init__(self, engine: Engine, settings: Settings, path: Path, state: JournalState, clock: Callable[[], int]):
        self.engine = engine
        self.settings = settings
        self.path = path
        self.state = state
        self.clock = clock
        self.file: JournalFile | None = None
        self.sides: SideRecords | None = None
        self.sides_at = 0  # ms: of their last turn
        state.enabled = settings.journal.enabled

    async def start(self, alive: Callable[[], None]) -> None:
        """Take over what a former process wrote, and write a journal from now on. alive: called now and then."""
        if not self.settings.journal.enabled:
            with contextlib.suppress(OSError):
                self.path.unlink()  # what it says will be out of date
            return
        try:
            await self._start(alive)
        except BlockingIOError:
            self._fail("another daemon has it")
        except OSError as problem:
            self._fail(problem.strerror or str(problem))
            with contextlib.suppress(OSError):
                self.state.aside = str(set_aside(self.path))

    def _fail(self, why: str) -> None:
        self.state.error = f"{self.path}: {why}"
        log.error("no_journal", error=self.state.error, help="a restart forgets all connections")
        self.close()

    async def _start(self, alive: Callable[[], None]) -> None:
        side = self.engine.core.expectations.limit + LINKS
        found = self._former()
        intact = False
        if found is not None:
            former, header = found
            intact = await self._restore(former, header, alive)
            if intact and header.side == side:
                self._adopt(former, journal_of(former, header))
                return
        file, journal = fresh(self.path, side, self.settings.mode)
        self._adopt(file, journal)
        journal.write_all(self.engine.core.table.slots)
        if found is not None:
            found[0].close()
            if found[0].path != self.path:
                found[0].path.unlink()
            elif not intact:
                self.state.aside = str(set_aside(self.path))
        put_in_place(file, self.path)

    def _former(self) -> tuple[JournalFile, Header] | None:
        """The journal of the former process, or the snapshot of a former boot; None if there is none to believe."""
        snapshot = self.settings.journal.snapshot
        for path in (self.path, Path(snapshot)) if snapshot else (self.path,):
            try:
                file = JournalFile(path)
            except FileNotFoundError:
                continue
            except NotBelievedError as why:
                self._disbelieve(path, why)
                continue
            try:
                header = file.header()
                if path != self.path and header.boot == boot_id():
                    file.close()  # the kernel forwarded packets since that stop
                    continue
                if header.mode != self.settings.mode:
                    raise NotBelievedError(OTHER_MODE.format(header.mode))
                pulse = file.pulse()
                if header.boot != boot_id() and pulse is None:
                    raise NotBelievedError(NO_CLOCK)
                if self._forwarded() and (pulse is None or self._away(header, pulse) > AWAY_MOST):
                    raise NotBelievedError(FORWARDED)
                return file, header
            except NotBelievedError as why:
                file.close()
                self._disbelieve(path, why)
        return None

    def _disbelieve(self, path: Path, why: NotBelievedError) -> None:
        self.state.aside = str(set_aside(path))
        log.warning("journal_set_aside", file=self.state.aside, reason=str(why))

    async def _restore(self, file: JournalFile, header: Header, alive: Callable[[], None]) -> bool:
        """Restore the connections of a file; False if it cannot be used further."""
        began, now = self.clock(), self.clock()
        same_boot = header.boot == boot_id()
        restore = Restore(self.engine, self.settings.tunables, header.side, self._origin(file, header, now), now)
        pulse = file.pulse()
        if len(file.buffer) < (pulse.size if pulse else journals.HEADER_SIZE + header.side * journals.RECORD):
            self.state.damaged = 1  # truncated
        count = -(-(len(file.buffer) - journals.HEADER_SIZE) // journals.RECORD)
        for first in range(0, count, READ_AT_ONCE):
            found = journals.read(file.buffer, header.seed, first, READ_AT_ONCE)
            self.state.damaged += found.damaged
            restore.take(found.records)
            alive()
            await asyncio.sleep(0)
        restore.finish()
        self.state.restored, self.state.refused = restore.restored, restore.refused
        journal = journal_of(file, header)
        for slot in restore.refused_slots:
            journal.clear(slot)
        refused = {reason: count for reason, count in restore.refused.items() if count}
        log.info(
            "restored",
            connections=restore.restored,
            **({"damaged": self.state.damaged} if self.state.damaged else {}),
            **refused,
            away=self.state.away / 1000,
            took=(self.clock() - began) / 1000,
        )
        return same_boot and not self.state.damaged and file.path == self.path

    def _origin(self, file: JournalFile, header: Header, now: int) -> Origin:
        pulse, same_boot = file.pulse(), header.boot == boot_id()
        if pulse is None:
            self.state.away = 0
            return Origin(0, AWAY_MOST, False)
        away = self.state.away = self._away(header, pulse)
        self.state.before = pulse.at if same_boot else -1
        stale = 0 if pulse.clean else SLACK * 1000 + pulse.lag
        exact = pulse.clean and same_boot and not self._forwarded()
        shift = 0 if same_boot else now - pulse.at - away
        if same_boot:
            return Origin(shift, stale + min(away, AWAY_MOST), exact)
        names, present = self._names(file, header), {name: index for index, name in self.engine.names.items()}
        links = {index: present[name] for index, name in names.items() if name in present}
        return Origin(shift, stale + min(away, AWAY_MOST), exact, links, names)

    def _forwarded(self) -> bool:
        """Whether packets pass while no daemon runs, so that connections change and end."""
        return self.settings.mode == OBSERVE or self.settings.queue.fail_open

    def _away(self, header: Header, pulse: Pulse) -> int:
        """ms since the former process."""
        same_boot = header.boot == boot_id()
        return max(self.clock() - pulse.at if same_boot else time.time_ns() // 1_000_000 - pulse.wall, 0)

    def _names(self, file: JournalFile, header: Header) -> dict[int, str]:
        """The interfaces of the former process."""
        found = journals.read(file.buffer, header.seed, 0, header.side).records
        return dict(record.decode_link(data) for _, data in found if record.kind_of(data) == record.LINK)

    def _adopt(self, file: JournalFile, journal: Journal) -> None:
        """Write into this file from now on."""
        journal.clear_side()
        self.file = file
        self.engine.core.write_into(journal)
        self.state.journal = journal
        self.sides = SideRecords(self.engine, journal)
        self._write_sides()
        self._beat(clean=False)

    def _beat(self, clean: bool) -> None:
        if self.file is not None and self.state.journal is not None:
            now = self.clock()
            wall, size = time.time_ns() // 1_000_000, len(self.file.buffer)
            self.file.write_pulse(Pulse(now, wall, self.state.journal.lag(now), size, clean))

    def turn(self) -> float:
        """Write some refreshed connections; returns the seconds until the next turn."""
        journal, slots = self.state.journal, self.engine.core.table.slots
        if journal is None or self.sides is None:
            return LATEST
        done = journal.turn(slots, self.clock(), CHECKS, WRITES)
        self._write_sides()
        self._beat(clean=False)
        if done >= WRITES:
            return SOON
        return min(max(ROUND * CHECKS / (len(slots) + 1), SOON), LATEST)

    def packets_handled(self) -> None:
        """Write changed expectations, at most once in SIDES_EVERY; the next turn writes later changes."""
        if self.sides is not None and self.sides.pending() and self.clock() - self.sides_at >= SIDES_EVERY:
            self._write_sides()

    def _write_sides(self) -> None:
        if self.sides is not None:
            self.sides.turn()
            self.sides_at = self.clock()
            self.state.side_unwritten = self.sides.unwritten

    def finish(self) -> None:
        """A clean stop: every connection as it is. No packet is handled afterwards."""
        if self.state.journal is None or self.sides is None:
            return
        self._write_sides()
        self.state.journal.write_all(self.engine.core.table.slots)
        self._beat(clean=True)
        if self.settings.journal.snapshot:
            self._copy(Path(self.settings.journal.snapshot))

    def _copy(self, snapshot: Path) -> None:
        temporary = snapshot.with_name(snapshot.name + ".new")
        try:
            shutil.copyfile(self.path, temporary)
            temporary.chmod(0o600)
            with temporary.open("rb") as copied:
                os.fsync(copied.fileno())
            temporary.rename(snapshot)
        except OSError as error:
            log.error("no_snapshot", file=str(snapshot), error=error.strerror or str(error))
            with contextlib.suppress(OSError):
                temporary.unlink()

    def close(self) -> None:
        self.engine.core.journal = self.state.journal = None
        if self.file is not None:
            self.file.close()
        self.file = None
