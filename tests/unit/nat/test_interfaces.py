"""Names and addresses of the router's interfaces."""

from conntrackd_py.nat.interfaces import Interfaces, Link
from tests.support.packets import address

V4, V4_TOO, V6 = address("203.0.113.1"), address("203.0.113.2"), address("2001:db8:1::1")


def known() -> Interfaces:
    interfaces = Interfaces()
    assert interfaces.replace(3, Link("wan", [V6, V4, V4_TOO])) == []
    assert interfaces.replace(4, Link("tun0", [])) == []
    return interfaces


def test_names() -> None:
    assert [known().name(index) for index in (3, 4, 5)] == ["wan", "tun0", ""]


def test_the_preferred_address_of_a_family_is_the_first() -> None:
    assert known().select(3, 4) == V4
    assert known().select(3, 16) == V6


def test_no_address() -> None:
    assert known().select(4, 4) == known().select(5, 4) == b""


def test_an_interface_owns_its_addresses() -> None:
    assert known().owns(3, V4_TOO)
    assert not known().owns(4, V4_TOO)
    assert not known().owns(5, V4)


def test_local_is_what_any_interface_has() -> None:
    """One lookup, however many interfaces the router has."""
    interfaces = known()
    assert interfaces.replace(5, Link("wan2", [V4])) == []
    assert interfaces.replace(3, Link("wan", [V4_TOO])) == [V6, V4]
    assert [interfaces.is_local(address) for address in (V4, V4_TOO, V6)] == [True, True, False]
    assert interfaces.replace(5, None) == [V4]
    assert interfaces.replace(5, None) == []
    assert list(interfaces.local) == [V4_TOO]
    assert len(interfaces.names_with(V4_TOO)) == 1
