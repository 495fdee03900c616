"""What conversations cannot see of conntrack_in: counts, the limit of unconfirmed connections, refused packets."""

import pytest

from conntrackd_py.conntrack.confirm import confirm
from conntrackd_py.conntrack.evict import UNCONFIRMED_LIFETIME, expire
from conntrackd_py.conntrack.lookup import UNCONFIRMED_LIMIT, conntrack_in, lookup
from conntrackd_py.const import (
    IP_CT_ESTABLISHED,
    IP_CT_ESTABLISHED_REPLY,
    IP_CT_INVALID,
    IP_CT_NEW,
    IP_CT_UNTRACKED,
    IPS_CONFIRMED,
    IPS_DYING,
    LOCAL_OUT,
    NF_ACCEPT,
    PRE_ROUTING,
)
from conntrackd_py.reasons import (
    END_TIMEOUT,
    L4_CHECKSUM,
    L4_TRUNCATED,
)
from tests.support import packets
from tests.support.core import HERE, NOW, PLENTY, THERE, arrive, confirmed, core_with, query


def test_first_packets_that_a_filter_drops_do_not_fill_the_table() -> None:
    """A flood that the kernel's filter drops: the oldest unconfirmed connections are evicted for new ones."""
    core = core_with(nf_conntrack_max=100)
    for sport in range(1000):
        query(core, sport)
    assert len(core.table.unconfirmed) == 51
    assert core.stats.unconfirmed_lost == 1000 - 51
    assert core.stats.table_full == 0
    assert confirmed(core, 60_000).status & IPS_CONFIRMED
    core = core_with()
    for number in range(UNCONFIRMED_LIMIT + 10):
        arrive(core, packets.udp("10.1.0.1", THERE, number % 60_000 + 1, 53 + number // 60_000), hook=LOCAL_OUT)
    assert len(core.table.unconfirmed) == UNCONFIRMED_LIMIT


def test_two_first_packets_are_one_connection() -> None:
    """The kernel makes two and merges them at confirm."""
    core = core_with()
    assert query(core, 1) is query(core, 1)
    assert core.stats.clash_resolve == 1


@pytest.mark.parametrize(("checksum", "hook"), [(False, PRE_ROUTING), (True, LOCAL_OUT)])
def test_checksums_are_verified_at_prerouting_if_the_sysctl_is_on(checksum: bool, hook: int) -> None:
    bad = packets.broken(packets.udp(HERE, THERE, 1, 53, b"data"))
    skb, _ = arrive(core_with(), bad)
    assert (skb.ctinfo, skb.reason) == (IP_CT_INVALID, L4_CHECKSUM)
    skb, _ = arrive(core_with(nf_conntrack_checksum=checksum), bad, hook=hook)
    assert skb.ctinfo == IP_CT_NEW


def test_a_refused_packet_is_counted_and_leaves_nothing() -> None:
    core = core_with()
    skb, verdict = arrive(core, packets.ip(HERE, THERE, 17, b"\0\1"))
    assert (verdict, skb.ctinfo, skb.reason) == (NF_ACCEPT, IP_CT_INVALID, L4_TRUNCATED)
    arrive(core, packets.tcp(HERE, THERE, 1, 2, "SA"))  # makes a connection, then refuses it
    assert core.stats.invalid == 2
    assert core.stats.reasons[L4_TRUNCATED] == 1
    assert (len(core.table), len(core.table.dying), len(core.table.pending)) == (0, 0, 0)


def test_accounting_by_direction() -> None:
    core = core_with(nf_conntrack_acct=True)
    ct = confirmed(core, 1)
    skb, _ = arrive(core, packets.udp(THERE, HERE, 53, 1, b"response"))
    assert skb.ctinfo == IP_CT_ESTABLISHED_REPLY
    assert (ct.packets_original, ct.bytes_original, ct.packets_reply, ct.bytes_reply) == (1, 28, 1, 36)
    assert arrive(core, packets.udp(HERE, THERE, 1, 53))[0].ctinfo == IP_CT_ESTABLISHED
    assert ct.packets_original == 2


def test_no_limit() -> None:
    core = core_with(nf_conntrack_max=0)
    for sport in range(1, 100):
        confirmed(core, sport)
    assert len(core.table) == 99


def test_an_expired_connection_is_not_found_even_before_the_sweep() -> None:
    core = core_with()
    old = confirmed(core, 1)
    assert lookup(core, old.original, NOW + 29_999) is old
    new = confirmed(core, 1, NOW + 30_000)
    assert new is not old
    assert (old.end_reason, core.stats.ended[END_TIMEOUT]) == (END_TIMEOUT, 1)


@pytest.mark.parametrize("limit", [0, 4])
def test_the_oldest_unconfirmed_connection_is_evicted_as_timed_out(limit: int) -> None:
    """At half the table or at UNCONFIRMED_LIMIT. A filter probably dropped its packet."""
    core = core_with(nf_conntrack_max=limit)
    most = 3 if limit else UNCONFIRMED_LIMIT
    first, second = query(core, 1), query(core, 2)
    for number in range(most - 2):
        query(core, 3 + number)
    assert not first.status & IPS_DYING
    query(core, 2, NOW + 5)
    assert not first.status & IPS_DYING, "a packet of a known connection evicts nothing"
    query(core, 65000, NOW + 7)
    assert first.status & IPS_DYING
    assert (first.end_reason, first.ended) == (END_TIMEOUT, NOW + 7)
    assert not second.status & IPS_DYING
    assert core.stats.unconfirmed_lost == 1
    assert expire(core, NOW + UNCONFIRMED_LIFETIME, PLENTY) == most - 1
    assert (second.end_reason, second.ended) == (END_TIMEOUT, NOW + UNCONFIRMED_LIFETIME)


def test_neighbour_discovery_is_accepted_untracked() -> None:
    core = core_with()
    skb, verdict = arrive(core, packets.icmp("fd00::1", "fd00::2", 135))
    assert (verdict, skb.ct, skb.ctinfo) == (NF_ACCEPT, None, IP_CT_UNTRACKED)
    assert conntrack_in(core, skb, NOW) == NF_ACCEPT
    assert confirm(core, skb, NOW) == NF_ACCEPT
    assert len(core.table) == 0
