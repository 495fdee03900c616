"""Which packets the kernel rewrites, and how long the elements of a connection live."""

import pytest

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.evict import DYING_GRACE
from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import FORWARD, LOCAL_OUT, NF_ACCEPT, NF_DROP, POST_ROUTING, PRE_ROUTING
from conntrackd_py.engine import mark_maps
from conntrackd_py.engine.engine import DEFAULT_MASK, Engine
from conntrackd_py.engine.mark_maps import AFTER, PAUSE
from conntrackd_py.engine.raw_mangle import MARK_SET, MarkRule
from conntrackd_py.match.match import Match
from conntrackd_py.nat.rules import NatRule
from tests.support import packets
from tests.support.play import CLIENT, INSIDE, LAN, ROUTER, SERVER, WAN
from tests.support.rules import masquerade, web_server_inside
from tests.support.twin_maps import TwinMaps, visit

FIELD = 0x2800  # slot 0: slot plus one at bit 13, and the bit of a written field
REPLY_FIELD = 0x2B00
DONE = 0x1000
LARGE = bytes(2000)


class Path:
    """A client, a server and an engine with maps between them."""

    def __init__(self, rules: list[NatRule] | None = None, mask: int = DEFAULT_MASK) -> None:
        self.engine = Engine(Tunables(), Repeatable(), nat_rules=rules or [masquerade()], mark_mask=mask)
        self.maps = TwinMaps()
        self.engine.mark_maps.maps = self.maps
        self.now = 1_000_000
        self.last = Skb(b"")
        self.spared = False  # packets are spared the second visit
        self.second_visits = 0
        for link, name, host in ((LAN, "lan", INSIDE), (WAN, "wan", ROUTER)):
            self.engine.set_interface(link, name, [packets.address(host.v4)], 0)

    def through(self, data: bytes, *, inward: bool = False, outdev: int = 0) -> Skb:
        """The packet as it left."""
        first = Skb(data, indev=WAN if inward else LAN)
        assert visit(self.engine, self.maps, first, PRE_ROUTING, self.now) == NF_ACCEPT
        outdev = outdev or (LAN if inward else WAN)
        self.last = Skb(first.data, first.mark, first.indev, outdev)
        if self.spared and self.maps.leave(self.last, outdev):
            return self.last
        self.second_visits += 1
        assert visit(self.engine, self.maps, self.last, POST_ROUTING, self.now) == NF_ACCEPT
        return self.last

    def udp(self, data: bytes = b"little", *, inward: bool = False, port: int = 4000) -> Skb:
        if inward:
            return self.through(packets.udp(SERVER.v4, ROUTER.v4, 53, port, data), inward=True)
        return self.through(packets.udp(CLIENT.v4, SERVER.v4, port, 53, data))

    def tcp(self, flags: str, *, inward: bool = False) -> Skb:
        seq, ack = 1 if "S" in flags else 2, 0 if flags == "S" else 2
        ends = (SERVER.v4, ROUTER.v4, 80, 5000) if inward else (CLIENT.v4, SERVER.v4, 5000, 80)
        return self.through(packets.tcp(*ends, flags, seq=seq, ack=ack), inward=inward)

    def established(self, port: int = 4000) -> NfConn:
        self.udp(port=port)
        ct = self.udp(inward=True, port=port).ct
        assert ct is not None
        return ct

    def pass_time(self, ms: int) -> None:
        self.now += ms
        self.engine.expire(self.now, 1000)


def test_a_connection_gets_elements_with_its_first_large_packet() -> None:
    path = Path()
    path.established()
    assert path.maps.elements == {}
    left = path.udp(LARGE)
    assert left.data == packets.udp(ROUTER.v4, SERVER.v4, 4000, 53, LARGE)
    assert path.maps.elements == {
        (4, "saddr", FIELD): packets.address(ROUTER.v4),
        (4, "daddr", REPLY_FIELD): packets.address(CLIENT.v4),
    }
    assert {(element.map, element.mark) for element in path.maps.sets} == {
        ("leaves", FIELD),
        ("leaves", REPLY_FIELD),
        ("sources", FIELD ^ 0x1800),
        ("sources", REPLY_FIELD ^ 0x1800),
    }
    assert path.engine.mark_maps.total == 1


def test_the_daemon_returns_no_bytes_and_the_kernel_sets_the_last_bit() -> None:
    path = Path()
    path.established()
    path.udp(LARGE)
    data = packets.udp(CLIENT.v4, SERVER.v4, 4000, 53, b"little")
    last = Skb(data, FIELD, LAN, WAN)
    assert path.engine.handle(last, POST_ROUTING, path.now) == NF_ACCEPT
    assert last.data is data
    assert last.by_mark
    assert last.mark == FIELD
    path.maps.rewrite(last, POST_ROUTING)
    assert last.mark == FIELD | DONE


def test_another_port_has_elements_of_its_own() -> None:
    path = Path([masquerade(), web_server_inside(4)])
    for flags, data in (("S", b""), ("A", LARGE)):
        path.through(packets.tcp(SERVER.v4, ROUTER.v4, 5000, 8080, flags, seq=1, ack=1, data=data), inward=True)
        answer = packets.tcp(CLIENT.v4, SERVER.v4, 80, 5000, "SA", seq=0, ack=2)
        left = path.through(answer)
    assert left.data == packets.tcp(ROUTER.v4, SERVER.v4, 8080, 5000, "SA", seq=0, ack=2)
    assert path.maps.elements == {
        (4, "daddr", FIELD): packets.address(CLIENT.v4),
        (4, "dport", FIELD): (80).to_bytes(2, "big"),
        (4, "saddr", REPLY_FIELD): packets.address(ROUTER.v4),
        (4, "sport", REPLY_FIELD): (8080).to_bytes(2, "big"),
    }


def test_an_ended_connection_keeps_its_elements_as_long_as_its_slot() -> None:
    path = Path()
    ct = path.established()
    path.udp(LARGE)
    path.engine.delete(ct.slot, path.now)
    path.pass_time(DYING_GRACE - 1)
    assert path.maps.elements
    path.pass_time(1)
    assert path.maps.elements == {}
    assert path.engine.mark_maps.mapped == {}


def test_a_slot_that_is_used_again_has_the_elements_of_its_new_connection() -> None:
    path = Path()
    slot = path.established(4001).slot
    path.udp(LARGE, port=4001)
    path.engine.delete(slot, path.now)
    path.pass_time(DYING_GRACE)
    assert path.established(5001).slot == slot
    assert path.udp(port=5001).data == packets.udp(ROUTER.v4, SERVER.v4, 5001, 53, b"little")
    assert path.maps.elements == {}
    left = path.udp(LARGE, port=5001)
    assert left.data == packets.udp(ROUTER.v4, SERVER.v4, 5001, 53, LARGE)
    assert len(path.maps.elements) == 2


def test_udp_without_a_checksum_is_rewritten_by_the_daemon() -> None:
    path = Path()
    path.established()
    path.udp(LARGE)
    whole = packets.udp(CLIENT.v4, SERVER.v4, 4000, 53, LARGE)
    left = path.through(whole[:26] + b"\0\0" + whole[28:])
    assert not left.by_mark
    translated = packets.udp(ROUTER.v4, SERVER.v4, 4000, 53, LARGE)
    assert left.data == translated[:26] + b"\0\0" + translated[28:]


def test_a_mark_that_another_rule_overwrote_is_not_left_to_the_kernel() -> None:
    path = Path()
    path.established()
    path.udp(LARGE)
    for mark in (0, FIELD | DONE, FIELD + 0x2000, REPLY_FIELD):
        last = Skb(packets.udp(CLIENT.v4, SERVER.v4, 4000, 53, b"little"), mark, LAN, WAN)
        assert path.engine.handle(last, POST_ROUTING, path.now) == NF_ACCEPT
        assert last.data == packets.udp(ROUTER.v4, SERVER.v4, 4000, 53, b"little")
        assert last.mark & DONE


def test_many_connections_share_a_transaction() -> None:
    path = Path()
    made = [path.established(1000 + number) for number in range(9)]
    for number in range(9):
        path.udp(LARGE, port=1000 + number)
    assert path.engine.mark_maps.total == 1
    assert path.engine.mark_maps.refused > 0
    path.engine.delete(made[5].slot, path.now)
    path.now += mark_maps.PAUSE
    assert path.udp(LARGE, port=1001).by_mark
    assert path.engine.mark_maps.total == 8, "one connection has ended meanwhile"
    assert all(path.udp(LARGE, port=1000 + number).by_mark for number in (0, 1, 2, 3, 4, 6, 7, 8))


def test_the_number_of_connections_in_a_transaction_is_limited() -> None:
    path = Path()
    for number in range(mark_maps.MOST_AT_ONCE + 5):
        path.established(1000 + number)
        path.udp(LARGE, port=1000 + number)
    path.now += mark_maps.PAUSE
    path.udp(LARGE, port=1000 + number)
    assert path.engine.mark_maps.total == 1 + mark_maps.MOST_AT_ONCE


def test_a_slot_that_the_mark_cannot_hold_has_no_elements() -> None:
    path = Path(mask=0xFF00)
    for number in range(8):
        path.established(1000 + number)
        path.udp(LARGE, port=1000 + number)
    assert 0 < path.engine.mark_maps.total < 8


def test_refused_elements_end_the_maps_after_the_turn() -> None:
    """Not before: packets of this turn may depend on the elements of other connections."""
    path = Path()
    path.established(4000)
    path.established(4001)
    path.udp(LARGE, port=4000)
    path.maps.working = False
    path.now += mark_maps.PAUSE
    left = path.udp(LARGE, port=4001)
    assert left.data == packets.udp(ROUTER.v4, SERVER.v4, 4001, 53, LARGE)
    assert path.udp(LARGE, port=4000).by_mark
    path.pass_time(1)
    assert path.maps.closed
    assert path.engine.mark_maps.maps is None
    left = path.udp(LARGE, port=4000)
    assert not left.by_mark
    assert left.data == packets.udp(ROUTER.v4, SERVER.v4, 4000, 53, LARGE)


def test_elements_that_cannot_be_deleted_end_the_maps() -> None:
    path = Path()
    ct = path.established()
    path.udp(LARGE)
    path.engine.delete(ct.slot, path.now)
    path.maps.working = False
    path.pass_time(DYING_GRACE)
    assert path.maps.closed


def test_a_connection_with_the_router_itself_has_no_elements() -> None:
    """The packets of a tunnel keep the mark of what they carry, and its connection is with the router."""
    path = Path()
    own = packets.udp(INSIDE.v4, SERVER.v4, 4000, 53)
    out = Skb(own, outdev=WAN)
    path.engine.handle(out, LOCAL_OUT, path.now)
    last = Skb(out.data, out.mark, outdev=WAN)
    path.engine.handle(last, POST_ROUTING, path.now)
    assert last.data == packets.udp(ROUTER.v4, SERVER.v4, 4000, 53)
    for data in (b"little", LARGE):
        answer = Skb(packets.udp(SERVER.v4, ROUTER.v4, 53, 4000, data), indev=WAN)
        assert visit(path.engine, path.maps, answer, PRE_ROUTING, path.now) == NF_ACCEPT
        assert answer.data == packets.udp(SERVER.v4, INSIDE.v4, 53, 4000, data)
    assert path.maps.transactions == 0


def test_an_early_source_is_not_left_to_the_kernel() -> None:
    path = Path()
    ct = path.established()
    ct.source_early = True
    assert not path.engine.mark_maps.put(ct, path.now)


# --- one visit -------------------------------------------------------------------------------------


def spared(path: Path, port: int = 4000) -> NfConn:
    """A connection of small packets that has its elements."""
    ct = path.established(port)
    for _ in range(AFTER):
        path.udp(port=port)
    path.pass_time(PAUSE)
    path.udp(port=port)
    path.spared = True
    path.second_visits = 0
    return ct


def opened(path: Path) -> None:
    """A TCP connection that has its elements."""
    for flags, inward in (("S", False), ("SA", True), ("A", False)):
        path.tcp(flags, inward=inward)
    for _ in range(AFTER):
        path.tcp("A")
    path.pass_time(PAUSE)
    path.tcp("A")
    path.spared, path.second_visits = True, 0


def test_after_some_small_packets_one_visit_is_enough() -> None:
    path = Path()
    ct = spared(path)
    assert ct.slot in path.engine.mark_maps.mapped
    left = path.udp()
    assert left.data == packets.udp(ROUTER.v4, SERVER.v4, 4000, 53, b"little")
    assert path.udp(inward=True).data == packets.udp(SERVER.v4, CLIENT.v4, 53, 4000, b"little")
    assert path.second_visits == 0


def test_not_before_so_many_packets() -> None:
    path = Path()
    path.established()
    for _ in range(AFTER - 2):
        path.udp()
    path.pass_time(PAUSE)
    path.udp()
    assert path.maps.elements == {}


def test_elements_are_added_at_a_first_visit() -> None:
    """Then no packet of the connection waits for its second visit, and none is overtaken."""
    path = Path()
    ct = path.established()
    for _ in range(AFTER - 1):
        path.udp()
    last = Skb(packets.udp(CLIENT.v4, SERVER.v4, 4000, 53), FIELD, LAN, WAN)
    assert path.engine.handle(last, POST_ROUTING, path.now) == NF_ACCEPT
    path.engine.settle(path.now)
    assert ct.slot not in path.engine.mark_maps.mapped
    path.udp(port=4001)
    assert ct.slot in path.engine.mark_maps.mapped


def test_many_connections_of_small_packets_share_few_transactions() -> None:
    path = Path()
    for number in range(100):
        path.established(1000 + number)
    before = path.maps.transactions
    for _ in range(4 * AFTER):
        for number in range(100):
            path.udp(port=1000 + number)
        path.pass_time(PAUSE)
    assert path.engine.mark_maps.total == 100
    assert path.maps.transactions - before <= 4


def test_slots_are_released_together() -> None:
    """Each deletion of elements is a transaction."""
    path = Path()
    made = [spared(path, 1000 + number) for number in range(20)]
    before = path.maps.transactions
    for ct in made:
        path.engine.delete(ct.slot, path.now)
        path.pass_time(1)
    path.pass_time(DYING_GRACE)
    assert path.maps.elements == {}
    assert path.maps.transactions - before == 1


def test_connections_with_large_packets_always_find_room() -> None:
    path = Path()
    for slot in range(mark_maps.MOST_SMALL_CONNECTIONS - mark_maps.MOST_AT_ONCE + 1):
        path.engine.mark_maps.mapped[1000 + slot] = []
    refused = path.engine.mark_maps.refused
    ct = path.established(5000)
    for _ in range(2 * AFTER):
        path.udp(port=5000)
    path.pass_time(PAUSE)
    path.udp(port=5000)
    assert ct.slot not in path.engine.mark_maps.mapped
    assert path.engine.mark_maps.refused > refused
    path.udp(LARGE, port=5000)
    assert ct.slot in path.engine.mark_maps.mapped


def test_a_connection_that_ended_while_it_waited_gets_no_elements() -> None:
    path = Path()
    ct = path.established()
    for _ in range(AFTER - 1):
        path.udp()
    path.engine.delete(ct.slot, path.now)
    path.udp(port=4001)
    assert path.maps.transactions == 0
    assert path.engine.mark_maps.maps is not None


def test_what_the_kernel_cannot_translate_makes_both_visits() -> None:
    """UDP without a checksum; another way out, where the connection ends."""
    path = Path()
    ct = spared(path)
    data = packets.udp(CLIENT.v4, SERVER.v4, 4000, 53)
    without = data[:26] + b"\0\0" + data[28:]
    translated = packets.udp(ROUTER.v4, SERVER.v4, 4000, 53)
    assert path.through(without).data == translated[:26] + b"\0\0" + translated[28:]
    assert path.second_visits == 1
    path.engine.set_interface(77, "wan2", [packets.address("192.0.2.77")], path.now)
    first = Skb(data, indev=LAN)
    assert path.engine.handle(first, PRE_ROUTING, path.now) == NF_ACCEPT
    assert not path.maps.leave(Skb(first.data, first.mark, LAN, 77), 77)
    assert path.engine.handle(Skb(first.data, first.mark, LAN, 77), POST_ROUTING, path.now) == NF_DROP
    assert ct.dying


def test_with_a_rule_for_forwarded_packets_none_is_spared() -> None:
    path = Path()
    spared(path)
    rule = MarkRule(Match(), MARK_SET, 7, hooks=(FORWARD,))
    path.engine.configure(Tunables(), nat_rules=[masquerade()], mark_rules=[rule])
    assert not path.maps.sparing
    ct = path.udp().ct
    assert path.second_visits == 1
    assert ct is not None
    assert ct.mark == 7
    path.engine.configure(Tunables(), nat_rules=[masquerade()])
    path.udp()
    assert path.second_visits == 1


def test_maps_that_come_later_know_that_none_is_spared() -> None:
    path = Path()
    path.engine.mark_maps.spare(False)
    path.engine.mark_maps.attach(path.maps)
    assert not path.maps.sparing


def test_a_syn_makes_both_visits() -> None:
    """It may need its MSS clamped."""
    path = Path()
    opened(path)
    path.tcp("A")
    assert path.second_visits == 0
    path.tcp("SA", inward=True)
    path.tcp("S")
    assert path.second_visits == 2


@pytest.mark.parametrize("flags", ["FA", "RA"])
def test_the_end_of_a_connection_is_seen_and_makes_one_visit(flags: str) -> None:
    path = Path()
    opened(path)
    left = path.tcp(flags)
    assert left.data == packets.tcp(ROUTER.v4, SERVER.v4, 5000, 80, flags, seq=2, ack=2)
    assert path.second_visits == 0
    (ct,) = [one for one in path.engine.core.table.slots if one is not None]
    assert ct.l4proto.state_names[ct.state] == {"FA": "FIN_WAIT", "RA": "CLOSE"}[flags]
