"""Masqueraded connections end when their interface loses the address (masq_inet_event, masq_device_event).

After a boot, a restored one waits for the first address of its interface, which may come later than the daemon. It ends
if this is another address. Link-local addresses do not count: they come first.
"""

from typing import Final, final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.core import Conntrack
from conntrackd_py.reasons import END_ADDRESS_GONE

LINK_LOCAL: Final = {4: b"\xa9\xfe", 16: b"\xfe\x80"}  # how these addresses begin, by length
AT_ONCE: Final = 128  # slots searched when an address is removed; expire() searches the rest


@final
class Masquerade:
    def __init__(self, core: Conntrack) -> None:
        self.core = core
        self.removed: dict[tuple[int, bytes], int] = {}  # interface, address -> slots still to be searched
        self.slot = 0  # searched last
        self.late: dict[str, list[NfConn]] = {}  # that wait for an address, by the name of their interface

    def added(self, index: int, addresses: list[bytes]) -> None:
        for address in addresses:
            self.removed.pop((index, address), None)

    def wait(self, name: str, ct: NfConn) -> None:
        """ct is of a former boot, and the interface of this name has no address yet."""
        self.late.setdefault(name, []).append(ct)

    def arrived(self, index: int, name: str, addresses: list[bytes], now: int) -> None:
        """The interface has these addresses: connections that waited for them go on, or end in turns."""
        waiting = self.late.pop(name, None)
        if waiting is None:
            return
        still: list[NfConn] = []
        others: dict[bytes, None] = {}
        for ct in waiting:
            if self.core.table.at(ct.slot) is not ct:
                continue  # its timeout was over
            ct.oif = index
            address = tuples.dst(ct.reply)
            if address in addresses:
                self.core.save(ct)
            elif has_address(addresses, len(address)):
                others[address] = None
            else:
                still.append(ct)
        if still:
            self.late[name] = still
        if others:
            self.lost(index, list(others), now)

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


def has_address(addresses: list[bytes], length: int) -> bool:
    """Whether one of these has this length and is not link-local."""
    return any(len(address) == length and not address.startswith(LINK_LOCAL[length]) for address in addresses)
