"""The blocks of all rules: bounded events, and which holder has which block."""

from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.engine.engine import Engine
from conntrackd_py.nat import blocks as module
from conntrackd_py.nat.blocks import BlockEvent, host_of, port_in
from conntrackd_py.nat.interfaces import Interfaces
from tests.support import packets
from tests.support.invariants import check
from tests.support.packets import address
from tests.support.play import CLIENT, LAN, NEIGHBOUR, SERVER, WAN
from tests.support.rules import rules_of
from tests.unit.nat.conftest import forward

RULES = """
    [[nat]]
    action = "SNAT"
    out_interface = "wan"
    to = "203.0.113.0-203.0.113.3"
    port_block = 512

    [[nat]]
    action = "SNAT"
    out_interface = "wan2"
    to = "203.0.113.0-203.0.113.3"
    port_block = 512
"""


def router(text: str = RULES) -> Engine:
    engine = Engine(Tunables(), Repeatable(3), nat_rules=rules_of(text))
    engine.set_interface(LAN, "lan", [], 0)
    engine.set_interface(WAN, "wan", [], 0)
    return engine


def test_rules_with_the_same_range_share_their_blocks() -> None:
    engine = router()
    first, second = engine.nat.rules.source_rules
    assert engine.nat.blocks.spaces_of(first) == engine.nat.blocks.spaces_of(second) == engine.nat.blocks.ranges
    (space,) = engine.nat.blocks.ranges
    assert (space.total, space.allocated) == (4 * 126, 0)


def test_events_are_bounded() -> None:
    mine = module.Blocks(Interfaces())
    mine.recording = True
    event = BlockEvent(True, b"1234", b"5678", 1024, 1535, "nat[0]", 5)
    mine.events = [event] * (module.MOST_EVENTS - 1)
    mine.settle(mine.replace_rules(rules_of(RULES)) or [])
    for inside in (b"\n\0\0\1", b"\n\0\0\2"):
        mine.hold_mapping(inside + bytes((7, 8, 17)), bytes((203, 0, 113, 0, 4 * inside[3], 8, 17)), 4)
    assert (len(mine.events), mine.events_lost) == (module.MOST_EVENTS, 1)
    assert mine.drain_events()[-1].inside == b"\n\0\0\1"
    assert mine.events == []


def test_nothing_is_recorded_unless_somebody_listens() -> None:
    engine = router()
    forward(engine, packets.udp(CLIENT.v4, SERVER.v4, 1000, 53))
    assert engine.nat.blocks.events == []


def test_a_connection_of_another_rule_makes_the_block_contested() -> None:
    """A rule without blocks uses the same outer port: the daemon keeps both connections, and gives no port of it."""
    other = RULES.replace("port_block = 512", "", 1).replace("203.0.113.0-203.0.113.3", "203.0.113.0:1024-1535", 1)
    engine = router(other.replace('out_interface = "wan"', 'out_interface = "wan"\nproto = "udp"'))
    mine = engine.nat.blocks
    for client in (CLIENT, NEIGHBOUR):
        forward(engine, packets.udp(client.v4, SERVER.v4, 1200 + client.link, 53))
    (block,) = [block for _, block in mine.by_place.items()]
    assert (block.contested, mine.conflicts, block.inside) == (True, 1, address(CLIENT.v4))
    check(engine)
    engine.expire(100_000, 1000)
    assert len(mine.by_place) == 0
    check(engine)


def test_an_imported_or_forgotten_connection() -> None:
    engine = router()
    skb, _ = forward(engine, packets.udp(CLIENT.v4, SERVER.v4, 1000, 53))
    assert skb.ct is not None
    mine = engine.nat.blocks
    (before,) = [block for _, block in mine.by_place.items()]
    assert mine.replace_rules([]) == [before]
    assert mine.replace_rules(engine.nat.rules.source_rules) == []
    mine.claim(engine.core.table.slots)
    mine.claim([skb.ct])  # a second time
    mine.settle([before])
    (after,) = [block for _, block in mine.by_place.items()]
    assert (after.host, after.low, after.counts) == (before.host, before.low, before.counts)
    engine.core.forget(skb.ct)
    engine.expire(200_000, 10)
    assert len(mine.by_place) == 0


def test_hosts_and_ports() -> None:
    t = packets.address("10.0.0.1") + bytes(8) + b"\x11"
    assert host_of(t) == b"\0\0\n\0\0\1"
    assert host_of(t + b"\0\7") == b"\0\7\n\0\0\1"
    assert port_in(b"\n\0\0\1\4\0") == 1024
