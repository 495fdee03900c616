"""Connections by host: which hosts a limit applies to, who is near it, and a change of it."""

import pytest

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.host_limit import HostLimit
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.match.address import network, packed_address
from conntrackd_py.proto.udp import Udp

UDP = Udp(Tunables())


def opened(source: str, number: int = 1) -> list[NfConn]:
    t = tuples.make(packed_address(source) + packed_address("::" if ":" in source else "0.0.0.0"), bytes(4), 17)
    return [NfConn(t, t, UDP, 0) for _ in range(number)]


def limited(limit: int, networks: str = "", prefix: int = 16) -> HostLimit:
    hosts = HostLimit()
    hosts.configure(limit, prefix, network(networks) if networks else [], [])
    return hosts


@pytest.mark.parametrize(
    ("networks", "source", "reached"),
    [
        ("", "10.0.0.1", True),
        ("10.0.0.0/8", "10.0.0.1", True),
        ("10.0.0.0/8", "11.0.0.1", False),
        ("10.0.0.0/8", "fd00::1", False),
        ("fd00::/8", "fd00::1", True),
    ],
)
def test_it_applies_to_these_networks(networks: str, source: str, reached: bool) -> None:
    hosts = limited(2, networks)
    for ct in opened(source, 2):
        hosts.add(ct)
    assert hosts.reached(opened(source)[0].original) == reached
    assert len(hosts.near) == reached


def test_addresses_of_a_prefix_are_one_host() -> None:
    hosts = limited(2, "fd00::/8", prefix=8)
    for source in ("fd00::1", "fd00::2"):
        hosts.add(opened(source)[0])
    assert hosts.reached(opened("fd00::3")[0].original)
    assert not hosts.reached(opened("fd00:0:0:1::1")[0].original)


def test_near_the_limit_and_away_from_it() -> None:
    hosts = limited(10)
    made = opened("10.0.0.1", 8)
    for ct in made[:7]:
        hosts.add(ct)
    assert not hosts.near
    hosts.add(made[7])
    assert list(hosts.near) == [packed_address("10.0.0.1")]
    hosts.remove(made[0])
    assert not hosts.near
    for ct in made[1:]:
        hosts.remove(ct)
    assert len(hosts.counts) == 0


def test_a_change_counts_what_there_is() -> None:
    hosts = limited(0)
    slots: list[NfConn | None] = [*opened("fd00::1"), None, *opened("fd00::2")]
    hosts.configure(2, 16, [], slots)
    assert dict(hosts.counts.items()) == {packed_address("fd00::1"): 1, packed_address("fd00::2"): 1}
    hosts.configure(2, 8, [], slots)
    assert dict(hosts.counts.items()) == {packed_address("fd00::")[:8]: 2}
    assert len(hosts.near) == 1
    hosts.configure(10, 8, [], slots)
    assert not hosts.near
    hosts.configure(0, 8, [], slots)
    assert len(hosts.counts) == 0
