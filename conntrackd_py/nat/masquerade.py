"""Masqueraded connections end when their interface loses the address (masq_inet_event, masq_device_event)."""

from typing import Final, final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.core import Conntrack
from conntrackd_py.reasons import END_ADDRESS_GONE

AT_ONCE: Final = 128  # slots searched when an address is removed; expire() searches the rest


@final
class Masquerade:
    def __init__(self, core: Conntrack) -> None:
        self.core = core
        self.removed: dict[tuple[int, bytes], int] = {}  # interface, address -> slots still to be searched
        self.slot = 0  # searched last

    def added(self, index: int, addresses: list[bytes]) -> None:
        for address in addresses:
            self.removed.pop((index, address), None)

    def lost(self, index: int, addresses: list[bytes], now: int) -> None:
        for address in addresses:
            self.removed[(index, address)] = len(self.core.table.slots)
        self.expire(now, AT_ONCE)

    def expire(self, now: int, budget: int) -> int:
        """Search `budget` slots for connections masqueraded as a removed address; returns how many ended."""
        if not self.removed:
            return 0
        slots = self.core.table.slots
        budget = min(budget, len(slots))
        ended = 0
        for _ in range(budget):
            self.slot = (self.slot + 1) % len(slots)
            ct = slots[self.slot]
            if ct is not None and ct.masquerade and (ct.oif, tuples.dst(ct.reply)) in self.removed:
                ended += self.core.kill(ct, END_ADDRESS_GONE, now)
        self.removed = {where: left - budget for where, left in self.removed.items() if left > budget}
        return ended
