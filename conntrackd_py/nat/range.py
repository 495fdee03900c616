"""The range a NAT rule maps to (struct nf_nat_range2)."""

from typing import final


@final
class Range:
    """Inclusive addresses (empty: keep the address) and inclusive ports (0, 0: none given).

    base: the port that becomes the first one of the range, the next ones in order; 0: any port of the range.
    """

    def __init__(
        self,
        low: bytes = b"",
        high: bytes = b"",
        port_low: int = 0,
        port_high: int = 0,
        random: bool = False,
        persistent: bool = False,
    ) -> None:
        self.low = low
        self.high = high
        self.port_low = port_low
        self.port_high = port_high
        self.random = random
        self.persistent = persistent
        self.base = 0

    @property
    def has_ports(self) -> bool:
        return self.port_high > 0

    def has_address(self, address: bytes) -> bool:
        return len(self.low) == len(address) and self.low <= address <= self.high

    def holds(self, address: bytes, port: int) -> bool:
        return self.low <= address <= self.high and (not self.has_ports or self.port_low <= port <= self.port_high)

    def pick(self, source: bytes, destination: bytes) -> bytes:
        """One address of the range; the same for the same source and, unless persistent, destination."""
        if self.low == self.high:
            return self.low
        low = int.from_bytes(self.low, "big")
        size = int.from_bytes(self.high, "big") - low + 1
        chosen = low + fnv(source if self.persistent else source + destination) % size
        return chosen.to_bytes(len(self.low), "big")


def fnv(data: bytes) -> int:
    """FNV-1a, 32 bits, mixed once more: spreads neighbouring addresses."""
    h = 0x811C9DC5
    for byte in data:
        h = (h ^ byte) * 0x01000193 & 0xFFFFFFFF
    h ^= h >> 15
    return h * 0x2C1B3C6D & 0xFFFFFFFF
