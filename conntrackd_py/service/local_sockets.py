"""Keeps the ports of the router's own sockets up to date in the engine."""

from collections.abc import Callable
from typing import Final, final

import structlog

from conntrackd_py.kernel import bound_ports
from conntrackd_py.nat.core import Nat
from conntrackd_py.settings.schema import NAT, Settings

log = structlog.get_logger()

EVERY: Final = 1000  # ms between two reads
PAUSE: Final = 50  # times the duration of a read, until the next one: at most 2 % of a core


@final
class LocalSockets:
    def __init__(self, nat: Nat, clock: Callable[[], int]) -> None:
        self.nat = nat
        self.clock = clock
        self.next = 0  # ms: of the next read
        self.reading = False
        self.failed = ""

    def due(self, settings: Settings) -> bool:
        """Whether to call `read` now. Without the setting the list is empty."""
        if settings.mode != NAT or not settings.avoid_bound_ports or not self.nat.rules.source_rules:
            self.nat.ports.bound.keys = {}
            return False
        return not self.reading and self.clock() >= self.next

    async def read(self) -> None:
        """A failure leaves the former list, and is logged once."""
        began, why = self.clock(), ""
        self.reading = True
        try:
            self.nat.ports.bound.keys, more = await bound_ports.read()
            why = f"more than {bound_ports.MOST} sockets" if more else ""
        except OSError as error:
            why = str(error)
        finally:
            now = self.clock()
            self.next = now + max(EVERY, PAUSE * (now - began))
            self.reading = False
        if why and why != self.failed:
            log.warning("local_sockets_unknown", error=why, help="a forwarded connection may get the port of a socket")
        self.failed = why
