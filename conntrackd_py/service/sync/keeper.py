"""The hot standby of the daemon: its role, what it publishes, what it applies. Runs in the daemon's loop, in turns.

Active: `turn` packs the feed of the journal into frames. A snapshot walks the table beside it.
Standby: frames are applied in turns, A_TURN records each.
Two actives: the one with the lower epoch steps down, as soon as it hears of the other.
The role is kept in a file beside the control socket, so that a restart does not change it.
"""

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

import structlog

from conntrackd_py.conntrack.feed import Feed
from conntrackd_py.control.journal import JournalState
from conntrackd_py.control.protocol.requests import RefusedError
from conntrackd_py.control.sync.state import ACTIVE, STANDBY, SyncState
from conntrackd_py.engine.engine import Engine
from conntrackd_py.engine.offload import RETURNED_RULES
from conntrackd_py.engine.takeover.standby import Standby
from conntrackd_py.service.sync.frames import BEGIN, CHANGES, END, Claim, Frame, FrameError, Head, pack, unpack
from conntrackd_py.service.sync.reader import Reader
from conntrackd_py.settings.schema import Settings

if TYPE_CHECKING:
    from conntrackd_py.service.sync.link import Link

Clock = Callable[[], int]

log = structlog.get_logger()

PERIOD: Final = 0.02  # seconds between two turns
LIFE: Final = 1000  # ms between two signs of life
RECORDS: Final = 64  # in a frame, 16 kB at most
FRAMES: Final = 16  # a turn
WALK: Final = 512  # slots of a snapshot a turn
A_TURN: Final = 32  # records applied before packets get their turn
SWEEP: Final = 2048  # slots
ASK_AGAIN: Final = 10_000  # ms between two requests for a snapshot
NO_JOURNAL: Final = "nothing is published: there is no journal"
CATCH_UP: Final = 2.0  # seconds that a takeover waits for the last frames


@final
class SyncKeeper:
    """path: of the file with the role. clock: the engine's, ms."""

    def __init__(
        self, engine: Engine, settings: Settings, journal: JournalState, state: SyncState, path: Path, clock: Clock
    ) -> None:
        self.engine = engine
        self.settings = settings
        self.journal = journal
        self.state = state
        self.path = path
        self.clock = clock
        self.node = secrets.token_bytes(8)
        self.feed = Feed()
        self.standby: Standby | None = None
        self.reader = Reader(settings.mode, self.node)
        self.link: Link | None = None
        self.sequence = 0
        self.sent_at = 0  # ms: of the last frame
        self.want = -1  # requests for snapshots that were answered
        self.walking = -1  # slot at which the snapshot continues; -1: none
        self.remaining = -1  # records of a finished walk that are still in the feed; -1: none
        self.lost = 0  # changes that a snapshot has mended
        self.asked_at = -ASK_AGAIN
        self.frames: deque[list[bytes]] = deque()
        self.items: deque[tuple[int, bytes]] = deque()  # of the frame that is being applied
        self.applying = False
        self.taking = asyncio.Lock()  # held by a takeover
        self.idle = asyncio.Event()  # everything in the stream has been read
        self.empty = False  # the stream

    async def start(self) -> None:
        """Take the role of before the restart, else that of the configuration. Nothing without [sync]."""
        if not self.settings.sync.url:
            return
        from conntrackd_py.service.sync.link import Link  # imports redis, which only a hot standby needs

        loop = asyncio.get_running_loop()

        def deliver(what: str, value: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self.heard, what, value)

        self.link = Link(self.settings.sync, self.node, deliver)
        state = self.state
        state.clock, state.take_over, state.stand_by = self.clock, self.take_over, self.stand_by
        former = self._former()
        if former or (self.settings.sync.role == ACTIVE and not self.path.exists()):
            self._lead(polite=True, former=max(former, 0))
        else:
            self._follow()
        self.link.start()
        self.turn()

    def stop(self) -> None:
        if self.link is not None:
            self.link.end()

    # --- roles -------------------------------------------------------------------------------------------

    def _former(self) -> int:
        """The epoch of the active daemon before this one on this machine; 0: it was none."""
        try:
            role, _, epoch = self.path.read_text().partition(" ")
            return max(int(epoch), 0) if role == ACTIVE else 0
        except (OSError, ValueError):
            return 0

    def _note(self, text: str) -> None:
        try:
            self.path.write_text(text)
        except OSError as error:
            log.error("sync_role_not_kept", error=str(error), help="a restart takes the role of the configuration")

    def _lead(self, *, polite: bool, former: int) -> None:
        assert self.link is not None
        self.state.role, self.state.epoch = ACTIVE, 0
        self.feed.changed.clear()
        self._attach(self.feed)
        self.walking = self.remaining = -1
        self.link.lead(Claim(polite, former))
        log.info("sync_active")

    def _attach(self, feed: Feed | None) -> None:
        if self.journal.journal is not None:
            self.journal.journal.feed = feed
        elif feed is not None:
            log.error("sync_without_journal", error=NO_JOURNAL)

    def _follow(self) -> None:
        assert self.link is not None
        self._attach(None)
        self.engine.offload.take_all_back(RETURNED_RULES)
        self.standby = Standby(self.engine)
        self.reader = Reader(self.settings.mode, self.node)
        for _ in self.frames:
            self.link.applied()
        self.frames.clear()
        self.items.clear()
        state = self.state
        state.role, state.epoch, state.synced, state.heard = STANDBY, 0, False, -1
        self.asked_at = -ASK_AGAIN
        self._note(STANDBY)
        self.link.follow()
        log.info("sync_standby")

    def stand_by(self) -> None:
        """`conntrackd-py sync standby`."""
        if self.state.role == ACTIVE:
            self._follow()

    async def take_over(self, stale: bool) -> None:
        """`conntrackd-py sync takeover`. Raises RefusedError when the state is stale, unless that is accepted."""
        async with self.taking:
            if self.state.role != ACTIVE:
                await self._take_over(stale)

    async def _take_over(self, stale: bool) -> None:
        await self._catch_up()
        why = self.stale()
        if why and not stale:
            raise RefusedError(f"{why}; --stale takes over all the same")
        standby = self.standby
        assert standby is not None
        while self.frames or self.items:
            self._apply(1 << 30)
        while not standby.sweep(SWEEP) and standby.swept >= 0:
            await asyncio.sleep(0)
        standby.take_over(self.clock(), self.reader.shift)
        self.standby = None
        self.state.takeovers += 1
        log.warning("sync_takeover", connections=len(self.engine.core.table), stale=why, lag=self.state.lag / 1000)
        self._lead(polite=False, former=self.reader.epoch)
        self._note(f"{ACTIVE} {self.reader.epoch + 1}")

    async def _catch_up(self) -> None:
        """Until everything in the stream has been applied, as far as the server answers."""
        self.idle.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CATCH_UP):
                while self.state.connected and (not self.idle.is_set() or self.frames or self.items):
                    await asyncio.sleep(0.005)

    def stale(self) -> str:
        """Why a standby may lack connections; empty if it has all of them."""
        age = self.state.age
        if self.reader.synced and age <= self.settings.sync.stale_after:
            return ""
        if self.state.connected and self.empty:
            return ""  # no router was active before
        if age < 0:
            return "the state is stale: the active router was never heard"
        if not self.reader.synced:
            return "the state is stale: changes are missing, no snapshot is complete"
        return f"the state is stale: the active router was heard {age:.0f} s ago"

    # --- what the thread says ----------------------------------------------------------------------------

    def heard(self, what: str, value: Any) -> None:
        state = self.state
        if what == "up":
            state.connected, state.error = True, ""
            log.info("sync_connected")
        elif what == "down":
            if state.connected or state.error != value:
                log.warning("sync_disconnected", error=value)
            state.connected, state.error = False, value
        elif what == "frames":
            if state.role == STANDBY:
                self.frames.append(value)
                self.empty = False
                self._apply_soon()
            elif self.link is not None:
                self.link.applied()
        elif what == "idle":
            self.empty = value
            self.idle.set()
        elif state.role == ACTIVE:
            self._heard_active(what, value)

    def _heard_active(self, what: str, value: Any) -> None:
        if what == "claimed":
            self.state.epoch, self.sequence = value, 0
            self._note(f"{ACTIVE} {value}")
            log.info("sync_epoch", epoch=value)
            self._begin()
        elif what == "taken":
            self._step_down(value)
        elif what == "told" and self.state.epoch:
            epoch, want = value
            if epoch > self.state.epoch:
                self._step_down(epoch)
            elif want != self.want and self.walking < 0 and self.remaining < 0:
                self.want = want
                self._begin()

    def _step_down(self, epoch: int) -> None:
        self.state.stepped_down += 1
        log.error("sync_stepped_down", own=self.state.epoch, other=epoch, help="another router has taken over")
        self._follow()

    # --- active --------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Publish, or apply and ask; then again after PERIOD."""
        asyncio.get_running_loop().call_later(PERIOD, self.turn)
        if self.state.role == ACTIVE:
            self._publish()
        else:
            self._look()

    def _begin(self) -> None:
        """A snapshot."""
        journal = self.journal.journal
        if journal is None:
            return
        self.lost = self.feed.lost
        self._send(BEGIN)
        for number, data in journal.side_written.items():
            self.feed.add(-1 - number, data)
        self.walking, self.remaining = 0, -1

    def _publish(self) -> None:
        state, link = self.state, self.link
        assert link is not None
        state.lost, state.pending = self.feed.lost, len(self.feed.changed) + len(link.outgoing)
        if self.journal.journal is None:
            state.error = NO_JOURNAL
        if not state.epoch:
            return
        self._walk()
        for _ in range(FRAMES):
            if link.full or not self.feed.changed:
                break
            self._send(CHANGES, self.feed.drain(RECORDS))
        if not self.feed.changed and self.clock() - self.sent_at >= LIFE and not link.full:
            self._send(CHANGES)
        idle = self.walking < 0 and self.remaining < 0 and not link.full
        if self.lost != self.feed.lost and idle and len(self.feed.changed) < self.feed.most // 2:
            log.warning("sync_changes_lost", changes=self.feed.lost - self.lost, help="a snapshot follows")
            self._begin()

    def _walk(self) -> None:
        """A part of the snapshot, while the feed has room for it and for changes."""
        journal, slots = self.journal.journal, self.engine.core.table.slots
        room = self.feed.most // 2 - len(self.feed.changed)
        if self.walking < 0 or journal is None or room <= 0:
            return
        stop = min(self.walking + min(WALK, room), len(slots))
        for slot in range(self.walking, stop):
            ct = slots[slot]
            if ct is not None and ct.confirmed and not ct.dying and slot not in self.feed.changed:
                self.feed.add(slot, journal.record_of(ct))
        self.walking = stop
        if stop >= len(slots):
            self.walking, self.remaining = -1, len(self.feed.changed)

    def _send(self, kind: int, items: list[tuple[int, bytes]] | None = None) -> None:
        assert self.link is not None
        now = self.clock()
        head = Head(self.settings.mode, kind, self.node, self.state.epoch, self.sequence, now)
        self.link.send(self.state.epoch, pack(head, items or ()))
        self.sequence += 1
        self.sent_at = self.state.heard = now
        self.state.frames += 1
        self.state.records += len(items or ())
        if self.remaining >= 0 and kind == CHANGES:
            self.remaining -= len(items or ())
            if self.remaining <= 0:
                self.remaining = -1
                if self.lost == self.feed.lost:  # else another one follows
                    self.state.snapshots += 1
                    self._send(END)

    # --- standby -------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Finish a snapshot; ask for one if connections are missing."""
        state, reader = self.state, self.reader
        assert self.standby is not None
        self.standby.sweep(SWEEP)
        state.synced, state.epoch, state.gaps = reader.synced, reader.epoch, reader.gaps
        state.older, state.foreign, state.refused = reader.older, reader.foreign, self.standby.refused
        now = self.clock()
        if state.connected and not reader.synced and not reader.snapshot and now - self.asked_at >= ASK_AGAIN:
            assert self.link is not None
            self.asked_at, self.link.wanted = now, True

    def _apply_soon(self) -> None:
        if not self.applying:
            self.applying = True
            asyncio.get_running_loop().call_soon(self._applied_a_turn)

    def _applied_a_turn(self) -> None:
        self.applying = False
        if self.standby is not None:
            self._apply(A_TURN)
        if self.frames or self.items:
            self._apply_soon()

    def _apply(self, budget: int) -> None:
        """Apply so many records."""
        standby = self.standby
        if standby is None:
            return
        while budget > 0:
            if not self.items and not self._next_frame(standby):
                break
            now, shift = self.clock(), self.reader.shift
            while self.items and budget > 0:
                slot, data = self.items.popleft()
                standby.put(slot, data, now, shift)
                self.state.records += 1
                budget -= 1
        self.state.pending = sum(map(len, self.frames))

    def _next_frame(self, standby: Standby) -> bool:
        """Take the next frame; False when there is none."""
        assert self.link is not None
        if not self.frames:
            return False
        data = self.frames[0].pop(0)
        if not self.frames[0]:
            self.frames.popleft()
            self.link.applied()
        try:
            frame = unpack(data)
        except FrameError as error:
            self.reader.foreign += 1
            self.state.error = f"a frame cannot be read: {error}"
            return True
        now = self.clock()
        gaps = self.reader.gaps
        if self.reader.accepts(frame.head, now):
            self._accepted(frame, standby, now)
        if self.reader.gaps != gaps:
            self.asked_at = -ASK_AGAIN
            log.warning("sync_gap", gaps=self.reader.gaps, help="a snapshot is asked for")
        return True

    def _accepted(self, frame: Frame, standby: Standby, now: int) -> None:
        head, state = frame.head, self.state
        state.frames += 1
        state.heard, state.lag = now, self.reader.lag(head, now)
        if head.kind == BEGIN:
            standby.begin()
        elif self.reader.ended(head):
            standby.end()
            state.snapshots += 1
            log.info("sync_snapshot", connections=len(self.engine.core.table))
        self.items.extend(frame.items)
