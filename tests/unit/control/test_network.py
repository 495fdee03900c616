"""Addresses and ports in the spellings of conntrack(8); its exit status for the mistakes is in tests/e2e."""

import pytest

from conntrackd_py.control.network import AddressError, address_and_port

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
def test_a_mistake_is_one_exact_sentence(text: str, why: str) -> None:
    with pytest.raises(AddressError) as raised:
        address_and_port(text)
    assert str(raised.value) == why
