"""Prefix translation: one address inside, one outside, and back; NPTv6 keeps the sum (RFC 6296)."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from conntrackd_py.match.address import network
from conntrackd_py.nat.prefix import Prefix
from conntrackd_py.wire import checksum


def prefix(to: str, before: str = "") -> Prefix:
    low, high = network(to)
    return Prefix(low, high, network(before)[0] if before else b"")


def translated(made: Prefix, address: str) -> str:
    found = made.translate(ip_address(address).packed)
    return str(ip_address(found)) if found else ""


@pytest.mark.parametrize(
    ("to", "address", "wanted"),
    [
        ("203.0.113.0/24", "192.168.1.77", "203.0.113.77"),
        ("203.0.113.64/28", "192.168.1.77", "203.0.113.77"),
        ("203.0.113.9", "192.168.1.77", "203.0.113.9"),
        ("0.0.0.0/0", "192.168.1.77", "192.168.1.77"),
        ("2001:db8:9::/48", "fd00:1:0:5::77", "2001:db8:9:5::77"),
    ],
)
def test_netmap_keeps_the_host(to: str, address: str, wanted: str) -> None:
    assert translated(prefix(to), address) == wanted


@pytest.mark.parametrize(
    ("before", "to", "address", "wanted"),
    [
        # the example of RFC 6296, appendix A.1
        ("fd01:203:405::/48", "2001:db8:1::/48", "fd01:203:405:1::1234", "2001:db8:1:d550::1234"),
        ("fd01:203:405::/48", "2001:db8:1::/48", "fd01:203:405:ffff::1", ""),
        ("fd00::/64", "2001:db8::/64", "fd00::1:2:3:4", "2001:db8::cf48:2:3:4"),
        ("fd00::/64", "2001:db8::/64", "fd00::ffff:2:3:4", "2001:db8::ffff:cf49:3:4"),
        ("fd00::/64", "2001:db8::/64", "fd00::ffff:ffff:ffff:4", "2001:db8::ffff:ffff:ffff:cf4b"),
        ("fd00::/64", "2001:db8::/64", "fd00::ffff:ffff:ffff:ffff", ""),
    ],
)
def test_nptv6_adjusts_one_word(before: str, to: str, address: str, wanted: str) -> None:
    assert translated(prefix(to, before), address) == wanted


words = st.lists(st.sampled_from([0, 1, 0xFFFE, 0xFFFF]) | st.integers(0, 0xFFFF), min_size=8, max_size=8)


@given(st.integers(1, 64), words, words)
def test_nptv6_keeps_the_sum_and_has_a_way_back(length: int, host: list[int], to: list[int]) -> None:
    address, other = (b"".join(word.to_bytes(2, "big") for word in one) for one in (host, to))
    inside, outside = (str(ip_network((one, length), strict=False)) for one in (address, other))
    found = prefix(outside, inside).translate(address)
    assume(found)
    assert ip_address(found) in ip_network(outside)
    assert checksum.total(found) == checksum.total(address)
    assert prefix(inside, outside).translate(found) == address
