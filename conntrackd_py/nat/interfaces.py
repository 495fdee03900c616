"""The router's interfaces as NAT needs them: name by index, and addresses in order of preference.

kernel.addresses fills them.
"""

from typing import Final, final

LOOPBACK_NET: Final = 127  # the first byte of 127.0.0.0/8
LOOPBACK: Final = {4: bytes((LOOPBACK_NET, 0, 0, 1)), 16: bytes(15) + b"\1"}  # by length


@final
class Link:
    """addresses: packed, preferred first."""

    def __init__(self, name: str, addresses: list[bytes]) -> None:
        self.name = name
        self.addresses: dict[bytes, None] = dict.fromkeys(addresses)
        self.preferred: dict[int, bytes] = {len(address): address for address in reversed(addresses)}  # by length


@final
class Interfaces:
    def __init__(self) -> None:
        self.links: dict[int, Link] = {}
        self.local: dict[bytes, list[int]] = {}  # address -> the interfaces that have it
        self.networks: dict[tuple[int, bytes], bytes] = {}  # interface and broadcast address -> netmask

    def replace(self, index: int, link: Link | None) -> list[bytes]:
        """Set or (None) remove an interface. Returns the addresses it lost."""
        before = self.links.pop(index, None)
        if link is not None:
            self.links[index] = link
            for address in link.addresses:
                self.local.setdefault(address, []).append(index)
        if before is None:
            return []
        for address in before.addresses:
            self.local[address].remove(index)
            if not self.local[address]:
                del self.local[address]
        return [address for address in before.addresses if link is None or address not in link.addresses]

    def network(self, index: int, address: bytes) -> bytes:
        """The netmask of the network of this interface that has this broadcast address; empty if there is none."""
        return self.networks.get((index, address), b"")

    def name(self, index: int) -> str:
        """Empty for an unknown index."""
        link = self.links.get(index)
        return "" if link is None else link.name

    def select(self, index: int, length: int) -> bytes:
        """The preferred address of this length (4 or 16) on an interface; empty when it has none."""
        link = self.links.get(index)
        return b"" if link is None else link.preferred.get(length, b"")

    def owns(self, index: int, address: bytes) -> bool:
        link = self.links.get(index)
        return link is not None and address in link.addresses

    def is_local(self, address: bytes) -> bool:
        """Whether any interface has this address."""
        return address in self.local

    def is_router(self, address: bytes) -> bool:
        """Whether the kernel delivers packets to this address to the router itself (RTN_LOCAL)."""
        return address in self.local or (len(address) == 4 and address[0] == LOOPBACK_NET)

    def names_with(self, address: bytes) -> list[str]:
        """The names of the interfaces that have this address."""
        return [self.links[index].name for index in self.local.get(address, ())]
