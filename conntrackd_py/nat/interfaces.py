"""The interfaces of the router as NAT needs them: name by index, and addresses in order of preference.

Fed from outside (kernel.addresses); the engine never asks the machine.
"""

from typing import final


@final
class Link:
    def __init__(self, name: str, addresses: list[bytes]) -> None:
        self.name = name
        self.addresses = addresses


@final
class Interfaces:
    def __init__(self) -> None:
        self.links: dict[int, Link] = {}

    def name(self, index: int) -> str:
        """Empty for an index nobody has told us about."""
        link = self.links.get(index)
        return "" if link is None else link.name

    def select(self, index: int, length: int) -> bytes:
        """The preferred address of this length (4 or 16) on an interface; empty when it has none."""
        link = self.links.get(index)
        if link is None:
            return b""
        for address in link.addresses:
            if len(address) == length:
                return address
        return b""

    def owns(self, index: int, address: bytes) -> bool:
        link = self.links.get(index)
        return link is not None and address in link.addresses

    def is_local(self, address: bytes) -> bool:
        """Whether any interface has this address."""
        return any(address in link.addresses for link in self.links.values())
