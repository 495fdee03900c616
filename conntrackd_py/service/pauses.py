"""Times during which packets wait: expiry of connections, and Python's garbage collector."""

import gc
import time
from typing import final

from conntrackd_py.engine.engine import Engine
from conntrackd_py.kernel.histogram import Histogram


@final
class Pauses:
    def __init__(self) -> None:
        self.expiry = Histogram()
        self.python = Histogram()
        self._began = 0

    def expire(self, engine: Engine, now: int, budget: int) -> int:
        """Engine.expire, timed."""
        began = time.perf_counter_ns()
        ended = engine.expire(now, budget)
        self.expiry.observe(time.perf_counter_ns() - began)
        return ended

    def watch(self) -> None:
        """Time Python's collections until `unwatch`."""
        gc.callbacks.append(self._collecting)

    def unwatch(self) -> None:
        gc.callbacks.remove(self._collecting)

    def _collecting(self, phase: str, _info: dict[str, int]) -> None:
        now = time.perf_counter_ns()
        if phase == "start":
            self._began = now
        else:
            self.python.observe(now - self._began)
