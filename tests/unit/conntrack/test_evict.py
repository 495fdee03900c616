"""A full table: what is evicted, what stays, how far the search goes; and expiry within its budget."""

from conntrackd_py.conntrack.evict import EVICTION_RANGE, UNCONFIRMED_LIFETIME, early_drop, expire, next_expiry, relieve
from conntrackd_py.conntrack.gc import NEVER
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import (
    IPS_CONFIRMED,
    IPS_DYING,
    NF_ACCEPT,
    NF_DROP,
    PRE_ROUTING,
)
from conntrackd_py.reasons import (
    END_EARLY_DROP,
    TABLE_FULL,
)
from tests.support import packets
from tests.support.core import NOW, PLENTY, confirmed, core_with, query
from tests.support.router import CLIENT, SERVER, Router


def limited(limit: int) -> Router:
    return Router(tunables=Tunables(nf_conntrack_max=limit))


def arrive(router: Router, sport: int) -> tuple[Skb, int]:
    """The first visit of a UDP packet."""
    skb = Skb(packets.udp(CLIENT, SERVER, sport, 53, b"hi"), indev=1)
    return skb, router.engine.handle(skb, PRE_ROUTING, router.now)


def assure(router: Router, ports: range) -> None:
    for port in ports:
        router.established(port)


def test_a_full_table_makes_room_among_the_unassured() -> None:
    router = limited(10)
    for sport in range(1, 12):
        router.udp(sport)
    stats = router.engine.core.stats
    assert len(router.engine.core.table) <= 10
    assert stats.early_drop == stats.ended[END_EARLY_DROP] >= 1
    assert stats.table_full == 0


def test_the_assured_survive() -> None:
    router = limited(10)
    assure(router, range(1, 11))
    skb, verdict = arrive(router, 99)
    stats = router.engine.core.stats
    assert (verdict, skb.ct, skb.reason) == (NF_DROP, None, TABLE_FULL)
    assert (stats.table_full, stats.drop, stats.reasons[TABLE_FULL]) == (1, 1, 1)
    assert not early_drop(router.engine.core, router.now)
    assert len(router.engine.core.table) == 10
    known = Skb(packets.tcp(CLIENT, SERVER, 5, 80, "A", seq=2, ack=2), indev=1)
    assert router.engine.handle(known, PRE_ROUTING, router.now) == NF_ACCEPT


def test_unconfirmed_connections_are_not_evicted() -> None:
    """Up to half the table they count towards the limit but are not evicted."""
    router = limited(10)
    assure(router, range(1, 6))
    for sport in range(6, 11):
        arrive(router, sport)
    assert arrive(router, 99)[1] == NF_DROP
    assert len(router.engine.core.table.unconfirmed) == 5


def test_eviction_tries_a_bounded_number() -> None:
    router = limited(1000)
    for sport in range(1, 1002):
        router.udp(sport)
    assert 1 <= router.engine.core.stats.early_drop <= EVICTION_RANGE


def test_relieve_evicts_unassured_connections_down_to_95_percent() -> None:
    """Above 95 % of the limit, within the budget."""
    router = limited(100)
    assure(router, range(1, 91))
    for sport in range(1, 10):
        router.udp(sport)
    core = router.engine.core
    assert relieve(core, router.now, 10) <= 10
    while relieve(core, router.now, 100):
        continue
    assert core.table.confirmed == 95
    assert core.stats.early_drop == 4


def test_a_connection_whose_packet_never_left_ends() -> None:
    """A rule dropped it between the two visits."""
    core = core_with()
    ct = query(core, 1)
    assert next_expiry(core) == NOW + UNCONFIRMED_LIFETIME
    assert expire(core, NOW + UNCONFIRMED_LIFETIME - 1, PLENTY) == 0
    assert expire(core, NOW + UNCONFIRMED_LIFETIME, PLENTY) == 1
    assert ct.status & IPS_DYING
    assert not ct.status & IPS_CONFIRMED
    assert core.stats.unconfirmed_lost == 1
    assert core.stats.ended == [0] * len(core.stats.ended), "it never was in the table"


def test_expiry_keeps_its_budget() -> None:
    core = core_with()
    for sport in range(1, 31):
        confirmed(core, sport)
    assert [expire(core, NOW + 40_000, 10) for _ in range(4)] == [10, 10, 10, 0]


def test_an_empty_table_has_no_next_expiry() -> None:
    assert next_expiry(core_with()) == NEVER


def test_relieve_returns_how_many_it_evicted() -> None:
    """It continues at the slot where the last call stopped. The budget counts slots."""
    router = limited(100)
    for sport in range(1, 101):
        router.udp(sport)
    core = router.engine.core
    assert [relieve(core, router.now, budget) for budget in (0, 2, 1, 100, 100)] == [0, 2, 1, 2, 0]
    assert core.stats.early_drop == 5
    assert core.table.confirmed == 95


def test_relieve_evicts_nothing_without_a_limit() -> None:
    router = limited(0)
    for sport in range(1, 11):
        router.udp(sport)
    assert relieve(router.engine.core, router.now, 100) == 0
    assert router.engine.core.table.confirmed == 10


def test_relieve_keeps_unconfirmed_connections() -> None:
    router = limited(0)
    for sport in range(1, 6):
        router.udp(sport)
    skb, _ = arrive(router, 99)
    for sport in range(6, 11):
        router.udp(sport)
    core = router.engine.core
    core.limit = 1
    assert relieve(core, router.now, 100) == 10
    assert list(core.table.unconfirmed.values()) == [skb.ct]
