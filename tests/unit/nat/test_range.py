"""One address of a range: evenly spread, the same for the same source."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conntrackd_py.nat.range import Range, fnv
from tests.support.packets import address

UDP, ICMP, OSPF = 17, 1, 89
CLIENT, SERVER, OUTSIDE = address("192.168.1.2"), address("198.51.100.2"), address("203.0.113.1")


def to(low: bytes = OUTSIDE, high: bytes = b"", ports: tuple[int, int] = (0, 0), *, random: bool = False) -> Range:
    return Range(low, high or low, ports[0], ports[1], random, False)


@given(st.binary(min_size=4, max_size=4), st.binary(min_size=4, max_size=4), st.integers(0, 255))
def test_an_address_of_a_range_is_in_it_and_stays(source: bytes, destination: bytes, size: int) -> None:
    pool = to(address("203.0.113.0"), bytes((203, 0, 113, size)))
    chosen = pool.pick(source, destination)
    assert pool.low <= chosen <= pool.high
    assert chosen == pool.pick(source, destination)


def test_persistent_means_for_all_destinations() -> None:
    low, high = address("203.0.113.0"), address("203.0.113.255")
    plain, persistent = Range(low, high, 0, 0, False, False), Range(low, high, 0, 0, False, True)
    destinations = [address(f"198.51.100.{i}") for i in range(64)]
    assert len({persistent.pick(CLIENT, d) for d in destinations}) == 1
    assert len({plain.pick(CLIENT, d) for d in destinations}) > 40


@pytest.mark.parametrize("size", [2, 3, 8, 16])
def test_neighbours_are_spread_evenly(size: int) -> None:
    pool = to(address("203.0.113.0"), bytes((203, 0, 113, size - 1)))
    hits = [0] * size
    for i in range(64 * size):
        hits[pool.pick(address(f"10.0.{i >> 8}.{i & 255}"), SERVER)[3]] += 1
    assert 32 < min(hits) <= max(hits) < 96


def test_ipv6_ranges() -> None:
    pool = to(address("2001:db8::10"), address("2001:db8::1f"))
    chosen = {pool.pick(address(f"fd00::{i:x}"), address("2001:db8:9::1")) for i in range(200)}
    assert chosen <= {address(f"2001:db8::1{i:x}") for i in range(16)}
    assert len(chosen) == 16


def test_the_hash_uses_every_byte() -> None:
    base = bytes(16)
    assert len({fnv(base[:i] + b"\1" + base[i + 1 :]) for i in range(16)}) == 16
