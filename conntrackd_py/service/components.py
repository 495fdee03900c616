"""The parts of a running daemon. A reload replaces the settings, the exporter and the injector."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from conntrackd_py.control.journal import JournalState
from conntrackd_py.control.server import ControlServer
from conntrackd_py.control.status import DaemonInfo
from conntrackd_py.control.steering import Steering
from conntrackd_py.control.sync.state import SyncState
from conntrackd_py.kernel.inject import Injector
from conntrackd_py.kernel.queues.queue import QueueCounters
from conntrackd_py.kernel.steering.plan import plan
from conntrackd_py.service.build import engine_of
from conntrackd_py.service.clock import clock
from conntrackd_py.service.fd_store import FdStore
from conntrackd_py.service.journal import JournalKeeper
from conntrackd_py.service.local_sockets import LocalSockets
from conntrackd_py.service.mark_watch import MarkWatch
from conntrackd_py.service.nat_log.keeper import NatLogKeeper
from conntrackd_py.service.notify import Notify
from conntrackd_py.service.pauses import Pauses
from conntrackd_py.service.port_watch import PortWatch
from conntrackd_py.service.refusal_log import RefusalLog
from conntrackd_py.service.steering_guard import SteeringGuard
from conntrackd_py.service.sync.keeper import SyncKeeper
from conntrackd_py.service.system_random import SystemRandom
from conntrackd_py.settings.schema import Settings

if TYPE_CHECKING:
    from conntrackd_py.service.metrics.exporter import Exporter


@final
class Components:
    """socket: overrides the control socket's path of the configuration; empty: no."""

    def __init__(self, settings: Settings, socket: str) -> None:
        self.settings = settings
        self.socket = socket
        self.engine = engine_of(settings, SystemRandom())
        self.counters = QueueCounters()
        self.counters.names = plan(settings).queue_names
        self.refusals = RefusalLog(self.engine.diagnostics.recent, clock)
        self.pauses = Pauses()
        self.mark_watch = MarkWatch(self.engine.overwritten)
        self.port_watch = PortWatch(self.engine.nat)
        self.local_sockets = LocalSockets(self.engine.nat, clock)
        self.notify = Notify()
        self.store = FdStore(self.notify)
        self.injector: Injector | None = None  # only with `answers`: it sends the answers to rejected packets
        self.exporter: Exporter | None = None
        self.steering = Steering()
        self.guard = SteeringGuard(lambda: self.settings, self.steering, self._kernel_tracks)
        self.journal_state = JournalState()
        path = Path(settings.journal.path(socket or settings.control.socket))
        self.journal = JournalKeeper(self.engine, settings, path, self.journal_state, clock)
        self.sync_state = SyncState()
        role = path.with_suffix(".role")
        self.sync = SyncKeeper(self.engine, settings, self.journal_state, self.sync_state, role, clock)
        self.nat_log = NatLogKeeper(self.engine, clock)
        self.control = self._control_server()
        self.control.commands.walker.publish = self.publish
        self.reloads = self.control.reloads
        self.tasks: set[asyncio.Task[None]] = set()

    def _control_server(self) -> ControlServer:
        settings = self.settings
        return ControlServer(
            self.engine,
            clock,
            path=self.socket or settings.control.socket,
            mode=settings.control.mode,
            group=settings.control.group,
            max_clients=settings.control.max_clients,
            max_request=settings.control.max_request,
            info=self._info(),
        )

    def _info(self) -> DaemonInfo:
        return DaemonInfo(
            mode=self.settings.mode,
            started=clock(),
            queues=tuple(self.counters.names),
            queue_limit=self.settings.queue.max_length,
            counters=self.counters,
            steering=self.steering,
            mark_rule=lambda: self.mark_watch.rule,
            journal=self.journal_state,
            sync=self.sync_state,
            nat_log=self.nat_log.report,
        )

    def exporter_of(self, settings: Settings) -> "Exporter | None":
        """The metrics server of these settings, started; None when they disable it. Raises ConfigError."""
        address = settings.metrics.address()
        if address is None:
            return None
        from conntrackd_py.service.metrics.collector import EngineCollector  # imports prometheus_client, which is slow
        from conntrackd_py.service.metrics.exporter import Exporter

        collector = EngineCollector(
            self.engine,
            self.counters,
            self.control,
            refusals=self.refusals,
            pauses=self.pauses,
            steering=self.steering,
            journal=self.journal_state,
            sync=self.sync_state,
            nat_log=self.nat_log,
            node_exporter=settings.metrics.node_exporter_names,
        )
        exporter = Exporter(collector, address, settings.metrics.tls())
        exporter.start()
        return exporter

    def _kernel_tracks(self, tracks: bool) -> None:
        self.engine.nat.kernel_tracks = tracks

    def background(self, work: Coroutine[Any, Any, None]) -> None:
        """Run this while packets pass."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def publish(self) -> None:
        """Send rejects, log refusals and translations, queue events."""
        if self.injector is not None:
            self.injector.send(self.engine.drain_rejects())
        self.refusals.publish()
        self.nat_log.publish()
        self.control.publisher.publish()

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        if self.exporter is not None:
            await self.exporter.stop()
        if self.injector is not None:
            self.injector.close()
