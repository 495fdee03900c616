"""Text of protocols, numbers, addresses and times, read and written."""

import pytest

from conntrackd_py.match.address import range_text
from conntrackd_py.match.words import (
    ParseError,
    address_range,
    integer,
    milliseconds,
    protocol,
    protocol_name,
    time_text,
)
from tests.support.packets import address


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("10.0.0.1", "10.0.0.1", "10.0.0.1"),
        ("10.0.0.0/8", "10.0.0.0", "10.255.255.255"),
        ("10.0.0.3-10.0.0.9", "10.0.0.3", "10.0.0.9"),
        ("::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("fd00::/16", "fd00::", "fd00:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("0.0.0.0/0", "0.0.0.0", "255.255.255.255"),
    ],
)
def test_addresses(text: str, low: str, high: str) -> None:
    assert address_range(text) == [address(low), address(high)]
    assert range_text(address(low), address(high)) == text


def test_addresses_with_bits_beyond_the_prefix_or_a_netmask() -> None:
    assert address_range("10.1.2.3/8") == address_range("10.0.0.0/255.0.0.0") == address_range("10.0.0.0/8")


@pytest.mark.parametrize("text", ["", "10.0.0", "10.0.0.1-", "10.0.0.2-10.0.0.1", "10.0.0.1-::1", "10.0.0.0/33", "a"])
def test_no_addresses(text: str) -> None:
    with pytest.raises(ParseError):
        address_range(text)


@pytest.mark.parametrize(
    ("text", "ms", "shortest"),
    [
        ("30", 30_000, "30s"),
        ("1m30s", 90_000, "1m30s"),
        ("90s", 90_000, "1m30s"),
        ("90000ms", 90_000, "1m30s"),
        ("1d2h3m4s5ms", 93_784_005, "1d2h3m4s5ms"),
        ("0", 0, "0s"),
    ],
)
def test_times(text: str, ms: int, shortest: str) -> None:
    assert milliseconds(text, 1 << 32) == ms
    assert time_text(ms) == shortest
    assert milliseconds(shortest, 1 << 32) == ms


@pytest.mark.parametrize("text", ["", "m", "1x", "1m30", "-1", "1.5s", "49711d"])
def test_no_times(text: str) -> None:
    with pytest.raises(ParseError):
        milliseconds(text, 0xFFFFFFFF)


def test_numbers() -> None:
    assert [integer(text, 255, "mark") for text in ("0", "255", "0xff", "0XA")] == [0, 255, 255, 10]
    for text in ("", "256", "-1", "0x", "0xg", "1e2", "\u0661"):
        with pytest.raises(ParseError, match=r"is not a mark \(0 to 255\)"):
            integer(text, 255, "mark")


def test_protocols() -> None:
    assert [protocol(text) for text in ("tcp", "UDP", "ipv6-icmp", "icmpv6", "47", "esp")] == [6, 17, 58, 58, 47, 50]
    assert [protocol_name(number) for number in (6, 58, 50)] == ["tcp", "icmpv6", "50"]
    with pytest.raises(ParseError) as caught:
        protocol("tcpp")
    assert caught.value.word == "tcpp"
    assert "tcp" in caught.value.known
