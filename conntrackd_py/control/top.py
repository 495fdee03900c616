"""The answer to `top`: who fills the table and what passes, for two answers to make rates of.

    clock accounting entries limit unconfirmed dying created ended{} hooks{} invalid{} ignored{} dropped{} states{}
    queues[] queue{} counted{at took [period] hosts others} hosts[] pools[] unpooled

Counters only grow: the difference between two answers, over that of their `clock` (ms), is a rate. They are of this
moment; hosts and pools are of a walk over the table that began at `counted.at` and took `counted.took` ms.

    hosts: address connections [packets sent received] [moved{connections [packets sent received]}]

A host is the source of the original direction: who opened the connection. `moved` is exact also for connections that
came and went: what the host opened and moved in the `counted.period` ms since the walk before; it is absent in the
first walk. Bytes and packets are there while accounting is on. `counted.others` are the connections of hosts beyond
the bound of engine/tally.py. pools: service/pools.py; `unpooled` are the connections of pools beyond the bound.

Packets never wait for a walk: it goes on for at most TURN at a time. However many ask, there is one walk: an answer
uses the last one while that is FRESH, and walks rest three times as long as they take. When nobody has asked for
WATCHED, the tally is given up and costs nothing.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from socket import AF_INET, AF_INET6, inet_ntop
from typing import TYPE_CHECKING, Final

from conntrackd_py.control import status as report
from conntrackd_py.control.pools import pools
from conntrackd_py.control.query import FAMILIES, FilterError, shown
from conntrackd_py.control.view import Json
from conntrackd_py.explain import hosts as host_figures
from conntrackd_py.explain.hosts import BY_BYTES, BY_CONNECTIONS, BY_NEW, CONNECTIONS, MOVED, PACKETS, RECEIVED, SENT
from conntrackd_py.reasons import END_NAMES, INVALID_LIMIT, OK, REASON_NAMES, TABLE_FULL

if TYPE_CHECKING:
    from conntrackd_py.control.server import ControlServer

TURN: Final = 0.0002  # seconds
PIECE: Final = 64  # slots between two looks at the time
FRESH: Final = 400  # ms
REST: Final = 3
WATCHED: Final = 90.0  # seconds
HOSTS: Final = 20
ORDERS: Final = {"connections": BY_CONNECTIONS, "bytes": BY_BYTES, "new": BY_NEW}


class Top:
    """turn: held by whoever walks the table."""

    def __init__(self, control: "ControlServer", turn: asyncio.Lock) -> None:
        self.control = control
        self.turn = turn
        self.walks = 0  # ever
        self._tally: host_figures.HostStatistics | None = None
        self._counting = asyncio.Lock()
        self._leaving: asyncio.Task[None] | None = None  # gives back the memory of the last tally
        self._lapse: asyncio.TimerHandle | None = None
        self._counted: Json = {}
        self._pools: list[Json] = []
        self._at = 0
        self._until = 0  # ms: so long is the last walk good enough

    async def answer(self, request: Mapping[str, object]) -> Json:
        """Walks the table if it has to. Raises FilterError for a wrong hosts, sort or family."""
        count, order, family = _hosts(request), _order(request), _family(request)
        if self._lapse is not None:
            self._lapse.cancel()
        async with self._counting:
            if self._tally is None or self.control.clock() >= self._until:
                await self._count()
            self._lapse = asyncio.get_running_loop().call_later(WATCHED, self._give_up)
        return {**self._counters(), **self._of_the_walk(count, order, family)}

    async def _count(self) -> None:
        clock = self.control.clock
        began = clock()
        period = began - self._at
        host_statistics = self._watched()
        try:
            host_statistics.begin()
            await self._work(host_statistics.step)
        except BaseException:  # cut short, it would count twice what it goes on with
            self._give_up()
            raise
        self.walks += 1
        took = clock() - began
        self._at = began
        self._until = clock() + max(FRESH, took * REST)
        self._counted = {"at": began, "took": took}
        if host_statistics.compared:
            self._counted["period"] = period
        self._counted.update(hosts=host_statistics.finished.known, others=host_statistics.finished.others)
        self._pools = pools(self.control.engine.nat, host_statistics.pools)

    async def _work(self, step: Callable[[int], bool]) -> None:
        more = True
        while more:
            async with self.turn:
                until = time.perf_counter() + TURN
                while (more := step(PIECE)) and time.perf_counter() < until:
                    pass
                await asyncio.sleep(0)

    def _watched(self) -> host_figures.HostStatistics:
        if self._tally is None:
            self._tally = host_figures.HostStatistics(self.control.engine.core)
            self.control.engine.core.extensions.append(self._tally)
        return self._tally

    def _give_up(self) -> None:
        if self._tally is not None:
            self.control.engine.core.extensions.remove(self._tally)
            self._leaving = asyncio.get_running_loop().create_task(self._work(self._tally.free))
            self._tally = None

    def _counters(self) -> Json:
        core = self.control.engine.core
        stats = core.stats
        return {
            "clock": self.control.clock(),
            "accounting": core.accounting,
            **report.table(self.control),
            "created": stats.insert,
            "ended": {name: count for name, count in zip(END_NAMES, stats.ended, strict=True) if count},
            "hooks": report.hooks(self.control),
            "invalid": report.reasons(stats.reasons, OK + 1, INVALID_LIMIT),
            "ignored": report.reasons(stats.reasons, INVALID_LIMIT, TABLE_FULL),
            "dropped": report.reasons(stats.reasons, TABLE_FULL, len(REASON_NAMES)),
            "states": report.states(self.control.engine.trackers),
            **report.queues(self.control.about),
        }

    def _of_the_walk(self, count: int, order: int, family: str) -> Json:
        host_statistics = self._watched()
        best = host_statistics.best(order, family != "ipv6", family != "ipv4")[:count]
        return {
            "counted": self._counted,
            "hosts": [
                self._host(address, host_figures.figures_of(host_statistics.finished, address)) for address in best
            ],
            "pools": self._pools,
            "unpooled": host_statistics.unpooled,
        }

    def _host(self, address: bytes, figures: list[int]) -> Json:
        described: Json = {"address": inet_ntop(AF_INET if len(address) == 4 else AF_INET6, address)}
        described.update(self._figures(figures[:MOVED]))
        if figures[MOVED] != host_figures.UNKNOWN:
            described["moved"] = self._figures(figures[MOVED:])
        return described

    def _figures(self, four: list[int]) -> Json:
        described: Json = {"connections": four[CONNECTIONS]}
        if self.control.engine.core.accounting:
            described.update(packets=four[PACKETS], sent=four[SENT], received=four[RECEIVED])
        return described


def _hosts(request: Mapping[str, object]) -> int:
    count = request.get("hosts", HOSTS)
    if type(count) is not int or not 0 <= count <= host_figures.RANKED:
        raise FilterError(f"hosts is a number from 0 to {host_figures.RANKED}, not {shown(count)}")
    return count


def _order(request: Mapping[str, object]) -> int:
    order = request.get("sort", "connections")
    if not isinstance(order, str) or order not in ORDERS:
        raise FilterError(f"sort must be one of {', '.join(ORDERS)}, not {shown(order)}")
    return ORDERS[order]


def _family(request: Mapping[str, object]) -> str:
    family = request.get("family", "")
    if not isinstance(family, str) or (family and family not in FAMILIES):
        raise FilterError(f"family must be ipv4 or ipv6, not {shown(family)}")
    return family
