"""Each kind of match by itself, plain and inverted."""

import pytest

from conntrackd_py.nat.rules import Interface, Net, Ports
from tests.support.packets import address


@pytest.mark.parametrize(
    ("net", "prefix", "inside", "outside"),
    [
        ("192.168.0.0", 16, ["192.168.0.0", "192.168.255.255"], ["192.167.255.255", "192.169.0.0"]),
        ("192.168.1.7", 32, ["192.168.1.7"], ["192.168.1.6", "192.168.1.8"]),
        ("0.0.0.0", 0, ["0.0.0.0", "255.255.255.255"], []),
        ("10.0.0.0", 9, ["10.127.255.255"], ["10.128.0.0"]),
        ("fd00::", 8, ["fdff::1"], ["fc00::1", "fe00::1"]),
        ("::", 0, ["::", "ffff::"], []),
        ("2001:db8::1", 128, ["2001:db8::1"], ["2001:db8::2"]),
    ],
)
def test_a_network(net: str, prefix: int, inside: list[str], outside: list[str]) -> None:
    plain, inverted = Net(address(net), prefix), Net(address(net), prefix, invert=True)
    assert [plain.matches(address(a)) for a in inside + outside] == [True] * len(inside) + [False] * len(outside)
    assert [inverted.matches(address(a)) for a in inside + outside] == [False] * len(inside) + [True] * len(outside)


@pytest.mark.parametrize("invert", [False, True])
def test_a_network_never_matches_the_other_family(invert: bool) -> None:
    """Not even inverted: `! 10.0.0.0/8` is said of IPv4 packets."""
    assert not Net(address("0.0.0.0"), 0, invert).matches(address("::"))
    assert not Net(address("::"), 0, invert).matches(address("0.0.0.0"))


def test_host_bits_do_not_count() -> None:
    assert Net(address("192.168.1.77"), 24).matches(address("192.168.1.1"))


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("eth0", ["eth0"], ["eth1", "eth", "eth00", ""]),
        ("eth+", ["eth", "eth0", "eth10"], ["et", "wan", ""]),
        ("+", ["eth0", "x", ""], []),
    ],
)
def test_an_interface_name(pattern: str, yes: list[str], no: list[str]) -> None:
    plain, inverted = Interface(pattern), Interface(pattern, invert=True)
    assert [plain.matches(name) for name in yes + no] == [True] * len(yes) + [False] * len(no)
    assert [inverted.matches(name) for name in yes + no] == [False] * len(yes) + [True] * len(no)


@pytest.mark.parametrize("invert", [False, True])
def test_a_port_range_includes_its_ends(invert: bool) -> None:
    ports = Ports(1000, 1002, invert)
    assert [ports.matches(port) != invert for port in range(998, 1005)] == [False] * 2 + [True] * 3 + [False] * 2
