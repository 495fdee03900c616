"""Guards the steering rules: sees when another program deletes or changes them, reports it, and restores them.

Rules are guarded from the first time they are seen as the configuration wants them until `rules remove`, or `rules
install` with another configuration. These commands hold the guard (control/steering.py); a command that ends without
saying so, because it failed or was killed, changes nothing about what is expected. A reload holds it too.

While rules are guarded, the leak table (kernel/steering/leak_table.py) stands, also during a hold: a command that is
about to install the rules may find none. It is removed after `rules remove`, and while other rules are on trial
(`--for`), which may exclude interfaces.

With `steering.kernel_conntrack = "auto"`, another ruleset may change the decision on the kernel's tracking. Then the
guard replaces the rules. It is no loss.

Everything that may wait runs in a thread: packets never do. Between two comparisons is as much time as one takes, and
at least LEAST.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple, final

import structlog

from conntrackd_py.control.steering import Hold, Steering
from conntrackd_py.kernel.failures import FailureLog
from conntrackd_py.kernel.steering import leak_table, steering
from conntrackd_py.kernel.steering.leak_table import LeakTable, NoTableError
from conntrackd_py.kernel.steering.nftables import NftablesError
from conntrackd_py.kernel.steering.plan import Plan, plan
from conntrackd_py.kernel.steering.programs import SteeringError
from conntrackd_py.kernel.steering.ruleset_watch import RulesetWatch, needs_polling
from conntrackd_py.settings.schema import AUTO, Settings

log = structlog.get_logger()

RESTORE: Final = "restore"
LEAST: Final = 0.25  # seconds between two comparisons
POLL: Final = 1.0  # seconds, where no change is reported
LASTING: Final = 1.5  # seconds, more than POLL: restored rules that go sooner were deleted by a program that fights
PATIENT: Final = 10  # so many times in a row they are restored at once, with a line in the log
CONTESTED: Final = 0.5  # seconds: how long they are missing after that
LONGEST: Final = 60.0  # seconds between two attempts that fail

Clock = Callable[[], float]


@final
class Attempts:
    """When to restore again. now: seconds of a monotonic clock."""

    def __init__(self) -> None:
        self.failed = 0  # in a row
        self.short = 0  # restored rules that did not last, in a row
        self.last = 0.0  # when they were restored last; 0: never
        self.at = 0.0  # not before

    @property
    def contested(self) -> bool:
        return self.short > PATIENT

    def lost(self, now: float) -> None:
        """The rules are gone or changed."""
        self.short = self.short + 1 if self.last and now - self.last < LASTING else 0
        if self.contested:
            self.at = now + CONTESTED

    def restored(self, now: float) -> None:
        self.last, self.failed = now, 0

    def refused(self, now: float) -> None:
        """Soon again at first: a program that changes the rules at the same moment makes an attempt fail."""
        self.at = now + min(LEAST * 2 ** min(self.failed, 10), LONGEST)
        self.failed += 1


class Compared(NamedTuple):
    wanted: Plan
    missing: str  # what differs from the rules of `wanted`; empty if they are installed
    decided: bool  # only the decision on the kernel's tracking differs


@final
class SteeringGuard(Hold):
    """settings: the current ones. state: for status and metrics. tracks: told whether the kernel tracks the packets."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        state: Steering,
        tracks: Callable[[bool], None],
        clock: Clock = time.monotonic,
    ) -> None:
        self.settings = settings
        self.state = state
        self.tracks = tracks
        self.clock = clock
        self.table = LeakTable()
        self.watch = RulesetWatch()
        self.attempts = Attempts()
        self.expected = False
        self.meant = False  # a command of those that hold now ended with `done`
        self.interrupted = False  # one ended without
        self.holds = 0  # begun so far
        self.stopped = False
        self.lock = asyncio.Lock()
        self.failures = FailureLog("steering_guard_failed")
        self.unreadable = ""  # the last error, logged once
        self.retry_table = False
        self.prepared: Compared | None = None  # for the first check
        state.hold, state.untranslated = self, self.table.dropped

    async def run(self) -> None:
        """Guard until cancelled."""
        polling = await self._polling()
        while True:
            began = self.clock()
            await self.first_check()
            await asyncio.sleep(max(LEAST, self.clock() - began))
            await self.watch.wait(self._patience(polling))

    def prepare(self) -> None:
        """Compare for the first check, while another process still has the leak table."""
        with contextlib.suppress(SteeringError):  # the first check reports it
            self.prepared = _compared(self.settings())

    async def first_check(self) -> None:
        """`check`, before the queues are bound: a base chain that the leak table adds shifts the others of its hook.

        The kernel remembers where a waiting packet goes on by the number of the chain, and would queue it again.
        """
        try:
            await self.check()
        except Exception as error:  # noqa: BLE001  a mistake of our code must not end the guard
            self.failures.note(error)

    def stop(self) -> None:
        """Change nothing more."""
        self.stopped = True
        self.watch.close()

    def end_table(self) -> None:
        """After `stop`: the leak table ends now. While a thread may be changing it, it ends with the process."""
        if not self.lock.locked():
            self.table.end()

    async def _polling(self) -> bool:
        try:
            return await asyncio.to_thread(needs_polling)
        except SteeringError:  # `check` reports it
            return True

    def _patience(self, polling: bool) -> float | None:
        """Seconds until the next comparison without a change; None: no limit."""
        lost = self.state.installed is False and self.state.guard == RESTORE
        waits = [max(self.attempts.at - self.clock(), 0.0)] if lost else []
        if self.watch.sock is None or polling or self.unreadable or self.retry_table:
            waits.append(POLL)
        return min(waits, default=None)

    async def check(self) -> None:
        """Compare, and act on the result."""
        async with self.lock:
            if self.stopped:
                return
            listening = self._subscribe()
            if self.state.held:
                return  # the rules or the settings are changing; the end of the hold compares
            settings, holds = self.settings(), self.holds
            self.state.guard = settings.steering.guard
            try:
                compared, self.prepared = self.prepared, None
                if compared is None:
                    compared = await asyncio.to_thread(_compared, settings)
            except SteeringError as error:
                self.state.error = str(error)
                self._note_unreadable(str(error))
                return
            if listening:
                self.unreadable = ""
            if self.holds != holds or self.stopped:
                return  # a hold began meanwhile
            if not compared.missing:
                self.tracks(compared.wanted.keep)
                self._found()
            elif compared.decided and self.state.guard == RESTORE:
                await self._follow(compared)
            elif self.expected:
                self._lost(compared.missing)
            else:
                self.state.installed, self.state.missing = None, compared.missing
            await self._put(settings if self.expected else None, keep=compared.wanted.keep)
            if self.state.installed is False and self.state.guard == RESTORE and self.clock() >= self.attempts.at:
                await self._restore(settings)

    def _subscribe(self) -> bool:
        try:
            self.watch.open()
        except OSError as error:
            self._note_unreadable(f"no messages about changes: {error.strerror}")
            return False
        return True

    def _note_unreadable(self, why: str) -> None:
        if why != self.unreadable:
            log.warning("steering_not_compared", error=why)
        self.unreadable = why

    def _found(self) -> None:
        if not self.state.installed:
            log.info("steering_installed", guard=self.state.guard)
        self.expected, self.state.installed, self.state.missing, self.state.error = True, True, "", ""

    def _lost(self, missing: str) -> None:
        if self.state.installed is not False:
            self.attempts.lost(self.clock())
            if not self.attempts.contested:
                log.error("steering_missing", rules=missing, guard=self.state.guard)
            elif self.attempts.short == PATIENT + 1:
                log.error("steering_contested", help="another program deletes the rules again and again")
        self.state.installed, self.state.missing = False, missing

    async def _restore(self, settings: Settings) -> None:
        try:
            wanted = await asyncio.to_thread(steering.planned, settings)
            await self._install(wanted)
        except SteeringError as error:
            self.attempts.refused(self.clock())
            if str(error) != self.state.error:
                log.error("steering_not_restored", error=str(error), retry=round(self.attempts.at - self.clock(), 2))
            self.state.error = str(error)
            return
        self.attempts.restored(self.clock())
        self.state.restored += 1
        self.state.installed, self.state.missing, self.state.error = True, "", ""
        if not self.attempts.contested:
            log.warning("steering_restored", times=self.state.restored)

    async def _follow(self, compared: Compared) -> None:
        """Install the rules of the new decision; after an error as after a loss."""
        try:
            await self._install(compared.wanted)
        except SteeringError as error:
            self.state.error = str(error)
            self.attempts.refused(self.clock())
            self._lost(compared.missing)
            return
        log.info("steering_changed", kernel_tracking=compared.wanted.keep, why=compared.wanted.why)
        self._found()

    async def _install(self, wanted: Plan) -> None:
        """The engine knows of the kernel's tracking as long as it may be on."""
        if wanted.keep:
            self.tracks(True)
        await asyncio.to_thread(steering.install, wanted)
        self.tracks(wanted.keep)

    async def _put(self, settings: Settings | None, *, keep: bool = False) -> None:
        """Replace the leak table by that of the settings; None: remove it."""
        text = why = ""
        self.retry_table = False
        try:
            text = leak_table.ruleset(settings, keep=keep) if settings is not None else ""
        except NoTableError as error:
            why = str(error)
        try:
            await asyncio.to_thread(self.table.put, text)
        except NftablesError as error:
            why, self.retry_table = str(error), True
        if why and why != self.state.leak_table:
            log.warning("no_leak_table", reason=why)
        self.state.leak_table = why or ("in place" if text else "")

    # --- held ----------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """A command is about to change the rules."""
        self.state.held += 1
        self.holds += 1
        async with self.lock:  # a restore that has begun ends first
            log.info("steering_held", commands=self.state.held)

    async def trial(self) -> None:
        """The command has installed rules and waits for a confirmation."""
        async with self.lock:
            if (await asyncio.to_thread(_compared, self.settings())).missing:
                await self._put(None)

    async def end(self, done: bool) -> None:
        """The command has ended; done: as it meant to."""
        self.meant = self.meant or done
        self.interrupted = self.interrupted or not done
        await self._release()

    async def _release(self) -> None:
        self.state.held -= 1
        if self.state.held:
            return
        if self.meant and not self.interrupted:
            self.expected = False  # unless `check` finds the rules
        self.meant = self.interrupted = False
        await self.check()

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """For a reload. The leak table stays; afterwards it is replaced by that of the new settings."""
        await self.begin()
        try:
            yield
        finally:
            await self._release()


def _compared(settings: Settings) -> Compared:
    """Raises SteeringError."""
    wanted = steering.planned(settings)
    missing = _missing(wanted)
    undecided = missing and settings.steering.kernel_conntrack == AUTO
    return Compared(wanted, missing, bool(undecided) and not _missing(plan(settings, keep=not wanted.keep)))


def _missing(wanted: Plan) -> str:
    states = steering.status(wanted)
    return "; ".join(f"{family}: {state.text}" for family, state in states.items() if not state.as_wanted)
