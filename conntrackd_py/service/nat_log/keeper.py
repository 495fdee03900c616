"""The NAT log of the daemon: takes events from the engine and gives them to the writer. Runs in the daemon's loop.

- Times are those of the system's clock, computed from the engine's clock when events are drained. A CLOCK line reports
  that the system's clock was set.
- What does not fit the writer's buffer is lost. A LOST line says how much, at its place among the lines.
- A list (LIST, an OPEN line for each translated connection, a HELD line for each block, LISTED) says what there is: at
  the start, when the log begins, when this router takes over, and after lost lines. So a reader knows which ends were
  not logged.
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Final, final

import structlog

from conntrackd_py import __version__
from conntrackd_py.conntrack.events import BEGINS_OR_ENDS, Event, EventQueue
from conntrackd_py.conntrack.split_dict import PARTS
from conntrackd_py.const import IPCT_DESTROY, IPS_CONFIRMED, IPS_DYING, IPS_NAT_MASK, IPS_SRC_NAT
from conntrackd_py.engine.engine import Engine
from conntrackd_py.explain import nat_log
from conntrackd_py.explain.nat_log import Connections, Texts, block_line, held_line, note_line
from conntrackd_py.service.nat_log.writer import Piece, Writer, lines_in
from conntrackd_py.settings.schema import NatLog, Settings

LOOK: Final = 500  # ms between two looks at writer and clock, while nothing happens
STEP: Final = 1000  # ms: a smaller change of the system's clock is not reported
MARK_EVERY: Final = 60_000  # ms without a line
AGAIN: Final = 60_000  # ms between two lists
WARN_EVERY: Final = 60_000  # ms between two warnings of lost lines
PERIOD: Final = 0.01  # seconds between two turns of a list
WALK: Final = 256  # slots a turn
NAMES: Final = 65536  # names of rules whose connections are not confirmed yet
STOPPING: Final = 2.0  # seconds for the last lines

log = structlog.get_logger()


@final
class NatLogKeeper:
    """clock: the engine's, ms. wall: the system's, ns. Without a file in the settings everything here does nothing."""

    def __init__(self, engine: Engine, clock: Callable[[], int], wall: Callable[[], int] = time.time_ns) -> None:
        self.engine = engine
        self.clock = clock
        self.wall = wall
        self.settings = NatLog()
        self.writer: Writer | None = None
        self.queue = EventQueue()
        self.texts = Texts()
        self.head: dict[str, object] = {}
        self.run = secrets.token_hex(8)  # of this process
        self.lost = 0  # lines, of all writers
        self.former: list[Writer] = []  # of files that the configuration had
        self.offset = 0  # ms since 1970 at which the engine's clock was 0
        self.looked = 0  # ms: of the last look
        self.given = 0  # ms: of the last line
        self.warned = -1  # ms: of the last warning of lost lines
        self.slot = -1  # at which the list continues; -1: there is none
        self.listed = 0  # connections
        self.part = 0  # of the table of blocks, at which the list continues
        self.list_at = 0  # ms: when the next list may begin
        self.list_wanted = False
        self._lost_since = 0  # ms since 1970: of the lines that the next LOST line counts
        self._lost_now = 0
        self._queues_lost = 0
        self._error = ""  # that was logged
        self._standby = False

    # --- for metrics and status --------------------------------------------------------------------------

    def report(self) -> dict[str, object]:
        """error: why lines wait now, empty if they are written."""
        if self.writer is None:
            return {}
        figures = {"lines": self.lines, "waiting": self.waiting, "lost": self.lost, "errors": self.errors}
        return {"file": self.settings.file, **figures, "error": self.writer.error}

    @property
    def lines(self) -> int:
        return sum(writer.written for writer in self.writers)

    @property
    def errors(self) -> int:
        return sum(writer.errors for writer in self.writers)

    @property
    def waiting(self) -> int:
        return sum(writer.waiting for writer in self.writers)

    @property
    def writers(self) -> list[Writer]:
        return self.former + ([self.writer] if self.writer is not None else [])

    # --- start, reload, stop -----------------------------------------------------------------------------

    def configure(self, settings: Settings) -> None:
        """Begin, change or end the log. A file that is open is opened again."""
        wanted, former = settings.nat_log, self.settings
        running = self.writer is not None and (wanted.file, wanted.buffer) == (former.file, former.buffer)
        if self.writer is not None and not running:
            self.publish()
            self._end(self.writer)
        self.settings = wanted
        self._record()
        if not wanted.file:
            return
        self.head = {
            "version": nat_log.VERSION,
            "daemon": __version__,
            "run": self.run,
            "connections": wanted.connections,
            "destination": wanted.destination,
            "blocks": wanted.blocks,
            "rules": nat_log.deterministic_rules(self.engine.nat.rules.source_rules),
        }
        if not running:
            texts = Texts()  # of the writer's thread
            self.writer = Writer(wanted.file, wanted.buffer, lambda now: note_line(nat_log.FILE, now, texts, self.head))
            self.writer.start()
        assert self.writer is not None
        self.writer.reopen = running
        self._now()
        self._note(nat_log.RELOAD if running else nat_log.START, self.head)
        self.list_wanted = self.list_wanted or not running or self._more(former)

    def _more(self, former: NatLog) -> bool:
        """Whether connections or blocks are logged now that were not before."""
        now = self.settings
        return any(getattr(now, key) > getattr(former, key) for key in ("connections", "destination", "blocks"))

    def _record(self) -> None:
        wanted, events, nat = self.settings, self.engine.core.events, self.engine.nat
        connections = bool(wanted.file) and wanted.connections
        events.statuses = IPS_NAT_MASK if wanted.destination else IPS_SRC_NAT
        self.queue.enabled = connections
        events.translated = self.queue if connections else None
        events.rules = ({} if events.rules is None else events.rules) if connections else None
        nat.blocks.recording = bool(wanted.file) and wanted.blocks

    def _end(self, writer: Writer) -> None:
        """The configuration has another file, or none. The thread writes what waits."""
        self._note(nat_log.STOP, {"run": self.run, "off": True})
        writer.end()
        self.former.append(writer)
        self.writer, self.slot, self.list_at, self._error = None, -1, 0, ""

    def finish(self) -> None:
        """Write all lines, at most STOPPING seconds."""
        if self.writer is not None:
            self.publish()
            self._note(nat_log.STOP, {"run": self.run})
        for writer in self.writers:
            if left := writer.finish(STOPPING):
                log.error("nat_log_not_written", lines=left, file=writer.path, error=writer.error)

    # --- events ------------------------------------------------------------------------------------------

    def publish(self) -> None:
        """Give the events since the last call to the writer. Called after every batch of packets."""
        if self.writer is None:
            return
        blocks = self.engine.nat.blocks
        if not self.queue.waiting and not blocks.events and self.clock() - self.looked < LOOK:
            return
        now = self._now()
        since = self.looked
        self.looked = now
        self._lose(self.queue.lost + blocks.events_lost - self._queues_lost, since)
        self._queues_lost = self.queue.lost + blocks.events_lost
        if events := self.queue.drain():
            self._give_events(events, since)
        for block in blocks.drain_events():
            self._give(block_line(block, self.offset, self.texts), since)
        if now - self.given >= MARK_EVERY:
            self._note(nat_log.MARK, {})
        self._watch(now)

    def _now(self) -> int:
        """The engine's time. A CLOCK line if the system's clock was set."""
        now = self.clock()
        offset = self.wall() // 1_000_000 - now
        step, self.offset = offset - self.offset, offset
        if abs(step) >= STEP and step != offset:
            self._note(nat_log.CLOCK, {"step": step / 1000})
        return now

    def _give_events(self, events: list[Event], since: int) -> None:
        names = self.engine.core.events.rules
        known = [""] * len(events)
        if names:
            known = [
                names.pop(event.conn.id, "") if event.bits & BEGINS_OR_ENDS & ~IPCT_DESTROY else "" for event in events
            ]
            if len(names) > NAMES:
                names.clear()
        self._give(Connections(events, known, self.offset, self.engine.core.accounting), since)

    def _give(self, piece: Piece, since: int) -> None:
        """since: ms, before the events of the piece, for a LOST line."""
        assert self.writer is not None
        room = self.writer.room()
        fits = min(lines_in(piece), room)
        if fits <= 0 or (self._lost_now and room <= self.settings.buffer // 2):  # losses come in few pieces
            self._lose(lines_in(piece), since)
            return
        if self._lost_now:
            self._report_loss(self.writer)
        if isinstance(piece, Connections) and fits < len(piece.events):
            self._lose(len(piece.events) - fits, since)
            piece = Connections(piece.events[:fits], piece.names[:fits], piece.offset, piece.accounting)
        self.given = self.clock()
        self.writer.give(piece)

    def _note(self, kind: str, fields: dict[str, object]) -> None:
        now = self.clock()
        self._give(note_line(kind, self.offset + now, self.texts, fields), now)

    def _lose(self, lines: int, since: int) -> None:
        if not lines:
            return
        if not self._lost_now:
            self._lost_since = self.offset + since
            if self.warned < 0 or self.clock() - self.warned >= WARN_EVERY:
                self.warned = self.clock()
                log.warning("nat_log_lines_lost", file=self.settings.file, help="the disk is full or too slow")
        self._lost_now += lines
        self.lost += lines

    def _report_loss(self, writer: Writer) -> None:
        lines, self._lost_now = self._lost_now, 0
        fields: dict[str, object] = {"lines": lines, "since": self.texts.stamp(self._lost_since)}
        writer.give(note_line(nat_log.LOST, self.offset + self.clock(), self.texts, fields))
        self.list_wanted = True

    # --- the writer, and lists ---------------------------------------------------------------------------

    def _watch(self, now: int) -> None:
        assert self.writer is not None
        error = self.writer.error
        if error and not self._error:
            log.warning("nat_log_failed", file=self.settings.file, error=error, help="tried again; lines wait")
        elif self._error and not error:
            log.info("nat_log_written_again", file=self.settings.file, lost=self.lost)
        self._error = error
        if self._lost_now and self.writer.room() > self.settings.buffer // 2:
            self._report_loss(self.writer)
        if self._standby != self.engine.core.standby:
            self._standby = self.engine.core.standby
            self.list_wanted = True
        if self.list_wanted and self.slot < 0 and now >= self.list_at:
            self._begin_list()

    def _begin_list(self) -> None:
        self.list_wanted = False
        self.slot = self.listed = self.part = 0
        self._note(nat_log.LIST, {})
        asyncio.get_running_loop().call_later(PERIOD, self.list_turn)

    def list_turn(self) -> None:
        """OPEN lines of the next WALK slots. The list waits while the buffer is half full."""
        if self.writer is None or self.slot < 0:
            return
        self.publish()  # a connection that is both new and listed is new first
        slots = self.engine.core.table.slots
        if self.writer.room() > self.settings.buffer // 2:
            end = 0 if self.engine.core.standby else len(slots)
            self._give_open(self.slot, min(self.slot + WALK, end))
            self.slot += WALK
            self._give_held()
            if self.slot >= end and self.part >= PARTS:
                self._note(nat_log.LISTED, {"connections": self.listed})
                self.slot, self.list_at = -1, self.clock() + AGAIN
                return
        asyncio.get_running_loop().call_later(PERIOD, self.list_turn)

    def _give_held(self) -> None:
        """HELD lines of the blocks in the next part of their table."""
        now, blocks = self.clock(), self.engine.nat.blocks
        if not self.settings.blocks or not blocks.active:
            self.part = PARTS
        if self.part < PARTS:
            for block in blocks.by_place.parts[self.part].values():
                self._give(held_line(block, now, self.offset, self.texts), now)
            self.part += 1

    def _give_open(self, first: int, end: int) -> None:
        now, statuses = self.clock(), self.engine.core.events.statuses
        found = []
        for slot in range(first, end if self.settings.connections else 0):
            ct = self.engine.core.table.at(slot)
            if ct is None or not ct.status & statuses or ct.status & (IPS_CONFIRMED | IPS_DYING) != IPS_CONFIRMED:
                continue
            found.append(Event(0, now, 0, ct))
        if found:
            self.listed += len(found)
            self._give(Connections(found, [""] * len(found), self.offset, False), now)
