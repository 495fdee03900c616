"""The answer to `top`: counters of now, and hosts and pools of a walk over the table.

The walk takes turns of at most TURN seconds. All clients share one walk: its result is used for FRESH ms, and three
times as long as it took. After WATCHED seconds without a request the statistics are freed.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, cast

from conntrackd_py.const import HOOK_NAMES, NF_ACCEPT, NF_DROP
from conntrackd_py.control import status as report
from conntrackd_py.control.protocol.answers import Host, Pool, Traffic
from conntrackd_py.control.protocol.answers import Top as TopAnswer
from conntrackd_py.control.protocol.requests import Top as TopRequest
from conntrackd_py.control.report.pools import pools
from conntrackd_py.control.status import DaemonInfo
from conntrackd_py.engine.engine import Engine
from conntrackd_py.explain import hosts as host_figures
from conntrackd_py.explain.hosts import BY_BYTES, BY_CONNECTIONS, BY_NEW, CONNECTIONS, MOVED, PACKETS, RECEIVED, SENT
from conntrackd_py.match.address import address_text
from conntrackd_py.reasons import END_NAMES, INVALID_LIMIT, TABLE_FULL

TURN: Final = 0.0002  # seconds
PIECE: Final = 64  # slots between two reads of the clock
FRESH: Final = 400  # ms
REST: Final = 3
WATCHED: Final = 90.0  # seconds
ORDERS: Final = {"connections": BY_CONNECTIONS, "bytes": BY_BYTES, "new": BY_NEW}


class Top:
    """clock: the engine's, ms. turn: held by the walk that is in its turn."""

    def __init__(self, engine: Engine, clock: Callable[[], int], info: DaemonInfo, turn: asyncio.Lock) -> None:
        self.engine = engine
        self.core = engine.core
        self.clock = clock
        self.info = info
        self.turn = turn
        self.walks = 0  # ever
        self._statistics: host_figures.HostStatistics | None = None
        self._counting = asyncio.Lock()
        self._freeing: asyncio.Task[None] | None = None  # frees the last statistics in turns
        self._lapse: asyncio.TimerHandle | None = None
        self._counted: dict[str, int] = {}
        self._pools: list[Pool] = []
        self._at = 0
        self._until = 0  # ms: the last walk is used until then

    async def answer(self, request: TopRequest) -> TopAnswer:
        """Walks the table unless the last walk is recent."""
        if self._lapse is not None:
            self._lapse.cancel()
        async with self._counting:
            if self._statistics is None or self.clock() >= self._until:
                await self._count()
            self._lapse = asyncio.get_running_loop().call_later(WATCHED, self._free)
        stats = self.core.stats
        statistics = self._started()
        best = statistics.best(ORDERS[request.sort], request.family != "ipv6", request.family != "ipv4")
        return {
            "clock": self.clock(),
            "accounting": self.core.accounting,
            **report.counters(self.engine, self.info),
            "created": stats.insert,
            "ended": {name: count for name, count in zip(END_NAMES, stats.ended, strict=True) if count},
            "hooks": self._hooks(),
            "ignored": report.reasons(stats.reasons, INVALID_LIMIT, TABLE_FULL),
            "counted": self._counted,
            "hosts": [
                self._host(address, host_figures.figures_of(statistics.finished, address))
                for address in best[: request.hosts]
            ],
            "pools": self._pools,
            "unpooled": statistics.unpooled,
        }

    def _hooks(self) -> dict[str, dict[str, int]]:
        """Visits by hook. FORWARD has none: it runs in the visit at POST_ROUTING."""
        stats, found = self.core.stats, {}
        for at, name in enumerate(HOOK_NAMES):
            accepted, dropped = stats.verdicts[at * 2 + NF_ACCEPT], stats.verdicts[at * 2 + NF_DROP]
            if name != "FORWARD":
                found[name.lower()] = {"accepted": accepted, "dropped": dropped, "bytes": stats.bytes[at]}
        return found

    async def _count(self) -> None:
        began = self.clock()
        statistics = self._started()
        try:
            statistics.begin()
            await self._work(statistics.step)
        except BaseException:  # continuing a cancelled walk would count connections twice
            self._free()
            raise
        self.walks += 1
        took = self.clock() - began
        self._until = self.clock() + max(FRESH, took * REST)
        finished = statistics.finished
        self._counted = {"at": began, "took": took, "hosts": finished.known, "others": finished.others}
        if statistics.compared:
            self._counted["period"] = began - self._at
        self._at = began
        self._pools = pools(self.engine.nat, statistics.pools)

    async def _work(self, step: Callable[[int], bool]) -> None:
        more = True
        while more:
            async with self.turn:
                until = time.perf_counter() + TURN
                while (more := step(PIECE)) and time.perf_counter() < until:
                    pass
                await asyncio.sleep(0)

    def _started(self) -> host_figures.HostStatistics:
        if self._statistics is None:
            self._statistics = host_figures.HostStatistics(self.core)
            self.core.extensions.append(self._statistics)
        return self._statistics

    def _free(self) -> None:
        if self._statistics is not None:
            self.core.extensions.remove(self._statistics)
            self._freeing = asyncio.get_running_loop().create_task(self._work(self._statistics.free))
            self._statistics = None

    def _host(self, address: bytes, figures: list[int]) -> Host:
        described = cast(Host, self._traffic(figures[:MOVED]))
        described["address"] = address_text(address)
        if figures[MOVED] != host_figures.UNKNOWN:
            described["moved"] = self._traffic(figures[MOVED:])
        return described

    def _traffic(self, four: list[int]) -> Traffic:
        described: Traffic = {"connections": four[CONNECTIONS]}
        if self.core.accounting:
            described |= {"packets": four[PACKETS], "sent": four[SENT], "received": four[RECEIVED]}
        return described
