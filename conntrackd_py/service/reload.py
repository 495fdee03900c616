"""Takes over a changed configuration while packets pass.

Steps that can fail come first: reading, binding an address or a path, iptables. A failure undoes them all. The swap is
a few assignments between two packets. Keys of the queue take effect at a restart and are reported.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import final

import structlog

from conntrackd_py.control.status import ReloadError
from conntrackd_py.kernel.inject import Injector
from conntrackd_py.kernel.steering import steering
from conntrackd_py.kernel.steering.programs import SteeringError
from conntrackd_py.service import logs
from conntrackd_py.service.build import configure, kernel_tracks
from conntrackd_py.service.components import Components
from conntrackd_py.settings.errors import ConfigError
from conntrackd_py.settings.load import load
from conntrackd_py.settings.schema import Journal, Observe, Offload, Queue, Settings, Sync

log = structlog.get_logger()


@dataclass
class Step:
    """A prepared part of the swap. do: cannot fail. undo: called instead when another part fails."""

    do: Callable[[], None]
    undo: Callable[[], Awaitable[None]]


def after_restart(old: Settings, new: Settings) -> tuple[Settings, tuple[str, ...]]:
    """new, with the values of old for keys that need a restart; and the keys of these that differ."""
    waiting = [key for key in ("mode",) if getattr(old, key) != getattr(new, key)]
    for name, table in (
        ("queue", Queue),
        ("offload", Offload),
        ("observe", Observe),
        ("journal", Journal),
        ("sync", Sync),
    ):
        before, after = getattr(old, name), getattr(new, name)
        waiting += [
            f"{name}.{field.name}"
            for field in fields(table)
            if getattr(before, field.name) != getattr(after, field.name)
        ]
    if old.steering.mark_mask != new.steering.mark_mask:
        waiting.append("steering.mark_mask")
    kept = replace(new.steering, mark_mask=old.steering.mark_mask)
    former = replace(
        new,
        mode=old.mode,
        queue=old.queue,
        offload=old.offload,
        observe=old.observe,
        journal=old.journal,
        sync=old.sync,
        steering=kept,
    )
    return former, tuple(waiting)


def log_warnings(settings: Settings) -> None:
    """A line for each warning about the configuration, as of `check-config`."""
    for warning in settings.warnings:
        line = {"line": warning.line} if warning.line else {}
        log.warning("configuration", file=warning.source, **line, key=warning.path, reason=warning.why)


@final
class Reload:
    """path: of the configuration. Only one reload runs at a time; the next waits."""

    def __init__(self, parts: Components, path: Path) -> None:
        self.parts = parts
        self.path = path
        self.lock = asyncio.Lock()

    async def __call__(self) -> None:
        """Load the file and take it over. Raises ReloadError."""
        async with self.lock:
            notify, reloads = self.parts.notify, self.parts.reloads
            notify.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
            status = "reload failed"
            try:
                async with self.parts.guard.held():
                    await self._take_over()
                status = "reloaded"
            except (ConfigError, SteeringError, OSError) as error:
                reloads.successful = False
                reloads.error = str(error).encode(errors="backslashreplace").decode()  # a path may not be UTF-8
                log.error("reload_failed", error=reloads.error, help="the former configuration stays in force")
                status = f"reload failed, the former configuration is in force: {reloads.error}"
                raise ReloadError(reloads.error) from error
            finally:  # also after an exception of our own code: systemd waits for READY=1
                notify.send("READY=1", f"STATUS={status}")
            reloads.successful, reloads.error, reloads.at = True, "", time.time()
            reloads.count += 1
            log.info("reloaded", nat=len(self.parts.settings.nat), restart=list(reloads.restart))
            log_warnings(self.parts.settings)

    async def _take_over(self) -> None:
        old = self.parts.settings
        new, waiting = after_restart(old, await asyncio.to_thread(load, self.path))
        steps: list[Step] = []
        try:
            for prepare in (self._metrics, self._control, self._injector):
                step = await prepare(old, new)
                if step is not None:
                    steps.append(step)
            await asyncio.to_thread(_steer, new)
            tracks = await asyncio.to_thread(kernel_tracks, new)
        except BaseException:
            for step in reversed(steps):
                await step.undo()
            raise
        for step in steps:
            step.do()
        configure(self.parts.engine, new)
        self.parts.engine.nat.kernel_tracks = tracks
        logs.configure(new.log.level, new.log.format)
        self.parts.settings = new
        self.parts.nat_log.configure(new)
        self.parts.reloads.restart = waiting

    async def _metrics(self, old: Settings, new: Settings) -> Step | None:
        parts = self.parts
        former = parts.exporter
        if old.metrics == new.metrics:
            certificate = new.metrics.tls()  # the files may have been renewed
            if former is None or certificate is None:
                return None
            return Step(lambda: former.renew(certificate), _nothing)
        same_address = former is not None and old.metrics.listen == new.metrics.listen
        if former is not None and same_address:
            await former.stop()
        try:
            exporter = parts.exporter_of(new)
        except (ConfigError, OSError):
            if same_address:
                parts.exporter = parts.exporter_of(old)
            raise

        def do() -> None:
            parts.exporter = exporter
            if former is not None and not same_address:
                parts.background(former.stop())

        async def undo() -> None:
            if exporter is not None:
                await exporter.stop()
            if same_address:
                parts.exporter = parts.exporter_of(old)

        return Step(do, undo)

    async def _control(self, old: Settings, new: Settings) -> Step | None:
        if old.control == new.control:
            return None
        control, path = self.parts.control, self.parts.socket or new.control.socket
        carry_out, abandon = control.prepare_move(path, new.control.mode, new.control.group)

        def do() -> None:
            control.limit(new.control.max_clients, new.control.max_request)
            carry_out()

        async def undo() -> None:
            abandon()

        return Step(do, undo)

    async def _injector(self, old: Settings, new: Settings) -> Step | None:
        """New settings may reject packets, and need an injector for the answers."""
        parts = self.parts
        if parts.injector is not None or not new.answers():
            return None
        injector = Injector(parts.engine.answer_mark)

        def do() -> None:
            parts.injector = injector

        async def undo() -> None:
            injector.close()

        return Step(do, undo)


async def _nothing() -> None:
    """The undo of a step without effects before the swap."""


def _steer(new: Settings) -> None:
    """The last step that can fail. Each configuration handles every packet that the other one queues.

    A reload replaces steering rules; it never installs the first ones. The ruleset in force may have changed too.
    """
    if not steering.installed():
        return
    wanted = steering.planned(new)
    if not all(state.as_wanted for state in steering.status(wanted).values()):
        steering.install(wanted)
        log.info("steering", program=steering.chosen(wanted)[0].name, kernel_tracking=wanted.keep, why=wanted.why)
