"""Ports of the router's own addresses that its sockets hold, also silent ones. The service keeps the list up to date.

A forwarded connection does not get such a port: answers to it and packets to the socket could not be told apart.
"""

from typing import final

from conntrackd_py.nat.interfaces import Interfaces


@final
class BoundPorts:
    """keys: `bound_key` of each socket; its address is empty for a socket of all addresses."""

    def __init__(self, interfaces: Interfaces) -> None:
        self.interfaces = interfaces
        self.keys: dict[bytes, None] = {}

    def has(self, protonum: int, address: bytes, port: int) -> bool:
        """Whether a socket receives packets to this port of this address of the router."""
        if not self.keys or not self.interfaces.is_local(address):
            return False
        return bound_key(protonum, address, port) in self.keys or bound_key(protonum, b"", port) in self.keys


def bound_key(protonum: int, address: bytes, port: int) -> bytes:
    return bytes((protonum, port >> 8, port & 0xFF)) + address
