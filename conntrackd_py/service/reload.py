"""Takes over a changed configuration while packets pass: everything is prepared first, then swapped in one step.

What can fail comes first: reading, binding an address or a path, iptables. If any of it fails, nothing has changed.
The swap itself is a few assignments between two packets. Keys that shape the queue wait for a restart and are named.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, final

import structlog

from conntrackd_py.control.reloads import ReloadError
from conntrackd_py.kernel import steering
from conntrackd_py.kernel.inject import Injector
from conntrackd_py.kernel.plan import Plan, plan
from conntrackd_py.kernel.steering import SteeringError
from conntrackd_py.service import logs
from conntrackd_py.service.build import configure
from conntrackd_py.settings.errors import ConfigError
from conntrackd_py.settings.load import load
from conntrackd_py.settings.schema import Queue, Settings

if TYPE_CHECKING:
    from conntrackd_py.service.daemon import Daemon

log = structlog.get_logger()


@dataclass
class Step:
    """A prepared part of the swap. do: carries it out and cannot fail. undo: abandons it, if another part fails."""

    do: Callable[[], None]
    undo: Callable[[], Awaitable[None]]


def after_restart(old: Settings, new: Settings) -> tuple[Settings, tuple[str, ...]]:
    """new, with the keys of old that only a restart can change; and those keys that differ."""
    waiting = [key for key in ("mode",) if getattr(old, key) != getattr(new, key)]
    for field in fields(Queue):
        if getattr(old.queue, field.name) != getattr(new.queue, field.name):
            waiting.append(f"queue.{field.name}")
    if old.steering.mark_mask != new.steering.mark_mask:
        waiting.append("steering.mark_mask")
    kept = replace(new.steering, mark_mask=old.steering.mark_mask)
    return replace(new, mode=old.mode, queue=old.queue, steering=kept), tuple(waiting)


@final
class Reload:
    """path: of the configuration. One reload runs at a time; another one waits for it."""

    def __init__(self, daemon: "Daemon", path: Path) -> None:
        self.daemon = daemon
        self.path = path
        self.lock = asyncio.Lock()

    async def __call__(self) -> None:
        """Take over what the file says now. Raises ReloadError."""
        async with self.lock:
            notify, reloads = self.daemon.notify, self.daemon.reloads
            notify.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
            status = "reload failed"
            try:
                await self._take_over()
                status = "reloaded"
            except (ConfigError, SteeringError, OSError) as error:
                reloads.successful, reloads.error = False, str(error)
                log.error("reload_failed", error=reloads.error, help="the former configuration stays in force")
                status = f"reload failed, the former configuration is in force: {reloads.error}"
                raise ReloadError(reloads.error) from error
            finally:  # also after a mistake of our own: systemd waits for it
                notify.send("READY=1", f"STATUS={status}")
            reloads.successful, reloads.error, reloads.at = True, "", time.time()
            reloads.count += 1
            log.info("reloaded", nat=len(self.daemon.settings.nat), restart=list(reloads.restart))

    async def _take_over(self) -> None:
        old = self.daemon.settings
        new, waiting = after_restart(old, await asyncio.to_thread(load, self.path))
        steps: list[Step] = []
        try:
            for prepare in (self._metrics, self._control, self._injector):
                step = await prepare(old, new)
                if step is not None:
                    steps.append(step)
            await self._steer(old, new)
        except BaseException:
            for step in reversed(steps):
                await step.undo()
            raise
        for step in steps:
            step.do()
        configure(self.daemon.engine, new)
        logs.configure(new.log.level, new.log.format)
        self.daemon.settings = new
        self.daemon.reloads.restart = waiting

    async def _metrics(self, old: Settings, new: Settings) -> Step | None:
        daemon = self.daemon
        former = daemon.exporter
        if old.metrics == new.metrics:
            certificate = new.metrics.tls()  # perhaps renewed
            if former is None or certificate is None:
                return None
            return Step(lambda: former.renew(certificate), _nothing)
        in_the_way = former is not None and old.metrics.listen == new.metrics.listen
        if former is not None and in_the_way:
            await former.stop()
        try:
            exporter = daemon.exporter_of(new)
        except (ConfigError, OSError):
            if in_the_way:
                daemon.exporter = daemon.exporter_of(old)
            raise

        def do() -> None:
            daemon.exporter = exporter
            if former is not None and not in_the_way:
                daemon.background(former.stop())

        async def undo() -> None:
            if exporter is not None:
                await exporter.stop()
            if in_the_way:
                daemon.exporter = daemon.exporter_of(old)

        return Step(do, undo)

    async def _control(self, old: Settings, new: Settings) -> Step | None:
        if old.control == new.control:
            return None
        control, path = self.daemon.control, self.daemon.socket or new.control.socket
        carry_out, abandon = control.prepare_move(path, new.control.mode, new.control.group)

        def do() -> None:
            control.limit(new.control.max_clients, new.control.max_request)
            carry_out()

        async def undo() -> None:
            abandon()

        return Step(do, undo)

    async def _injector(self, old: Settings, new: Settings) -> Step | None:
        """A filter that was not there before may reject, and its answers have to be sent."""
        daemon = self.daemon
        if daemon.injector is not None or new.filter.policy() is None:
            return None
        injector = Injector(daemon.engine.answer_mark)

        def do() -> None:
            daemon.injector = injector

        async def undo() -> None:
            injector.close()

        return Step(do, undo)

    async def _steer(self, old: Settings, new: Settings) -> None:
        """The last that may fail. Both configurations can handle every packet that either steers to the queue."""
        before, after = plan(old), plan(new)
        if before != after and await asyncio.to_thread(_installed, before):
            await asyncio.to_thread(steering.install, after)


async def _nothing() -> None:
    """The undo of a step that has changed nothing yet."""


def _installed(wanted: Plan) -> bool:
    """Whether any steering rule is installed. A reload changes installed rules; it never installs the first one."""
    return any(text != "not installed" for _, text, _ in steering.status(wanted).values())
