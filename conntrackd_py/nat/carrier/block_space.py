"""The blocks of one outer range: which are free, and what one of them holds.

Free addresses, free blocks of an address and unused ports of a block are bits of integers. So a free one is found in
one step, however many there are.
"""

from typing import Final, final

from conntrackd_py.nat.range import fnv

MOST_ADDRESSES: Final = 65_536  # of a rule with port blocks


@final
class Block:
    """low, high: its first and last port. host: zone and inside address. counts: holders of a protocol and port."""

    def __init__(self, outer: bytes, low: int, size: int, host: bytes, label: str, since: int) -> None:
        self.outer = outer
        self.low = low
        self.size = size
        self.high = low + size - 1
        self.host = host
        self.label = label  # of the rule that allocated it; empty: a connection was there before
        self.since = since
        self.until = since  # without holders: when it is released
        self.contested = False  # connections of two hosts are in it: no port of it is given to anybody
        self.counts: dict[int, int] = {}
        self.used: dict[int, int] = {}  # protocol number -> a bit for each port with holders

    @property
    def inside(self) -> bytes:
        return self.host[2:]

    def unused(self, protonum: int) -> int:
        """The bits of the ports without a holder of this protocol."""
        return (1 << self.size) - 1 & ~self.used.get(protonum, 0)

    def add(self, protonum: int, port: int) -> None:
        """One holder more: a connection or a mapping."""
        key = protonum << 16 | port
        self.counts[key] = self.counts.get(key, 0) + 1
        self.used[protonum] = self.used.get(protonum, 0) | 1 << port - self.low

    def remove(self, protonum: int, port: int) -> None:
        key = protonum << 16 | port
        left = self.counts[key] - 1
        if left:
            self.counts[key] = left
        else:
            del self.counts[key]
            self.used[protonum] &= ~(1 << port - self.low)


@final
class Space:
    """The addresses from `low` on, each with the same blocks. What is left over at the end of the ports is not used.

    hosts: the blocks of each host, oldest first.
    """

    def __init__(self, low: bytes, addresses: int, port_low: int, port_high: int, size: int) -> None:
        self.low = low
        self.first = int.from_bytes(low, "big")
        self.addresses = addresses
        self.port_low = port_low
        self.size = size
        self.blocks = (port_high - port_low + 1) // size  # of each address
        self.allocated = 0
        self.open = (1 << addresses) - 1  # a bit for each address with a free block
        self.taken: dict[int, int] = {}  # number of an address -> a bit for each of its blocks in use
        self.hosts: dict[bytes, list[Block]] = {}

    @property
    def total(self) -> int:
        return self.addresses * self.blocks

    def holds(self, address: bytes, port: int) -> bool:
        """Whether a block of this space has the port."""
        if len(address) != len(self.low) or not 0 <= port - self.port_low < self.blocks * self.size:
            return False
        return 0 <= int.from_bytes(address, "big") - self.first < self.addresses

    def block_at(self, port: int) -> int:
        """The first port of the block that has this port."""
        return port - (port - self.port_low) % self.size

    def take(self, block: Block) -> None:
        number, bit = self._place(block)
        taken = self.taken.get(number, 0) | bit
        self.taken[number] = taken
        self.allocated += 1
        if taken == (1 << self.blocks) - 1:
            self.open &= ~(1 << number)
        self.hosts.setdefault(block.host, []).append(block)

    def free(self, block: Block) -> None:
        number, bit = self._place(block)
        taken = self.taken[number] & ~bit
        if taken:
            self.taken[number] = taken
        else:
            del self.taken[number]
        self.allocated -= 1
        self.open |= 1 << number
        mine = self.hosts[block.host]
        mine.remove(block)
        if not mine:
            del self.hosts[block.host]

    def choose(self, host: bytes, offset: int) -> tuple[bytes, int]:
        """Outer address and first port of a free block for this host; (b"", 0) if none is free.

        It is at the address of the host's first block, or else at one chosen by the inside address. If that has no
        free block, at the next one that has. offset: which block of the address to look at first.
        """
        if not self.open:
            return b"", 0
        mine = self.hosts.get(host)
        if mine:
            number = int.from_bytes(mine[0].outer, "big") - self.first
        else:
            number = fnv(host[2:]) % self.addresses
        number = next_bit(self.open, number)
        free = (1 << self.blocks) - 1 & ~self.taken.get(number, 0)
        address = (self.first + number).to_bytes(len(self.low), "big")
        return address, self.port_low + next_bit(free, offset) * self.size

    def _place(self, block: Block) -> tuple[int, int]:
        """The number of its address, and its bit there."""
        return int.from_bytes(block.outer, "big") - self.first, 1 << (block.low - self.port_low) // self.size


def next_bit(bits: int, offset: int) -> int:
    """The number of the first bit that is set, from offset on, or else from 0 on. At least one must be set."""
    above = bits >> offset
    if above:
        return offset + (above & -above).bit_length() - 1
    return (bits & -bits).bit_length() - 1
