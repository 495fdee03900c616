"""The blocks of all rules: bounded events, and which holder has which block."""

import json
from pathlib import Path

from conntrackd_py.conntrack.feed import Feed
from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.control.transfer.transfer import line_of
from conntrackd_py.engine.engine import Engine
from conntrackd_py.engine.takeover.standby import Standby
from conntrackd_py.nat.carrier import blocks as module
from conntrackd_py.nat.carrier.blocks import BlockEvent, host_key, port_in
from conntrackd_py.nat.interfaces import Interfaces
from tests.support import packets
from tests.support.invariants import check
from tests.support.journals import attach
from tests.support.packets import address
from tests.support.play import CLIENT, LAN, NEIGHBOUR, SERVER, WAN
from tests.support.rules import rules_of
from tests.support.stage import Stage, play
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
    assert host_key(b"\n\0\0\1", 7) == b"\0\7\n\0\0\1"
    assert port_in(b"\n\0\0\1\4\0") == 1024


def test_a_space_of_masquerade_is_kept_only_with_blocks() -> None:
    engine = router('[[nat]]\naction = "MASQUERADE"\nout_interface = "wan"\nport_block = 512')
    engine.set_interface(WAN, "wan", [address("203.0.113.9")], 0)
    (rule,) = engine.nat.rules.source_rules
    mine = engine.nat.blocks
    assert [space.total for space in mine.spaces_of(rule)] == [126]
    assert mine.addresses == {}
    forward(engine, packets.udp(CLIENT.v4, SERVER.v4, 1000, 53))
    assert [space.allocated for space in mine.spaces_of(rule)] == [1]
    engine.set_interface(WAN, "wan", [], 1)
    engine.expire(2, 1000)
    assert (mine.addresses, len(mine.by_place)) == ({}, 0)


def test_the_kernels_translations_have_no_blocks() -> None:
    """Mode observe reads the rules and does not apply them."""
    engine = Engine(Tunables(), Repeatable(3), nat_rules=rules_of(RULES), mode="observe")
    other = router()
    skb, _ = forward(other, packets.udp(CLIENT.v4, SERVER.v4, 1000, 53))
    assert len(other.nat.blocks.by_place) == 1
    engine.nat.blocks.claim([skb.ct])
    assert len(engine.nat.blocks.by_place) == 0


def held(engine: Engine) -> set[tuple[bytes, int, bytes, bool]]:
    return {(block.outer, block.low, block.host, block.contested) for _, block in engine.nat.blocks.by_place.items()}


def test_a_standby_has_the_same_blocks_when_it_takes_over() -> None:
    active, other = router(), router()
    feed = attach(active).feed = Feed()
    standby = Standby(other)
    for number in range(50):
        forward(active, packets.udp(f"10.0.0.{number % 5}", SERVER.v4, 1000 + number, 53))
    for slot, data in feed.drain(1000):
        standby.put(slot, data, 1000, 0)
    assert held(other) == set()
    standby.take_over(1000, 0)
    assert held(other) == held(active)
    assert len(held(other)) == 5
    check(other)


def test_imported_connections_have_the_same_blocks(tmp_path: Path) -> None:
    active = router()
    for number in range(20):
        forward(active, packets.udp(f"10.0.0.{number % 5}", SERVER.v4, 1000 + number, 53))
    line = line_of(active, lambda: 0)
    lines = [line(ct) for ct in active.core.table.slots if ct is not None]
    importing = router()

    async def scene(stage: Stage) -> None:
        stage.control.commands.engine = importing
        client = await stage.client()
        found = [json.loads(one)["connection"] for one in lines]
        client.send(json.dumps({"command": "import", "connections": found}).encode() + b"\n")
        assert {outcome for outcome, _ in (await client.line())["import"]} == {"imported"}

    play(tmp_path / "control.sock", scene, max_request=65536)
    assert held(importing) == held(active)
    check(importing)
