"""The packet mark: its layout, when it is believed, and what is remembered where it cannot hold enough."""

import pytest

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.evict import DYING_GRACE
from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import (
    IP_CT_ESTABLISHED,
    IP_CT_INVALID,
    IP_CT_NEW,
    IP_CT_RELATED,
    IP_CT_UNTRACKED,
    IPS_ASSURED,
    LOCAL_IN,
    LOCAL_OUT,
    NF_ACCEPT,
    NF_DROP,
    POST_ROUTING,
    PRE_ROUTING,
)
from conntrackd_py.engine.engine import DEFAULT_MASK, Engine
from conntrackd_py.engine.mark_codec import CONNECTION_GONE, MARK_VALID, NOT_SEEN, RESUMED, SLOT_AT, MarkCodec
from conntrackd_py.match.match import Match
from conntrackd_py.match.numbers import Numbers
from conntrackd_py.nat.range import Range
from conntrackd_py.nat.rules import NAT_DNAT, NatRule
from conntrackd_py.reasons import OK
from conntrackd_py.wire import ip
from tests.support import packets
from tests.support.play import CLIENT, LAN, NEIGHBOUR, ROUTER, SERVER, WAN

WIDE, NARROW, NONE = DEFAULT_MASK, 0xFF, 0


def router(mask: int = WIDE, tunables: Tunables | None = None) -> Engine:
    engine = Engine(tunables or Tunables(), Repeatable(1), mark_mask=mask)
    for link in (LAN, WAN):
        engine.set_interface(link, f"link{link}", [], 0)
    return engine


def query(sport: int = 1000, *, client: str = CLIENT.v4) -> bytes:
    return packets.udp(client, SERVER.v4, sport, 53)


def come_in(engine: Engine, data: bytes, mark: int = 0) -> Skb:
    skb = Skb(data, mark, LAN, 0)
    assert engine.handle(skb, PRE_ROUTING, 0) == NF_ACCEPT
    return skb


def go_out(engine: Engine, data: bytes, mark: int) -> tuple[Skb, int]:
    skb = Skb(data, mark, LAN, WAN)
    return skb, engine.handle(skb, POST_ROUTING, 0)


def resume(engine: Engine, data: bytes, mark: int) -> tuple[int, Skb]:
    skb = Skb(data, mark, LAN, WAN)
    assert ip.parse(skb) == OK
    return engine.mark_codec.resume(skb), skb


# --- the layout -------------------------------------------------------------------------------------------


def test_the_layout_an_administrator_can_match() -> None:
    """`-m mark --mark 0xa00/0xf00` is a NEW packet, 0xd00/0xf00 an INVALID one."""
    engine = router()
    assert come_in(engine, query()).mark == 0x00002A00  # slot 0
    assert come_in(engine, query(1001)).mark == 0x00004A00  # slot 1
    assert come_in(engine, packets.tcp(CLIENT.v4, SERVER.v4, 1, 2, "R")).mark == 0x00000D00
    assert come_in(engine, packets.icmp(CLIENT.v6, SERVER.v6, 135)).mark == 0x00000F00


@pytest.mark.parametrize("mask", [0xFFFFFF00, 0x00FFFF00, 0xFF, 0xFF000000, 0xFFFFFFFF])
def test_bits_outside_the_mask_stay(mask: int) -> None:
    engine = router(mask)
    for sport in range(1000, 1040):
        for theirs in (0, 0xFFFFFFFF, 0x12345678):
            skb = come_in(engine, query(sport), theirs)
            assert skb.mark & ~mask & 0xFFFFFFFF == theirs & ~mask
            assert 0 <= skb.mark <= 0xFFFFFFFF
            assert go_out(engine, skb.data, skb.mark)[1] == NF_ACCEPT


def test_without_a_mask_the_mark_is_left_alone() -> None:
    assert come_in(router(NONE), query(), 0x12345678).mark == 0x12345678


@pytest.mark.parametrize(("mask", "fitting"), [(0xFF, 7), (0xFFF, 127), (0xF0, 0), (0xFFFFFF00, (1 << 19) - 1)])
def test_how_many_slots_fit(mask: int, fitting: int) -> None:
    """All values of the slot field but 0, which says that there is none."""
    assert MarkCodec(router().core, mask).slots - 1 == fitting


DONE = 0x1000


def test_an_accepted_packet_has_the_done_bit_after_its_last_visit_only() -> None:
    engine = router()
    first = come_in(engine, query())
    last, verdict = go_out(engine, first.data, first.mark)
    assert (verdict, first.mark & DONE, last.mark) == (NF_ACCEPT, 0, first.mark | DONE)
    inward = Skb(first.data, first.mark, LAN, 0)
    assert engine.handle(inward, LOCAL_IN, 0) == NF_ACCEPT
    assert inward.mark == first.mark | DONE


@pytest.mark.parametrize(("mask", "done"), [(0xFF, 0x10), (0xFF000000, 0x10000000), (NONE, 0)])
def test_where_the_done_bit_stands(mask: int, done: int) -> None:
    assert go_out(router(mask), query(), 0)[0].mark == done


def test_a_dropped_packet_does_not_get_it() -> None:
    engine = router()
    mark = (0x7FFFF << SLOT_AT | MARK_VALID | IP_CT_NEW) << 8
    skb, verdict = go_out(engine, query(), mark)
    assert (verdict, skb.mark) == (NF_DROP, mark)


@pytest.mark.parametrize("ctinfo", [IP_CT_INVALID, IP_CT_UNTRACKED, IP_CT_NEW])
def test_a_mark_of_an_earlier_pass_is_not_believed(ctinfo: int) -> None:
    """A tunnel on this machine keeps the mark of the packet that it wraps."""
    engine = router()
    former = (MARK_VALID | ctinfo) << 8 | DONE
    assert resume(engine, query(), former)[0] == NOT_SEEN
    assert come_in(engine, query(), former).mark == 0x00002A00


# --- belief -----------------------------------------------------------------------------------------------


def test_no_mark_of_ours_means_never_seen() -> None:
    assert resume(router(), query(), 0)[0] == NOT_SEEN
    assert resume(router(), query(), 0xFF)[0] == NOT_SEEN, "bits of others"


@pytest.mark.parametrize("ctinfo", [IP_CT_INVALID, IP_CT_UNTRACKED])
def test_what_belongs_to_nothing_needs_no_proof(ctinfo: int) -> None:
    result, skb = resume(router(), query(), (MARK_VALID | ctinfo) << 8)
    assert (result, skb.ct, skb.ctinfo) == (RESUMED, None, ctinfo)


def test_a_mark_is_never_believed_without_the_tuple() -> None:
    """The slot of one connection on the packet of another finds the other."""
    engine = router()
    mine, other = come_in(engine, query()), come_in(engine, query(1001))
    assert mine.mark != other.mark
    for skb in (mine, other):
        go_out(engine, skb.data, skb.mark)
    result, skb = resume(engine, query(), other.mark)
    assert (result, skb.ct) == (RESUMED, mine.ct)


def test_a_mark_without_a_connection_is_lost() -> None:
    engine = router()
    mark = come_in(engine, query()).mark
    for stranger in (query(7), query(client=NEIGHBOUR.v4), packets.tcp(CLIENT.v4, SERVER.v4, 1000, 53, "S")):
        assert resume(engine, stranger, mark)[0] == CONNECTION_GONE


def test_a_direction_in_the_mark_is_not_believed_either() -> None:
    engine = router()
    skb = come_in(engine, query())
    as_reply = skb.mark & ~0x700 | 3 << 8
    assert resume(engine, query(), as_reply)[0] == CONNECTION_GONE


def test_an_error_claimed_by_the_mark_must_be_readable() -> None:
    engine = router()
    mark = come_in(engine, query()).mark & ~0x700 | IP_CT_RELATED << 8
    assert resume(engine, packets.ip(CLIENT.v4, SERVER.v4, 1, b"\3\0"), mark)[0] == CONNECTION_GONE


def test_a_slot_that_never_was() -> None:
    engine = router()
    mark = (0x7FFFF << SLOT_AT | MARK_VALID | IP_CT_NEW) << 8
    assert resume(engine, query(), mark)[0] == CONNECTION_GONE
    come_in(engine, query())
    assert resume(engine, query(), mark)[0] == RESUMED, "by the tuple"


def test_a_slot_used_again() -> None:
    """The packet of the connection that had it before does not end up in the one that has it now."""
    engine = router()
    old = come_in(engine, query())
    assert old.ct is not None
    engine.delete(old.ct.slot, 0)
    engine.expire(DYING_GRACE, 100)
    new = come_in(engine, query(2000))
    assert new.ct is not None
    assert new.ct.slot == old.ct.slot
    assert resume(engine, old.data, old.mark)[0] == CONNECTION_GONE


@pytest.mark.parametrize("others", [0, 20])
def test_a_dying_connection_still_sees_its_packets_out(others: int) -> None:
    """Also when other connections have the slots that fit into the mark."""
    engine = router(NARROW)
    for sport in range(2000, 2000 + others):
        go_out(engine, query(sport), come_in(engine, query(sport)).mark)
    go_out(engine, query(), come_in(engine, query()).mark)
    under_way = come_in(engine, query())
    assert under_way.ct is not None
    engine.delete(under_way.ct.slot, 0)
    result, skb = resume(engine, query(), under_way.mark)
    assert (result, skb.ct) == (RESUMED, under_way.ct)


# --- beside the mark ----------------------------------------------------------------------------------------


def test_a_mark_that_holds_the_slot_costs_no_memory() -> None:
    engine = router()
    for sport in range(1000, 1100):
        come_in(engine, query(sport))
    assert not engine.mark_codec.by_tuple
    assert not engine.mark_codec.tuples_of
    assert not engine.mark_codec.invalid


def test_a_slot_that_does_not_fit_costs_no_memory_while_the_table_finds_the_connection() -> None:
    engine = router(NARROW)
    came = [come_in(engine, query(sport)) for sport in range(1000, 1020)]
    assert not engine.mark_codec.by_tuple
    for skb in came:
        result, resumed = resume(engine, skb.data, skb.mark)
        assert (result, resumed.ct) == (RESUMED, skb.ct)


def test_only_what_does_not_fit_and_is_not_found_is_remembered() -> None:
    """A first packet with a translated destination has neither tuple of its connection."""
    engine = router(NARROW)
    to = packets.address(SERVER.v4)
    engine.configure(Tunables(), nat_rules=[NatRule(NAT_DNAT, Match(), Range(to, to))])
    came = [come_in(engine, packets.udp(CLIENT.v4, NEIGHBOUR.v4, sport, 53)) for sport in range(1000, 1020)]
    assert len(engine.mark_codec.by_tuple) == 13
    for skb in came:
        assert go_out(engine, skb.data, skb.mark)[1] == NF_ACCEPT
        assert resume(engine, skb.data, skb.mark)[1].ct is skb.ct


@pytest.mark.parametrize("mask", [NARROW, NONE])
def test_what_is_remembered_is_forgotten_with_its_connection(mask: int) -> None:
    engine = router(mask)
    for sport in range(1000, 1020):
        skb = come_in(engine, query(sport))
        go_out(engine, skb.data, skb.mark)
    engine.flush(0)
    assert engine.mark_codec.by_tuple, "packets may still be under way"
    engine.expire(DYING_GRACE, 100)
    assert not engine.mark_codec.by_tuple
    assert not engine.mark_codec.tuples_of


def limited(limit: int) -> Engine:
    engine = router(NONE)
    engine.mark_codec = MarkCodec(engine.core, NONE, limit)
    return engine


def test_the_least_recently_used_goes_first() -> None:
    engine = limited(3)
    for sport in (1, 2, 3, 1, 4):
        come_in(engine, query(sport))
    kept = [ct.original for ct in engine.mark_codec.by_tuple.values()]
    assert [t[8:10] for t in kept] == [b"\0\3", b"\0\1", b"\0\4"]
    assert len(engine.mark_codec.tuples_of) == 3


def test_what_was_forgotten_for_want_of_room_is_looked_up_like_a_first_sight() -> None:
    """Untranslated, that finds the same connection."""
    engine = limited(1)
    first = come_in(engine, query(1))
    come_in(engine, query(2))
    out, verdict = go_out(engine, first.data, 0)
    assert (verdict, out.ct) == (NF_ACCEPT, first.ct)


def test_refused_headers_are_bounded() -> None:
    engine = limited(3)
    strays = [packets.tcp(CLIENT.v4, SERVER.v4, sport, 2, "R") for sport in range(1, 6)]
    for stray in strays:
        come_in(engine, stray)
    assert len(engine.mark_codec.invalid) == 3
    assert [resume(engine, stray, 0)[0] for stray in strays] == [NOT_SEEN] * 2 + [RESUMED] * 3
    assert not engine.mark_codec.invalid


def test_refused_headers_count_their_packets() -> None:
    engine = router(NONE)
    stray = packets.tcp(CLIENT.v4, SERVER.v4, 1, 2, "R")
    for _ in range(3):
        come_in(engine, stray)
    assert list(engine.mark_codec.invalid.values()) == [3]
    assert [resume(engine, stray, 0)[0] for _ in range(4)] == [RESUMED] * 3 + [NOT_SEEN]
    assert not engine.mark_codec.invalid


def test_a_packet_dropped_at_its_first_visit_is_not_remembered() -> None:
    engine = router(NONE, Tunables(nf_conntrack_max=1))
    ct = go_out(engine, query(), come_in(engine, query()).mark)[0].ct
    assert ct is not None
    ct.status |= IPS_ASSURED  # so nothing can be evicted
    assert engine.handle(Skb(query(1001), 0, LAN, 0), PRE_ROUTING, 0) == NF_DROP
    assert not engine.mark_codec.invalid


def test_a_good_packet_clears_the_name_of_a_bad_one_alike() -> None:
    """Damaged once and sent again: the bad one never left, the good one must."""
    engine = router(NONE)
    good = packets.udp(CLIENT.v4, SERVER.v4, 1000, 53, b"rather long data")
    bad = packets.broken(good)
    assert come_in(engine, bad).ctinfo == IP_CT_INVALID
    assert engine.mark_codec.invalid
    assert come_in(engine, good).ctinfo == IP_CT_NEW
    assert not engine.mark_codec.invalid


@pytest.mark.parametrize(
    "data", [query()[:6] + b"\x20\0" + query()[8:], b"\x45", packets.icmp(CLIENT.v6, SERVER.v6, 135)]
)
def test_what_shows_by_itself_is_not_remembered(data: bytes) -> None:
    """Fragments, rubbish and neighbour discovery are the same at the next visit."""
    engine = router(NONE)
    come_in(engine, data)
    assert not engine.mark_codec.by_tuple
    assert not engine.mark_codec.invalid


def test_a_connection_seen_both_ways_is_remembered_both_ways() -> None:
    engine = router(NONE)
    skb = come_in(engine, query())
    go_out(engine, skb.data, 0)
    come_in(engine, packets.udp(SERVER.v4, CLIENT.v4, 53, 1000))
    assert isinstance(skb.ct, NfConn)
    assert engine.mark_codec.tuples_of == {skb.ct.slot: [skb.ct.original, skb.ct.reply]}
    again = come_in(engine, query())
    assert again.ctinfo == IP_CT_ESTABLISHED
    assert go_out(engine, again.data, 0)[0].ctinfo == IP_CT_ESTABLISHED


# --- the router's own ---------------------------------------------------------------------------------------

SOCKETS_MARKS = (0, 0x12345678, 0xD00, 0xF00, 0xE00, 0x2A00, 0x2B00, 0x1A00, 0xFFFFFFFF)  # among them ours


def leave(engine: Engine, data: bytes, mark: int = 0) -> tuple[Skb, Skb]:
    """Both visits of a packet of the router's own."""
    first = Skb(data, mark, 0, WAN)
    assert engine.handle(first, LOCAL_OUT, 0) == NF_ACCEPT
    last = Skb(first.data, first.mark, 0, WAN)
    assert engine.handle(last, POST_ROUTING, 0) == NF_ACCEPT
    return first, last


@pytest.mark.parametrize("mark", SOCKETS_MARKS)
@pytest.mark.parametrize("mask", [WIDE, NARROW, NONE])
def test_the_routers_own_packet_keeps_its_mark(mask: int, mark: int) -> None:
    """The kernel routes it again when its mark changes. It is tracked once, and a foreign mark is not believed."""
    engine = router(mask)
    engine.core.accounting = True
    for number in (1, 2):
        first, last = leave(engine, query(), mark)
        assert (first.mark, last.mark) == (mark, mark | engine.mark_codec.done)
        assert first.ct is last.ct is not None
        assert last.ctinfo == IP_CT_NEW
        assert not last.seen_after_routing
        assert last.ct.packets_original == number
    answer = Skb(packets.udp(SERVER.v4, CLIENT.v4, 53, 1000), 0, WAN, 0)
    assert engine.handle(answer, PRE_ROUTING, 0) == NF_ACCEPT
    assert leave(engine, query(), mark)[1].ctinfo == IP_CT_ESTABLISHED


@pytest.mark.parametrize("mark", SOCKETS_MARKS)
@pytest.mark.parametrize("mask", [WIDE, NARROW, NONE])
def test_the_routers_own_invalid_packet_stays_invalid(mask: int, mark: int) -> None:
    """Its tuple is that of a connection."""
    engine = router(mask)
    leave(engine, packets.tcp(CLIENT.v4, SERVER.v4, 1000, 80, "S", seq=1), mark)
    stray = packets.broken(packets.tcp(CLIENT.v4, SERVER.v4, 1000, 80, "A", seq=1)[:30])
    first, last = leave(engine, stray, mark)
    assert (first.mark, first.ctinfo, first.ct) == (mark, IP_CT_INVALID, None)
    assert (last.mark, last.ctinfo, last.ct) == (mark | engine.mark_codec.done, IP_CT_INVALID, None)


def test_an_answer_is_not_taken_for_the_query_that_its_sockets_mark_names() -> None:
    """Both have the same addresses and identifier."""
    engine = router()
    query = Skb(packets.icmp(ROUTER.v4, SERVER.v4, 8, 0, 42), 0, 0, WAN)
    assert engine.handle(query, LOCAL_OUT, 0) == NF_ACCEPT
    assert query.ct is not None
    mark = (query.ct.slot + 1 << SLOT_AT | MARK_VALID | IP_CT_NEW) << 8
    first, last = leave(engine, packets.icmp(ROUTER.v4, SERVER.v4, 0, 0, 42), mark)
    assert first.ctinfo == last.ctinfo == IP_CT_INVALID


@pytest.mark.parametrize("indev", [0, WAN], ids=["no interface", "the outgoing one"])
@pytest.mark.parametrize("mark", SOCKETS_MARKS)
def test_neighbour_discovery_keeps_its_mark(mark: int, indev: int) -> None:
    engine = router()
    data = packets.ip(CLIENT.v6, SERVER.v6, 58, packets.icmp(CLIENT.v6, SERVER.v6, 136)[40:], ttl=255)
    first = Skb(data, mark, indev, WAN)
    assert engine.handle(first, LOCAL_OUT, 0) == NF_ACCEPT
    last = Skb(data, first.mark, indev, WAN)
    assert engine.handle(last, POST_ROUTING, 0) == NF_ACCEPT
    assert (last.mark, last.ctinfo) == (mark | engine.mark_codec.done, IP_CT_UNTRACKED)


def test_what_output_translates_is_marked() -> None:
    """The kernel routes it again for its destination. The mark tells two equal packets apart."""
    to = packets.address(NEIGHBOUR.v4)
    rule = NatRule(NAT_DNAT, Match(proto=Numbers([17, 17]), dport=Numbers([53, 54])), Range(to, to, 99, 99))
    engine = Engine(Tunables(), Repeatable(1), nat_rules=[rule])
    for link in (LAN, WAN):
        engine.set_interface(link, f"link{link}", [], 0)
    under_way = []
    for dport in (53, 54):
        skb = Skb(packets.udp(ROUTER.v4, SERVER.v4, 1000, dport), 0x77, 0, WAN)
        assert engine.handle(skb, LOCAL_OUT, 0) == NF_ACCEPT
        assert skb.mark & 0xFFF == 0xA77
        assert skb.data == packets.udp(ROUTER.v4, NEIGHBOUR.v4, 1000, 99)
        under_way.append(skb)
    direct, last = leave(engine, packets.udp(ROUTER.v4, NEIGHBOUR.v4, 1000, 99))
    assert direct.mark == 0
    assert last.ct is direct.ct
    for skb in under_way:
        out = Skb(skb.data, skb.mark, 0, LAN)
        assert engine.handle(out, POST_ROUTING, 0) == NF_ACCEPT
        assert out.ct is skb.ct


def test_an_unreadable_packet_of_the_routers_own() -> None:
    engine = router()
    assert [skb.ctinfo for skb in leave(engine, b"\x45", 0x1A00)] == [IP_CT_INVALID, IP_CT_INVALID]
    leave(engine, query())
    assert leave(engine, packets.icmp(CLIENT.v4, SERVER.v4, 3, 3)[:22], 0x1900)[1].ctinfo == IP_CT_INVALID


def test_a_mark_that_lost_its_connection_is_a_drop() -> None:
    engine = router(NARROW)
    skb = come_in(engine, query())
    assert go_out(engine, query(7), skb.mark)[1] == NF_DROP
