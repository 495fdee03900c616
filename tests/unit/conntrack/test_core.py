"""What conversations cannot see of the core: the counts, the limit, the two lists beside the table, the budget."""

import pytest

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.core import DYING_GRACE, UNCONFIRMED_LIFETIME, UNCONFIRMED_LIMIT, Conntrack
from conntrackd_py.conntrack.gc import NEVER
from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import (
    IP_CT_ESTABLISHED,
    IP_CT_ESTABLISHED_REPLY,
    IP_CT_INVALID,
    IP_CT_NEW,
    IP_CT_UNTRACKED,
    IPS_CONFIRMED,
    IPS_DYING,
    IPS_SEEN_REPLY,
    LOCAL_OUT,
    NF_ACCEPT,
    NF_DROP,
    PRE_ROUTING,
)
from conntrackd_py.engine.engine import standard_protos
from conntrackd_py.reasons import (
    CONNECTION_LOST,
    END_DELETED,
    END_INSERT_FAILED,
    END_JOINED,
    END_TIMEOUT,
    INSERT_FAILED,
    L4_CHECKSUM,
    L4_TRUNCATED,
)
from conntrackd_py.wire import ip
from tests.support import packets
from tests.support.router import CLIENT, SERVER, Router

HERE, THERE = "192.0.2.1", "192.0.2.2"
NOW = 1_000_000
PLENTY = 1 << 20


def core_with(**tunables: object) -> Conntrack:
    made = Tunables(**tunables)  # type: ignore[arg-type]
    return Conntrack(standard_protos(made), made, Repeatable(5))


def arrive(core: Conntrack, data: bytes, now: int = NOW, hook: int = PRE_ROUTING) -> tuple[Skb, int]:
    skb = Skb(data)
    skb.hook = hook
    assert ip.parse(skb) == 0
    return skb, core.conntrack_in(skb, now)


def query(core: Conntrack, sport: int, now: int = NOW) -> NfConn:
    """A UDP packet that has come in but not yet left."""
    skb, verdict = arrive(core, packets.udp(HERE, THERE, sport, 53), now)
    assert verdict == NF_ACCEPT
    assert skb.ct is not None
    return skb.ct


def confirmed(core: Conntrack, sport: int, now: int = NOW) -> NfConn:
    """A UDP packet that has come in and left."""
    skb, _ = arrive(core, packets.udp(HERE, THERE, sport, 53), now)
    assert core.confirm(skb, now) == NF_ACCEPT
    assert skb.ct is not None
    return skb.ct


# --- first and last hook ----------------------------------------------------------------------------


def test_nothing_is_in_the_table_before_its_packet_has_left() -> None:
    core = core_with()
    ct = query(core, 1)
    assert core.table.find(ct.original) is None
    assert (core.stats.insert, len(core.table)) == (0, 1)
    confirmed(core, 1)
    assert core.table.find(ct.original) is ct
    assert core.stats.insert == 1


def test_first_packets_that_a_filter_drops_do_not_fill_the_table() -> None:
    """A flood that never comes out of the kernel's filter: those under way longest give way, and others get in."""
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


def test_its_time_starts_when_the_packet_leaves() -> None:
    core = core_with()
    skb, _ = arrive(core, packets.udp(HERE, THERE, 1, 53))
    core.confirm(skb, NOW + 5_000)
    assert skb.ct is not None
    assert skb.ct.timeout == NOW + 5_000 + 30_000


def test_two_packets_under_way_are_one_connection() -> None:
    """Where the kernel makes two and merges them at confirm."""
    core = core_with()
    assert query(core, 1) is query(core, 1)
    assert core.stats.clash_resolve == 1


def test_both_ends_send_first() -> None:
    """Two connections are under way; the packet that leaves second joins the first as its reply."""
    core = core_with()
    skb, _ = arrive(core, packets.udp(HERE, THERE, 1, 2))
    mirrored, _ = arrive(core, packets.udp(THERE, HERE, 2, 1))
    lost = mirrored.ct
    assert core.confirm(skb, NOW) == NF_ACCEPT
    assert core.confirm(mirrored, NOW) == NF_ACCEPT
    assert mirrored.ct is skb.ct
    assert mirrored.ctinfo == IP_CT_ESTABLISHED_REPLY
    assert lost is not None
    assert lost.end_reason == END_JOINED
    assert (core.stats.insert, core.stats.insert_failed, core.stats.drop) == (1, 0, 0)


def test_later_packets_of_a_connection_that_joined_another_join_it_too() -> None:
    core = core_with()
    skb, _ = arrive(core, packets.udp(HERE, THERE, 1, 2))
    mirrored = [arrive(core, packets.udp(THERE, HERE, 2, 1))[0] for _ in range(3)]
    assert core.confirm(skb, NOW) == NF_ACCEPT
    assert [core.confirm(each, NOW) for each in mirrored] == [NF_ACCEPT] * 3
    assert {id(each.ct) for each in mirrored} == {id(skb.ct)}


def test_a_tuple_taken_while_the_packet_was_under_way() -> None:
    """Another connection has the tuple, with another translation: the packet cannot belong to it."""
    core = core_with()
    skb, _ = arrive(core, packets.udp(HERE, THERE, 1, 2))
    mirrored, _ = arrive(core, packets.udp(THERE, HERE, 2, 1))
    lost = mirrored.ct
    assert skb.ct is not None
    assert lost is not None
    core.table.alter_reply(skb.ct, tuples.with_dst(skb.ct.reply, packets.address("203.0.113.1"), b"\0\2\0\1"))
    assert core.confirm(skb, NOW) == NF_ACCEPT
    assert core.confirm(mirrored, NOW) == NF_DROP
    assert mirrored.reason == INSERT_FAILED
    assert lost.end_reason == END_INSERT_FAILED
    assert (core.stats.insert, core.stats.insert_failed, core.stats.drop) == (1, 1, 1)


def test_a_new_connection_that_died_under_way_takes_its_packet_along() -> None:
    core = core_with()
    skb, _ = arrive(core, packets.udp(HERE, THERE, 1, 53))
    assert skb.ct is not None
    core.kill(skb.ct, END_DELETED, NOW)
    assert core.confirm(skb, NOW) == NF_DROP
    assert skb.reason == CONNECTION_LOST


def test_what_has_no_connection_needs_no_confirming() -> None:
    core = core_with()
    skb = Skb(packets.udp(HERE, THERE, 1, 53))
    assert core.confirm(skb, NOW) == NF_ACCEPT
    skb.ctinfo = IP_CT_UNTRACKED
    assert core.conntrack_in(skb, NOW) == NF_ACCEPT
    assert (skb.ct, skb.ctinfo) == (None, IP_CT_UNTRACKED)


@pytest.mark.parametrize(("checksum", "hook"), [(False, PRE_ROUTING), (True, LOCAL_OUT)])
def test_checksums_are_looked_at_where_packets_come_in_and_only_if_asked(checksum: bool, hook: int) -> None:
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
    assert (len(core.table), core.table.dying, core.table.pending) == (0, {}, {})


def test_accounting_by_direction() -> None:
    core = core_with(nf_conntrack_acct=True)
    ct = confirmed(core, 1)
    skb, _ = arrive(core, packets.udp(THERE, HERE, 53, 1, b"response"))
    assert skb.ctinfo == IP_CT_ESTABLISHED_REPLY
    assert (ct.packets_original, ct.bytes_original, ct.packets_reply, ct.bytes_reply) == (1, 28, 1, 36)
    assert arrive(core, packets.udp(HERE, THERE, 1, 53))[0].ctinfo == IP_CT_ESTABLISHED
    assert ct.packets_original == 2


# --- the limit ----------------------------------------------------------------------------------------


def test_no_limit() -> None:
    core = core_with(nf_conntrack_max=0)
    for sport in range(1, 100):
        confirmed(core, sport)
    assert len(core.table) == 99


# --- the end --------------------------------------------------------------------------------------------


def test_a_dead_connection_is_kept_for_packets_under_way() -> None:
    core = core_with()
    ct = confirmed(core, 1)
    assert core.kill(ct, END_DELETED, NOW)
    assert not core.kill(ct, END_DELETED, NOW), "only once"
    assert core.table.find(ct.original) is None
    assert core.next_expiry() == NOW + DYING_GRACE
    core.expire(NOW + DYING_GRACE - 1, PLENTY)
    assert core.table.at(ct.slot) is ct
    core.expire(NOW + DYING_GRACE, PLENTY)
    assert core.table.at(ct.slot) is None


def test_a_packet_that_never_left_is_given_up() -> None:
    """Some rule dropped it between the two visits."""
    core = core_with()
    ct = query(core, 1)
    assert core.next_expiry() == NOW + UNCONFIRMED_LIFETIME
    assert core.expire(NOW + UNCONFIRMED_LIFETIME - 1, PLENTY) == 0
    assert core.expire(NOW + UNCONFIRMED_LIFETIME, PLENTY) == 1
    assert ct.status & IPS_DYING
    assert not ct.status & IPS_CONFIRMED
    assert core.stats.unconfirmed_lost == 1
    assert core.stats.ended == [0] * len(core.stats.ended), "it never was in the table"


def test_an_expired_connection_is_not_found_even_before_the_sweep() -> None:
    core = core_with()
    old = confirmed(core, 1)
    assert core.lookup(old.original, NOW + 29_999) is old
    new = confirmed(core, 1, NOW + 30_000)
    assert new is not old
    assert (old.end_reason, core.stats.ended[END_TIMEOUT]) == (END_TIMEOUT, 1)


def test_expiry_keeps_its_budget() -> None:
    core = core_with()
    for sport in range(1, 31):
        confirmed(core, sport)
    assert [core.expire(NOW + 40_000, 10) for _ in range(4)] == [10, 10, 10, 0]


def test_nothing_to_wait_for() -> None:
    assert core_with().next_expiry() == NEVER


def test_counts_by_state_follow_the_tracker() -> None:
    core = core_with()
    tcp = core.protos[6]
    for data in (
        packets.tcp(HERE, THERE, 1, 2, "S", seq=1),
        packets.tcp(THERE, HERE, 2, 1, "SA", seq=9, ack=2),
        packets.tcp(HERE, THERE, 1, 2, "A", seq=2, ack=10),
    ):
        skb, _ = arrive(core, data)
        core.confirm(skb, NOW)
    assert tcp.entries == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]
    assert skb.ct is not None
    core.kill(skb.ct, END_DELETED, NOW)
    assert not any(tcp.entries)


def test_a_refused_call_ends_before_its_answer_counts_as_one() -> None:
    """The RST that ends it is counted, and yet the connection is told as unreplied: nf_ct_kill_acct comes first."""
    router = Router(tunables=Tunables(nf_conntrack_acct=True))
    router.engine.core.events.enabled = True
    ct = router.syn()
    router.forward(packets.tcp(SERVER, CLIENT, 80, 40000, "RA", seq=0, ack=2))
    new, destroy = router.engine.drain_events()
    assert (new.kind, destroy.kind) == ("NEW", "DESTROY")
    assert not destroy.status & IPS_SEEN_REPLY
    assert destroy.packets_reply == 1
    assert ct.status & IPS_SEEN_REPLY
