"""What happens to a new connection when its first packet leaves, also when its tuple is taken."""

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.confirm import confirm
from conntrackd_py.conntrack.lookup import conntrack_in
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import (
    IP_CT_ESTABLISHED_REPLY,
    IP_CT_UNTRACKED,
    NF_ACCEPT,
    NF_DROP,
)
from conntrackd_py.reasons import (
    CONNECTION_LOST,
    END_DELETED,
    END_INSERT_FAILED,
    END_JOINED,
    INSERT_FAILED,
)
from tests.support import packets
from tests.support.core import HERE, NOW, THERE, arrive, confirmed, core_with, query


def test_a_connection_enters_the_hash_when_its_packet_leaves() -> None:
    core = core_with()
    ct = query(core, 1)
    assert core.table.find(ct.original) is None
    assert (core.stats.insert, len(core.table)) == (0, 1)
    confirmed(core, 1)
    assert core.table.find(ct.original) is ct
    assert core.stats.insert == 1


def test_the_timeout_starts_when_the_packet_leaves() -> None:
    core = core_with()
    skb, _ = arrive(core, packets.udp(HERE, THERE, 1, 53))
    confirm(core, skb, NOW + 5_000)
    assert skb.ct is not None
    assert skb.ct.timeout == NOW + 5_000 + 30_000


def test_both_ends_send_first() -> None:
    """Two connections are unconfirmed; the packet that leaves second is a reply of the first."""
    core = core_with()
    skb, _ = arrive(core, packets.udp(HERE, THERE, 1, 2))
    mirrored, _ = arrive(core, packets.udp(THERE, HERE, 2, 1))
    lost = mirrored.ct
    assert confirm(core, skb, NOW) == NF_ACCEPT
    assert confirm(core, mirrored, NOW) == NF_ACCEPT
    assert mirrored.ct is skb.ct
    assert mirrored.ctinfo == IP_CT_ESTABLISHED_REPLY
    assert lost is not None
    assert lost.end_reason == END_JOINED
    assert (core.stats.insert, core.stats.insert_failed, core.stats.drop) == (1, 0, 0)


def test_later_packets_of_a_connection_that_joined_another_join_it_too() -> None:
    core = core_with()
    skb, _ = arrive(core, packets.udp(HERE, THERE, 1, 2))
    mirrored = [arrive(core, packets.udp(THERE, HERE, 2, 1))[0] for _ in range(3)]
    assert confirm(core, skb, NOW) == NF_ACCEPT
    assert [confirm(core, each, NOW) for each in mirrored] == [NF_ACCEPT] * 3
    assert {id(each.ct) for each in mirrored} == {id(skb.ct)}


def test_a_tuple_taken_between_the_two_visits() -> None:
    """Another connection has the tuple, with another translation: the packet cannot belong to it."""
    core = core_with()
    skb, _ = arrive(core, packets.udp(HERE, THERE, 1, 2))
    mirrored, _ = arrive(core, packets.udp(THERE, HERE, 2, 1))
    lost = mirrored.ct
    assert skb.ct is not None
    assert lost is not None
    core.table.alter_reply(skb.ct, tuples.with_dst(skb.ct.reply, packets.address("203.0.113.1"), b"\0\2\0\1"))
    assert confirm(core, skb, NOW) == NF_ACCEPT
    assert confirm(core, mirrored, NOW) == NF_DROP
    assert mirrored.reason == INSERT_FAILED
    assert lost.end_reason == END_INSERT_FAILED
    assert (core.stats.insert, core.stats.insert_failed, core.stats.drop) == (1, 1, 1)


def test_the_packet_of_a_new_connection_that_was_killed_is_dropped() -> None:
    core = core_with()
    skb, _ = arrive(core, packets.udp(HERE, THERE, 1, 53))
    assert skb.ct is not None
    core.kill(skb.ct, END_DELETED, NOW)
    assert confirm(core, skb, NOW) == NF_DROP
    assert skb.reason == CONNECTION_LOST


def test_a_packet_without_connection_is_accepted() -> None:
    core = core_with()
    skb = Skb(packets.udp(HERE, THERE, 1, 53))
    assert confirm(core, skb, NOW) == NF_ACCEPT
    skb.ctinfo = IP_CT_UNTRACKED
    assert conntrack_in(core, skb, NOW) == NF_ACCEPT
    assert (skb.ct, skb.ctinfo) == (None, IP_CT_UNTRACKED)
