"""Keeps endpoint-independent mappings off the ports of the router's own services."""

import asyncio
from typing import Final, final

import structlog

from conntrackd_py.kernel.local_ports import local_ports
from conntrackd_py.nat.core import Nat

EVERY: Final = 5000  # ms

log = structlog.get_logger()


@final
class LocalPorts:
    def __init__(self, nat: Nat) -> None:
        self.nat = nat
        self.next = 0  # ms: of the next look
        self.failed = False

    def due(self, now: int) -> bool:
        """At most once in EVERY ms, and only with a rule that makes mappings."""
        if now < self.next or not any(rule.independent is not None for rule in self.nat.rules.source_rules):
            return False
        self.next = now + EVERY
        return True

    async def look(self) -> None:
        """Read the ports in a thread. The former ones stay if they cannot be read."""
        try:
            self.nat.endpoints.reserved = await asyncio.to_thread(local_ports)
            self.failed = False
        except OSError as error:
            if not self.failed:
                log.warning("local_ports_unknown", error=str(error))
            self.failed = True
