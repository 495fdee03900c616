"""The tally: hosts and pools of a table, and what they moved between two walks."""

from __future__ import annotations

import pytest

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPPROTO_TCP, IPS_SRC_NAT
from conntrackd_py.explain import hosts as module
from conntrackd_py.explain.hosts import (
    BY_BYTES,
    BY_CONNECTIONS,
    BY_NEW,
    CONNECTIONS,
    MOVED,
    OTHERS,
    PACKETS,
    RECEIVED,
    SENT,
    UNKNOWN,
    Hosts,
    HostStatistics,
    figures_of,
)
from conntrackd_py.reasons import END_DELETED
from tests.support import packets
from tests.support.router import CLIENT, SERVER, Router

A, B = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])


@pytest.fixture
def router() -> Router:
    return Router(tunables=Tunables(nf_conntrack_acct=True))


@pytest.fixture
def host_statistics(router: Router) -> HostStatistics:
    made = HostStatistics(router.engine.core)
    router.engine.core.extensions.append(made)
    return made


def walk(host_statistics: HostStatistics, budget: int = 3) -> None:
    host_statistics.begin()
    while host_statistics.step(budget):
        pass


def moved(host_statistics: HostStatistics, address: bytes) -> list[int]:
    return figures_of(host_statistics.finished, address)[MOVED:]


def test_a_connection_counts_for_who_opened_it(router: Router, host_statistics: HostStatistics) -> None:
    router.udp_answered(1000)
    router.udp(1001)
    router.udp(1000, src=SERVER, dst=CLIENT)
    router.udp(1001, 1001)
    walk(host_statistics)
    found = figures_of(host_statistics.finished, A)
    assert (found[CONNECTIONS], found[PACKETS], found[SENT], found[RECEIVED]) == (3, 4, 90, 30)
    assert figures_of(host_statistics.finished, B)[CONNECTIONS] == 1
    assert (host_statistics.finished.known, host_statistics.finished.others) == (2, 0)


def test_unconfirmed_and_dying_connections_are_not_counted(router: Router, host_statistics: HostStatistics) -> None:
    core = router.engine.core
    core.table.allocate(NfConn(A + B + bytes(4) + b"\x11", B + A + bytes(4) + b"\x11", core.protos[17], 0))
    core.kill(router.udp(1000), END_DELETED, router.now)
    walk(host_statistics)
    assert host_statistics.finished.known == 1  # it ended, so it is known, but it holds nothing
    assert figures_of(host_statistics.finished, A)[CONNECTIONS] == 0


def test_the_first_walk_has_nothing_to_compare_with(router: Router, host_statistics: HostStatistics) -> None:
    router.udp()
    walk(host_statistics)
    assert not host_statistics.compared
    assert moved(host_statistics, A) == [UNKNOWN] * 4


def test_what_moved_since_the_walk_before_is_exact(router: Router, host_statistics: HostStatistics) -> None:
    router.udp(1000)
    walk(host_statistics)
    router.udp(1000)
    router.udp_answered(1001)
    router.engine.core.kill(router.udp(1002), END_DELETED, router.now)
    walk(host_statistics)
    assert moved(host_statistics, A) == [2, 4, 90, 30]
    walk(host_statistics)
    assert moved(host_statistics, A) == [0, 0, 0, 0]


@pytest.mark.parametrize("before", [1, 2, 3, 4])
def test_a_connection_that_ends_during_a_walk_counts_once(
    router: Router, host_statistics: HostStatistics, before: int
) -> None:
    """before: how many of four slots the walk has passed when the connection in the second one ends."""
    all_of_them = [router.udp(1000 + port) for port in range(4)]
    walk(host_statistics)
    router.udp(1001)
    host_statistics.begin()
    host_statistics.step(before)
    router.engine.core.kill(all_of_them[1], END_DELETED, router.now)
    while host_statistics.step(1):
        pass
    assert moved(host_statistics, A) == [0, 1, 30, 0]
    walk(host_statistics)
    assert moved(host_statistics, A) == [0, 0, 0, 0]
    assert figures_of(host_statistics.finished, A)[CONNECTIONS] == 3


def test_hosts_by_each_order_and_family(router: Router, host_statistics: HostStatistics) -> None:
    walk(host_statistics)
    for port in range(3):
        router.udp(1000 + port)
    router.udp(2000, src="10.0.0.9")
    for _ in range(9):
        router.udp(2000, src="10.0.0.9")
    router.forward(packets6())
    walk(host_statistics)
    router.udp(3000, src="10.0.0.7")
    walk(host_statistics)
    host7, host9 = bytes([10, 0, 0, 7]), bytes([10, 0, 0, 9])
    assert host_statistics.best(BY_CONNECTIONS, True, False) == [A, host7, host9]
    assert host_statistics.best(BY_BYTES, True, False)[0] == host7
    assert host_statistics.best(BY_NEW, True, False)[0] == host7
    assert [len(address) for address in host_statistics.best(BY_CONNECTIONS, False, True)] == [16]
    assert len(host_statistics.best(BY_CONNECTIONS, True, True)) == 4


def packets6() -> bytes:
    return packets.udp("fd00::1", "fd00::2", 1, 2, b"six")


def test_only_the_first_of_many_hosts_are_ranked(router: Router, host_statistics: HostStatistics) -> None:
    for number in range(module.RANKED + 20):
        for port in range(1 + number % 3):
            router.udp(1000 + port, src=f"10.1.0.{number}")
    walk(host_statistics)
    best = host_statistics.best(BY_CONNECTIONS, True, True)
    counts = [figures_of(host_statistics.finished, address)[CONNECTIONS] for address in best]
    assert len(best) == module.RANKED
    assert counts == sorted(counts, reverse=True)
    assert counts[:40] == [3] * 40


def test_there_are_no_more_hosts_than_the_limit(router: Router) -> None:
    host_statistics = HostStatistics(router.engine.core, limit=16)
    for number in range(200):
        router.udp(src=f"10.1.0.{number}")
    walk(host_statistics)
    assert host_statistics.finished.known <= 16
    assert host_statistics.finished.others == 200 - host_statistics.finished.known


def test_who_fills_the_table_is_found_behind_a_flood_of_others() -> None:
    hosts = Hosts(64)
    for number in range(500):
        hosts.place(number.to_bytes(4, "big"))
    assert len(hosts.addresses) < 64
    for _ in range(module.ADMITTED_AT):
        place = hosts.place(A)
    assert place != OTHERS
    for number in range(1_000_000, 1_000_000 + module.CELLS * module.ADMITTED_AT):
        hosts.place(number.to_bytes(4, "big"))
    assert len(hosts.addresses) == 64
    assert hosts.find(A) == place


def test_what_a_host_without_a_place_before_moved_is_not_guessed(router: Router) -> None:
    host_statistics = HostStatistics(router.engine.core, limit=0)
    router.udp()
    walk(host_statistics)
    host_statistics.current = type(host_statistics.current)(80)
    walk(host_statistics)
    assert moved(host_statistics, A) == [UNKNOWN] * 4


def translated(router: Router, sport: int, outer: bytes) -> None:
    """A connection as source NAT leaves it."""
    protos = router.engine.core.protos
    l4 = sport.to_bytes(2, "big")
    ct = NfConn(A + B + l4 + b"\0\x50\6", B + outer + b"\0\x50" + l4 + b"\6", protos[IPPROTO_TCP], router.now)
    ct.status |= IPS_SRC_NAT
    router.engine.core.table.allocate(ct)
    assert router.engine.core.table.insert(ct)


def test_pools_know_their_connections_and_ports(router: Router, host_statistics: HostStatistics) -> None:
    outer = bytes([203, 0, 113, 1])
    for port in (1024, 1025, 65535):
        translated(router, port, outer)
    router.udp()
    walk(host_statistics)
    ((key, pool),) = host_statistics.pools.items()
    assert (key, pool.connections) == (outer + b"\6", 3)
    assert [port for port in range(65536) if pool.ports[port >> 3] >> (port & 7) & 1] == [1024, 1025, 65535]


def test_a_pool_of_a_protocol_without_ports_counts_only_connections(
    router: Router, host_statistics: HostStatistics
) -> None:
    ct = router.other(47)
    ct.reply = tuples.with_dst(ct.reply, A, bytes(4))
    ct.status |= IPS_SRC_NAT
    walk(host_statistics)
    ((key, pool),) = host_statistics.pools.items()
    assert (key, pool.connections, len(pool.ports)) == (A + bytes([47]), 1, 0)


def test_there_are_no_more_pools_than_the_limit(router: Router) -> None:
    host_statistics = HostStatistics(router.engine.core, pool_limit=2)
    for number in range(5):
        translated(router, 1024 + number, bytes([203, 0, 113, number]))
    walk(host_statistics)
    assert (len(host_statistics.pools), host_statistics.unpooled) == (2, 3)
    walk(host_statistics)
    assert (len(host_statistics.pools), host_statistics.unpooled) == (2, 3)


def test_everything_is_given_back_a_piece_at_a_time(router: Router, host_statistics: HostStatistics) -> None:
    for number in range(200):
        router.udp(src=f"10.1.0.{number}")
    walk(host_statistics)
    steps = 0
    while host_statistics.free(10):
        steps += 1
    assert steps >= 20
    assert host_statistics.finished.known == 0
    assert host_statistics.finished.parts
    assert all(len(part.figures) == module.FIELDS for part in host_statistics.finished.parts)


def test_a_walk_keeps_nothing_of_the_previous_one(router: Router, host_statistics: HostStatistics) -> None:
    """Each walk ranks every shard, then forgets it."""
    for number in range(100):
        router.udp(src=f"10.1.0.{number}")
    for _ in range(3):
        walk(host_statistics)
        assert host_statistics.finished.known == 100
        assert not any(part.addresses for part in host_statistics.previous.parts)
        assert (host_statistics.phase, host_statistics.shard) == (module.IDLE, 0)
        assert len(host_statistics.best(BY_CONNECTIONS, True, True)) == 100


def test_the_limits_of_hosts_at_their_edge() -> None:
    """Three quarters of the places are for all hosts; the others for hosts with 64 connections."""
    hosts = Hosts(8)
    places = [hosts.place(bytes([10, 0, 0, number])) for number in range(7)]
    assert [place != OTHERS for place in places] == [True] * 6 + [False]
    late = bytes([10, 0, 0, 6])
    assert [hosts.place(late) != OTHERS for _ in range(63)] == [False] * 62 + [True]
    assert len(hosts.addresses) == 7
