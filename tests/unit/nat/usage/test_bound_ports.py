"""Which ports the router's sockets hold. The choice of a port: tests/conversations/test_bound_ports.py."""

import pytest

from conntrackd_py.nat.interfaces import Interfaces, Link
from conntrackd_py.nat.usage.bound_ports import BoundPorts, bound_key
from tests.support.packets import address

OWN, POOL = address("203.0.113.1"), address("203.0.113.9")
TCP, UDP = 6, 17


@pytest.mark.parametrize(
    ("bound", "asked", "held"),
    [
        ((UDP, OWN, 5060), (UDP, OWN, 5060), True),
        ((UDP, b"", 5060), (UDP, OWN, 5060), True),
        ((UDP, b"", 5060), (UDP, POOL, 5060), False),
        ((UDP, POOL, 5060), (UDP, OWN, 5060), False),
        ((TCP, OWN, 5060), (UDP, OWN, 5060), False),
        ((UDP, OWN, 5061), (UDP, OWN, 5060), False),
    ],
)
def test_which_ports_are_held(bound: tuple[int, bytes, int], asked: tuple[int, bytes, int], held: bool) -> None:
    """A socket of all addresses receives nothing at an address that is not the router's."""
    interfaces = Interfaces()
    interfaces.replace(2, Link("wan", [OWN]))
    ports = BoundPorts(interfaces)
    ports.keys = {bound_key(*bound): None}
    assert ports.has(*asked) is held
