"""The daemon: puts settings, engine, queue, addresses, control socket and metrics together and runs them.

One thread, one asyncio loop, one writer of the table. Packets are a reader of the loop that handles a bounded
number a turn; expiry is a timer with a bounded budget a turn; so neither starves the other or the control socket.
The watchdog is fed from that same timer, and only while packets are handled or none wait.
"""

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

import structlog

from conntrackd_py import compiled
from conntrackd_py.const import NF_ACCEPT, NF_DROP
from conntrackd_py.control.escape import escaped_lines
from conntrackd_py.control.refusals import RefusalLog
from conntrackd_py.control.reloads import ReloadError
from conntrackd_py.control.server import ControlServer
from conntrackd_py.control.status import About
from conntrackd_py.engine.engine import Engine
from conntrackd_py.kernel.addresses import Addresses
from conntrackd_py.kernel.inject import Injector
from conntrackd_py.kernel.nfqueue import NfqueueQueue
from conntrackd_py.kernel.plan import plan
from conntrackd_py.kernel.queue import PacketQueue, QueueCounters, QueueError
from conntrackd_py.kernel.queue_pair import QueuePair
from conntrackd_py.reasons import END_ADDRESS_GONE
from conntrackd_py.service import logs
from conntrackd_py.service.build import engine_of
from conntrackd_py.service.clock import clock
from conntrackd_py.service.notify import Notify
from conntrackd_py.service.pauses import Pauses
from conntrackd_py.service.reload import Reload
from conntrackd_py.service.system_random import SystemRandom
from conntrackd_py.settings.errors import ConfigError
from conntrackd_py.settings.schema import Settings

if TYPE_CHECKING:
    from conntrackd_py.service.metrics.exporter import Exporter

log = structlog.get_logger()

EXPIRE_A_TURN: Final = 512  # steps, about 1 ms
SOON: Final = 0.001  # seconds until the next turn when expiry has more to do
LATEST: Final = 0.5  # seconds: a new connection may expire before the one the timer was set for
STATUS_EVERY: Final = 5000  # ms
DRAIN_AT_MOST: Final = 1000  # ms, at the end
# Collecting only what is young: a full collection walks the whole table, and the table has no cycles.
GC_THRESHOLDS: Final = (5000, 20, 1_000_000)


def run(settings: Settings, socket: str, config: Path) -> int:
    """Run the daemon: 0 after a requested stop, 1 when it could not start or had to give up."""
    logs.configure(settings.log.level, settings.log.format)
    try:
        return asyncio.run(Daemon(settings, socket, config).run())
    except (QueueError, ConfigError, OSError) as error:
        sys.stderr.write(f"conntrackd-py run: {escaped_lines(str(error))}\n")
        return 1
    except MemoryError:  # the table is gone by now, so there is room for a line
        log.error("out_of_memory", help="a smaller nf_conntrack_max")
        return 1


def queues_of(settings: Settings, engine: Engine, counters: QueueCounters) -> QueuePair:
    """The queues the steering rules send packets to, bound. QueueError when one cannot be had."""
    queues: list[PacketQueue] = []
    try:
        for at in range(plan(settings).queues):
            bound = NfqueueQueue(
                engine.handle,
                clock,
                number=settings.queue.first + at,
                max_length=settings.queue.max_length,
                socket_buffer=settings.queue.socket_buffer,
                on_error=NF_ACCEPT if settings.queue.on_error == "accept" else NF_DROP,
                fail_open=settings.queue.fail_open,
                counters=counters,
                gso=settings.queue.gso,
            )
            queues.append(bound)
    except QueueError:
        for queue in queues:
            queue.close()
        raise
    return QueuePair(queues[0], queues[1] if len(queues) > 1 else None)


def about(settings: Settings, counters: QueueCounters) -> About:
    """What the control socket tells of a daemon that starts now."""
    first = settings.queue.first
    return About(
        mode=settings.mode,
        started=clock(),
        queues=tuple(range(first, first + plan(settings).queues)),
        queue_limit=settings.queue.max_length,
        counters=counters,
    )


@final
class Daemon:
    """socket: the control socket's path, instead of the configuration's. path: of the configuration, for a reload."""

    def __init__(self, settings: Settings, socket: str, path: Path) -> None:
        self.settings = settings
        self.socket = socket
        self.engine = engine_of(settings, SystemRandom())
        self.addresses = Addresses(self.engine, clock)
        self.counters = QueueCounters()
        self.refusals = RefusalLog(self.engine.diagnostics.recent, clock)
        self.pauses = Pauses()
        self.injector: Injector | None = None  # where the filter may reject
        self.notify = Notify()
        self.control = ControlServer(
            self.engine,
            clock,
            path=socket or settings.control.socket,
            mode=settings.control.mode,
            group=settings.control.group,
            max_clients=settings.control.max_clients,
            max_request=settings.control.max_request,
            about=about(settings, self.counters),
        )
        self.exporter: Exporter | None = None
        self.reloads = self.control.reloads
        self.control.take_over = Reload(self, path)
        self.tasks: set[asyncio.Task[None]] = set()
        self.stopping = asyncio.Event()
        self.status = 0
        self.fed = 0  # ms: when systemd last heard of us
        self.told = 0  # ms: when it last heard the status
        self.addresses_lost = 0  # connections that ended with their address, as the log knows

    async def run(self) -> int:
        """The exit status. QueueError or OSError when it cannot start."""
        async with contextlib.AsyncExitStack() as stack:
            # The queue first: it is what two daemons cannot share. Packets wait in it until all else is there.
            self.queue_pair = queues_of(self.settings, self.engine, self.counters)
            stack.callback(self.queue_pair.close)
            stack.push_async_callback(self.close)
            if self.engine.policy is not None:
                self.injector = Injector(self.engine.answer_mark)
            await self.addresses.read()
            self.exporter = self.exporter_of(self.settings)
            await self.control.start()
            stack.push_async_callback(self.control.stop)
            watching = asyncio.create_task(self.addresses.watch())
            stack.callback(watching.cancel)
            self.start()
            await self.stopping.wait()
            self.finish()
        log.info("stopped", status=self.status)
        return self.status

    async def close(self) -> None:
        """End what a reload may have replaced."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        if self.exporter is not None:
            await self.exporter.stop()
        if self.injector is not None:
            self.injector.close()

    def exporter_of(self, settings: Settings) -> "Exporter | None":
        """The metrics server of these settings, serving; None when they want none. Raises ConfigError."""
        address = settings.metrics.address()
        if address is None:
            return None
        from conntrackd_py.service.metrics.exporter import Exporter  # prometheus_client only where it is wanted

        exporter = Exporter(
            self.engine,
            self.counters,
            address,
            self.control,
            self.refusals,
            reloads=self.reloads,
            pauses=self.pauses,
            node_exporter=settings.metrics.node_exporter_names,
            tls=settings.metrics.tls(),
        )
        exporter.start()
        return exporter

    def background(self, work: Coroutine[Any, Any, None]) -> None:
        """Do this while packets pass."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def start(self) -> None:
        """Packets from now on."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, lambda: self.background(self.reload()))
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        self.pauses.watch()
        for fileno in self.queue_pair.filenos():
            loop.add_reader(fileno, self.packets)
        self.turn()
        self.notify.send("READY=1")
        settings = self.settings
        log.info("ready", mode=settings.mode, queue=settings.queue.first, nat=len(settings.nat), compiled=compiled)

    def stop(self, status: int = 0) -> None:
        self.status = max(self.status, status)
        self.stopping.set()

    async def reload(self) -> None:
        """Take over a changed configuration. A failure is in the log, the metrics and systemd's status."""
        assert self.control.take_over is not None
        with contextlib.suppress(ReloadError):  # logged already
            await self.control.take_over()
            await self.control.count_stale()

    def packets(self) -> None:
        try:
            self.queue_pair.drain()
        except OSError as error:  # the socket is broken: better dead and restarted than deaf
            log.error("queue_lost", error=str(error))
            self.deaf()
            self.stop(status=1)
        self.publish()

    def deaf(self) -> None:
        for fileno in self.queue_pair.filenos():
            asyncio.get_running_loop().remove_reader(fileno)

    def publish(self) -> None:
        if self.injector is not None:
            self.injector.send(self.engine.drain_rejects())
        self.refusals.publish()
        self.control.tell()

    def turn(self) -> None:
        """End what has expired and set the timer for the rest."""
        now = clock()
        self.pauses.expired(self.engine, now, EXPIRE_A_TURN)
        self.publish()
        self.tell(now)
        self.tell_addresses_lost()
        wait = (self.engine.next_expiry() - now) / 1000
        asyncio.get_running_loop().call_later(min(max(wait, SOON), LATEST), self.turn)

    def tell_addresses_lost(self) -> None:
        """One line for an address that went, once all its masqueraded connections have ended."""
        ended = self.engine.core.stats.ended[END_ADDRESS_GONE]
        if ended != self.addresses_lost and not self.engine.nat.masquerade.removed:
            log.info("connections_ended", reason="address_gone", connections=ended - self.addresses_lost)
            self.addresses_lost = ended

    def tell(self, now: int) -> None:
        if self.notify.watchdog and now - self.fed >= self.notify.watchdog * 1000 / 3 and self.queue_pair.moving():
            self.fed = now
            self.notify.send("WATCHDOG=1")
        if now - self.told >= STATUS_EVERY:
            self.told = now
            self.notify.send(f"STATUS={len(self.engine.core.table)} connections")

    def finish(self) -> None:
        """Verdicts for the packets that wait, no new ones; bounded in time."""
        self.notify.send("STOPPING=1")
        self.pauses.unwatch()
        self.deaf()
        if self.status == 0:
            self.queue_pair.refuse()
            until = clock() + DRAIN_AT_MOST
            while self.queue_pair.drain() and clock() < until:
                pass
        self.publish()
