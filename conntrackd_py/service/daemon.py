"""The daemon: one thread, one asyncio loop, one writer of the table.

A readable packet queue handles a bounded number of packets a turn; a timer expires connections, a bounded number a
turn. So neither delays the other or the control socket for long. The timer also feeds the watchdog, but only while
packets are handled or none wait.
"""

import asyncio
import contextlib
import gc
import importlib
import signal
import sys
from pathlib import Path
from typing import Final, final

import structlog

from conntrackd_py import compiled
from conntrackd_py.control.escape import escaped_lines
from conntrackd_py.control.status import ReloadError, UpgradeError
from conntrackd_py.kernel.addresses import Addresses
from conntrackd_py.kernel.inject import Injector
from conntrackd_py.kernel.maps.tables import MapTables
from conntrackd_py.kernel.queues.proc_queues import QUEUES, queue_rows
from conntrackd_py.kernel.queues.queue import QueueError
from conntrackd_py.kernel.steering.plan import NEW, plan
from conntrackd_py.reasons import END_ADDRESS_GONE
from conntrackd_py.service import logs
from conntrackd_py.service.build import kernel_tracks
from conntrackd_py.service.clock import clock
from conntrackd_py.service.components import Components
from conntrackd_py.service.handover import Handover, needs, succession
from conntrackd_py.service.queues import put_tables, queues_of, resume_tables
from conntrackd_py.service.reload import Reload, log_warnings
from conntrackd_py.settings.errors import ConfigError
from conntrackd_py.settings.schema import Settings

log = structlog.get_logger()

EXPIRE_A_TURN: Final = 128  # steps: connections that end, cost up to 3 us each
SOON: Final = 0.001  # seconds until the next turn when more connections have expired
LATEST: Final = 0.5  # seconds between two turns: a new connection may expire before the timer
STATUS_EVERY: Final = 5000  # ms
DRAIN_AT_MOST: Final = 1000  # ms, at the end
EMPTY_AT_MOST: Final = 50  # ms, at the end, if the queues outlive the process
RESTORING: Final = 30_000_000  # us that systemd shall wait longer, while connections are restored
# Only young generations: a full collection walks the whole table, which has no reference cycles.
GC_THRESHOLDS: Final = (5000, 20, 1_000_000)


def run(settings: Settings, socket: str, config: Path) -> int:
    """Run the daemon: 0 after a requested stop, 1 when it could not start or lost its queue."""
    logs.configure(settings.log.level, settings.log.format)
    log_warnings(settings)
    try:
        return asyncio.run(Daemon(settings, socket, config).run())
    except (QueueError, ConfigError, OSError) as error:
        sys.stderr.write(f"conntrackd-py run: {escaped_lines(str(error))}\n")
        return 1
    except MemoryError:  # the table is freed by now, so there is memory for a line
        log.error("out_of_memory", help="a smaller nf_conntrack_max")
        return 1


@final
class Daemon:
    """socket: overrides the control socket's path. path: of the configuration, for a reload."""

    def __init__(self, settings: Settings, socket: str, path: Path) -> None:
        self.parts = Components(settings, socket)
        self.engine = self.parts.engine
        self.notify = self.parts.notify
        self.addresses = Addresses(self.engine, clock)
        self.parts.reloads.take_over = Reload(self.parts, path)
        self.tables: MapTables | None = None
        self.stopping = asyncio.Event()
        self.handover = Handover()
        self.succession = succession()
        self.parts.reloads.prepare = self.prepare_successor
        self.parts.reloads.hand_over = self.hand_over
        self.finished = False  # the loop goes on until threads have ended, and timers fire
        self.status = 0
        self.watchdog_at = 0  # ms: of the last WATCHDOG=1
        self.status_at = 0  # ms: of the last STATUS=
        self.refused = 0  # packets of new connections, at the last STATUS=
        self.addresses_lost = 0  # logged connections that ended with their address

    async def run(self) -> int:
        """The exit status. QueueError or OSError when it cannot start."""
        if self.succession is not None:
            await asyncio.to_thread(self.prepare)
            self.parts.store.receive(self.succession.wait(needs(self.parts.settings)))
        async with contextlib.AsyncExitStack() as stack:
            # Tables of the kernel before the queues: a chain that comes while packets wait moves them to another chain.
            await self.parts.guard.first_check()
            self.tables, why = put_tables(self.engine, self.parts.settings, self.parts.store)
            stack.callback(self.end_tables)
            # A second daemon fails here. Packets wait in the queues until the rest is ready.
            self.queue_pair = queues_of(
                self.parts.settings, self.engine, self.parts.counters, self.parts.store, known=self.tables is not None
            )
            stack.callback(self.queue_pair.close)
            if why:
                log.warning("no_tables", error=why, help="known connections are not served first, none is offloaded")
            stack.push_async_callback(self.parts.close)
            if self.parts.settings.answers():
                self.parts.injector = Injector(self.engine.answer_mark)
            await self.read_addresses()
            stack.callback(self.parts.journal.close)
            await self.parts.journal.start(self.extend_timeout)
            stack.callback(self.parts.sync.stop)
            await self.parts.sync.start()
            if not self.parts.steering.installed:  # otherwise the guard has told it
                self.engine.nat.kernel_tracks = await asyncio.to_thread(kernel_tracks, self.parts.settings)
            self.parts.nat_log.configure(self.parts.settings)
            self.serve()
            self.parts.exporter = self.parts.exporter_of(self.parts.settings)
            await self.parts.control.start()
            stack.push_async_callback(self.parts.control.stop)
            for watch in (self.addresses.watch(), self.parts.guard.run()):
                stack.callback(asyncio.create_task(watch).cancel)
            self.start()
            await self.stopping.wait()
            self.finish()
        self.handover.complete()
        log.info("stopped", status=self.status)
        return self.status

    async def read_addresses(self) -> None:
        """And the ports that the router's own sockets hold."""
        await self.addresses.read()
        if self.parts.local_sockets.due(self.parts.settings):
            await self.parts.local_sockets.read()

    def prepare(self) -> None:
        """What can be done while another process serves."""
        self.parts.guard.prepare()
        if self.parts.settings.metrics.address() is not None:
            importlib.import_module("conntrackd_py.service.metrics.exporter")
            importlib.import_module("conntrackd_py.service.metrics.collector")
        gc.collect()
        gc.freeze()

    async def prepare_successor(self) -> int:
        if not self.parts.store.queues:
            raise UpgradeError("packets pass without a daemon here, so its queues cannot be handed over; restart it")
        return await self.handover.prepare(needs(self.parts.settings))

    def hand_over(self) -> None:
        """The daemon ends for its successor, unless it is being stopped."""
        self.handover.agreed = not self.stopping.is_set()
        self.stop()

    def serve(self) -> None:
        """Handle packets from now on."""
        resume_tables(self.tables, self.engine, self.parts.settings, self.parts.store)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, lambda: self.parts.background(self.reload()))
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        self.parts.pauses.watch()
        for fileno in self.queue_pair.filenos():
            loop.add_reader(fileno, self.packets)
        self.turn()
        self.write_journal()
        self.log_pause()

    def log_pause(self) -> None:
        """How long packets waited, if the former process left the queues bound; after a crash it is an upper bound."""
        state = self.parts.journal_state
        if state.before >= 0 and self.parts.store.adopted:
            state.pause = clock() - state.before
            log.info("pause", seconds=state.pause / 1000)

    def start(self) -> None:
        """The daemon answers."""
        self.notify.send("READY=1")
        settings = self.parts.settings
        group = plan(settings).group
        source = {"nflog_group": group} if group else {"queue": settings.queue.first}
        log.info("ready", mode=settings.mode, **source, nat=len(settings.nat), compiled=compiled)

    def extend_timeout(self) -> None:
        self.notify.send(f"EXTEND_TIMEOUT_USEC={RESTORING}")

    def stop(self, status: int = 0) -> None:
        self.status = max(self.status, status)
        self.stopping.set()

    async def reload(self) -> None:
        """Take over a changed configuration. Failure is logged, and in the metrics and systemd's status."""
        assert self.parts.reloads.take_over is not None
        with contextlib.suppress(ReloadError):  # already logged
            await self.parts.reloads.take_over()
            await self.parts.control.commands.count_stale()

    def packets(self) -> None:
        try:
            self.queue_pair.drain()
            self.engine.settle(clock())
            self.parts.journal.packets_handled()
        except Exception as error:  # packets may wait without a verdict: stop, so that systemd restarts it
            self.remove_readers()
            self.stop(status=1)
            log.error("queue_lost", error=repr(error), exc_info=not isinstance(error, OSError))
        self.parts.publish()

    def remove_readers(self) -> None:
        for fileno in self.queue_pair.filenos():
            asyncio.get_running_loop().remove_reader(fileno)

    def turn(self) -> None:
        """Remove expired connections and set the timer for the next ones."""
        if self.finished:
            return
        now = clock()
        self.parts.pauses.expire(self.engine, now, EXPIRE_A_TURN)
        self.parts.publish()
        self.notify_systemd(now)
        self.renew_tables(now)
        self.log_addresses_lost()
        self.parts.port_watch.look(now)
        if self.parts.local_sockets.due(self.parts.settings):
            self.parts.background(self.parts.local_sockets.read())
        if self.parts.mark_watch.due():
            self.parts.background(self.parts.mark_watch.look(self.parts.settings))
        wait = (self.engine.next_expiry() - now) / 1000
        asyncio.get_running_loop().call_later(min(max(wait, SOON), LATEST), self.turn)

    def write_journal(self) -> None:
        if self.finished:
            return
        asyncio.get_running_loop().call_later(self.parts.journal.turn(), self.write_journal)

    def log_addresses_lost(self) -> None:
        """One line for a removed address, when all its masqueraded connections have ended."""
        ended = self.engine.core.stats.ended[END_ADDRESS_GONE]
        if ended != self.addresses_lost and not self.engine.nat.masquerade.removed:
            log.info("connections_ended", reason="address_gone", connections=ended - self.addresses_lost)
            self.addresses_lost = ended

    def renew_tables(self, now: int) -> None:
        if self.tables is not None:
            self.tables.renew(now)
            if self.tables.ended:  # after an error: nobody shall keep them
                self.parts.store.keep_maps(None)

    def end_tables(self) -> None:
        if self.tables is not None:
            self.tables.end()

    def notify_systemd(self, now: int) -> None:
        if (
            self.notify.watchdog
            and now - self.watchdog_at >= self.notify.watchdog * 1000 / 3
            and self.queue_pair.moving()
        ):
            self.watchdog_at = now
            self.notify.send("WATCHDOG=1")
        if now - self.status_at >= STATUS_EVERY:
            self.status_at = now
            steering = self.parts.steering
            alarm = f"; steering rules missing: {steering.missing}" if steering.installed is False else ""
            alarm += self.overload()
            self.notify.send(f"STATUS={len(self.engine.core.table)} connections{alarm}")

    def overload(self, queues: Path = QUEUES) -> str:
        """How many new connections the kernel refused since the previous call; empty without."""
        names = self.parts.counters.names
        refused = sum(row.dropped for row in queue_rows(queues) if names.get(row.number) == NEW)
        now, self.refused = refused - self.refused, refused
        return f"; new connections refused (queue full): {now} in {STATUS_EVERY // 1000} s" if now > 0 else ""

    def finish(self) -> None:
        """Give verdicts to the waiting packets for at most DRAIN_AT_MOST; take no new ones.

        If the queues outlive the process, new packets wait for the next one. The kernel drops the packets that wait
        when a base chain is deleted: so the tables that end do so just after the last verdict. The maps do not, if
        the next process gets them.
        """
        self.finished = True
        if not self.handover.agreed or self.status:
            self.handover.abandon()
        successor = self.handover.pid
        self.notify.send(f"MAINPID={successor}" if successor else "STOPPING=1")
        self.parts.guard.stop()
        self.parts.pauses.unwatch()
        self.remove_readers()
        if self.status == 0:
            kept = self.parts.store.kept or successor > 0
            if not kept:
                self.queue_pair.refuse()
            until = clock() + (EMPTY_AT_MOST if kept else DRAIN_AT_MOST)
            while self.queue_pair.drain() and clock() < until:
                pass
            tables = self.tables if self.parts.store.maps_kept else None
            if kept:
                if tables is None:
                    self.end_tables()
                self.parts.guard.end_table()
            self.parts.journal.finish()
            if successor:
                self.handover.take(self.parts.store.queues, tables.sock if tables is not None else None)
        self.parts.publish()
        self.parts.nat_log.finish()
