"""A full table under a flood of new connections: assured ones stay, unassured ones make room, nothing else is lost.

A million connections compiled; fewer in plain Python, where making them would take minutes.
"""

from conntrackd_py import compiled
from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPS_ASSURED, NF_ACCEPT, NF_DROP, POST_ROUTING, PRE_ROUTING
from conntrackd_py.engine.engine import Engine
from conntrackd_py.reasons import END_EARLY_DROP, TABLE_FULL
from tests.support.packets import udp

LIMIT = 1_000_000 if compiled else 20_000
ASSURED = LIMIT * 9 // 10
FLOOD = LIMIT // 5
OUT = udp("10.0.0.0", "198.51.100.2", 5000, 53, b"?")
BACK = udp("198.51.100.2", "10.0.0.0", 53, 5000, b"!")


def numbered(packet: bytes, at: int, number: int) -> bytes:
    """The packet with client `number` in place of its address; checksums are not verified here."""
    return packet[:at] + (0x0A000000 + number).to_bytes(4, "big") + packet[at + 4 :]


def through(engine: Engine, packet: bytes, now: int) -> int:
    first = Skb(packet, 0, 2, 0)
    if engine.handle(first, PRE_ROUTING, now) == NF_DROP:
        return NF_DROP
    return engine.handle(Skb(first.data, first.mark, 2, 3), POST_ROUTING, now)


def test_a_flood_at_the_limit() -> None:
    engine = Engine(Tunables(nf_conntrack_max=LIMIT, nf_conntrack_checksum=False), Repeatable(5), mode="track")
    core = engine.core
    for number in range(ASSURED):
        out = numbered(OUT, 12, number)
        assert through(engine, out, 0) == NF_ACCEPT
        assert through(engine, numbered(BACK, 16, number), 1) == NF_ACCEPT
        assert through(engine, out, 3000) == NF_ACCEPT
    for number in range(ASSURED, LIMIT):
        assert through(engine, numbered(OUT, 12, number), 3000) == NF_ACCEPT
    assert core.table.confirmed == LIMIT
    assert core.stats.early_drop == 0

    refused = sum(through(engine, numbered(OUT, 12, LIMIT + i), 3001) == NF_DROP for i in range(FLOOD))

    assured = sum(ct is not None and ct.status & IPS_ASSURED != 0 for ct in core.table.slots)
    assert assured == ASSURED
    assert core.table.confirmed == LIMIT
    assert core.stats.ended[END_EARLY_DROP] == core.stats.early_drop == FLOOD - refused
    assert core.stats.table_full == core.stats.reasons[TABLE_FULL] == refused
    assert refused < FLOOD // 100, "one slot in ten is unassured: 64 of them nearly always hold one"
    for number in (0, ASSURED // 2, ASSURED - 1):
        assert through(engine, numbered(BACK, 16, number), 3002) == NF_ACCEPT
    assert core.table.confirmed == LIMIT


def test_when_all_are_assured_the_new_one_waits_outside() -> None:
    engine = Engine(Tunables(nf_conntrack_max=100, nf_conntrack_checksum=False), Repeatable(5), mode="track")
    for number in range(100):
        for packet, now in ((OUT, 0), (BACK, 1), (OUT, 3000)):
            at = 12 if packet is OUT else 16
            assert through(engine, numbered(packet, at, number), now) == NF_ACCEPT
    assert through(engine, numbered(OUT, 12, 1000), 3001) == NF_DROP
    assert engine.core.stats.table_full == 1
    assert engine.core.table.confirmed == 100


def test_before_it_is_full_the_sweep_makes_room() -> None:
    """Above 95 % unassured and closing connections go early; at 95 % it stops."""
    engine = Engine(Tunables(nf_conntrack_max=1000, nf_conntrack_checksum=False), Repeatable(5), mode="track")
    for number in range(1000):
        through(engine, numbered(OUT, 12, number), 0)
    engine.expire(10, 10_000)
    assert engine.core.table.confirmed == 950
    engine.expire(20, 10_000)
    assert engine.core.table.confirmed == 950
