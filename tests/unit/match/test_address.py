"""Addresses, networks and ports, plain and inverted; the errors are those of conntrack(8)."""

import pytest

from conntrackd_py.match.address import (
    AddressError,
    Addresses,
    MaskedNetwork,
    address_and_port,
    addresses,
    network,
)
from tests.support.packets import address

V6 = bytes.fromhex("20010db8") + bytes(11) + b"\1"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("192.0.2.1", (b"\xc0\0\2\1", None)),
        ("192.0.2.1:80", (b"\xc0\0\2\1", 80)),
        ("[192.0.2.1]:80", (b"\xc0\0\2\1", 80)),
        ("2001:db8::1", (V6, None)),
        ("[2001:db8::1]:0", (V6, 0)),
        ("[2001:db8::1]:65535", (V6, 65535)),
    ],
)
def test_an_address_and_a_port(text: str, found: tuple[bytes, int | None]) -> None:
    assert address_and_port(text) == found


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "[2001:db8::1]",
            "Invalid IP address `[2001:db8::1]': write [address]:port, or the address without brackets",
        ),
        ("[192.0.2.1]", "Invalid IP address `[192.0.2.1]': write [address]:port, or the address without brackets"),
        (
            "[2001:db8::1]80",
            "Invalid IP address `[2001:db8::1]80': write [address]:port, or the address without brackets",
        ),
        ("[2001:db8::1", "No closing ']' around IPv6 address `[2001:db8::1'"),
        ("[]:80", "No IPv6 address specified"),
        ("[2001:db8::1]:", "No port specified after `:'"),
        ("192.0.2.1:", "No port specified after `:'"),
        ("[2001:db8::1]:65536", "Invalid port `65536'"),
        ("[bogus]:1", "Invalid IP address `bogus'"),
    ],
)
def test_errors(text: str, why: str) -> None:
    with pytest.raises(AddressError) as raised:
        address_and_port(text)
    assert str(raised.value) == why


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
    plain, inverted = addresses(network(f"{net}/{prefix}")), addresses(network(f"{net}/{prefix}"), True)
    assert [plain.has(address(a)) for a in inside + outside] == [True] * len(inside) + [False] * len(outside)
    assert [inverted.has(address(a)) for a in inside + outside] == [False] * len(inside) + [True] * len(outside)


@pytest.mark.parametrize("invert", [False, True])
def test_a_network_never_matches_the_other_family(invert: bool) -> None:
    """Not even inverted: `! 10.0.0.0/8` means IPv4 packets."""
    assert not addresses(network("0.0.0.0/0"), invert).has(address("::"))
    assert not addresses(network("::/0"), invert).has(address("0.0.0.0"))


def test_host_bits_do_not_count() -> None:
    assert addresses(network("192.168.1.77/24")).has(address("192.168.1.1"))


@pytest.mark.parametrize("invert", [False, True])
def test_addresses(invert: bool) -> None:
    found = addresses([address("10.0.0.8"), address("10.0.0.9"), address("10.0.0.1"), address("10.0.0.1")], invert)
    inside = [last for last in range(12) if found.has(address(f"10.0.0.{last}")) != invert]
    assert inside == [1, 8, 9]


@pytest.mark.parametrize("invert", [False, True])
def test_addresses_never_match_the_other_family(invert: bool) -> None:
    assert not Addresses([address("0.0.0.0"), address("255.255.255.255")], invert).has(address("::"))
    assert not Addresses([address("::"), address("::")], invert).has(b"")


def test_a_mask_may_have_gaps_for_conntrack_only() -> None:
    assert MaskedNetwork("10.0.5.0/255.0.255.0").has(address("10.9.5.7"))
    assert not MaskedNetwork("10.0.5.0/255.0.255.0").has(address("10.9.6.7"))
    with pytest.raises(AddressError, match="gaps"):
        network("10.0.5.0/255.0.255.0")
    assert network("10.1.2.3/255.0.0.0") == network("10.0.0.0/8") == [address("10.0.0.0"), address("10.255.255.255")]
