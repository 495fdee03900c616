"""Port blocks, whatever comes in, is lost, ends or is reloaded: each block has one host, and every port lies in one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPS_DYING, NF_ACCEPT, POST_ROUTING, PRE_ROUTING
from conntrackd_py.engine.engine import Engine
from conntrackd_py.nat.carrier.blocks import outer_of, place_of, port_in
from conntrackd_py.nat.rules import NatRule
from tests.support import journals, packets
from tests.support.invariants import check
from tests.support.play import LAN, OTHER, SERVER, WAN
from tests.support.rules import rules_of

INSIDE = [f"192.168.1.{n}" for n in range(2, 8)]
LOSE, WAIT, RELOAD = "lose", "wait", "reload"
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(INSIDE), st.sampled_from((SERVER.v4, OTHER.v4)), st.integers(1020, 1060)),
        st.tuples(st.sampled_from(INSIDE), st.sampled_from((SERVER.v4, OTHER.v4)), st.integers(1020, 1060)),
        st.tuples(st.sampled_from((LOSE, WAIT, RELOAD)), st.integers(0, 40), st.just(0)),
    ),
    min_size=20,
    max_size=80,
)


def rules(size: int, mapping: str) -> list[NatRule]:
    return rules_of(
        f"""
        [[nat]]
        action = "SNAT"
        out_interface = "wan"
        to = "203.0.113.0-203.0.113.1:1024-1055"
        port_block = {size}
        blocks_per_host = 2
        mapping = "{mapping}"
        """
    )


def router(made: list[NatRule]) -> Engine:
    engine = Engine(Tunables(nat_mapping_lifetime=20, nat_port_rest=10), Repeatable(9), nat_rules=made)
    engine.set_interface(LAN, "lan", [], 0)
    engine.set_interface(WAN, "wan", [], 0)
    journals.attach(engine)
    return engine


def owners(engine: Engine) -> dict[bytes, bytes]:
    """The host of each block that one host holds with a connection."""
    living = [ct for ct in engine.core.table.slots if ct is not None and not ct.status & IPS_DYING]
    found = [block for ct in living if (block := engine.nat.blocks.of(ct)) is not None]
    return {place_of(block.outer, block.low): block.host for block in found if not block.contested}


def restored(engine: Engine, now: int, made: list[NatRule]) -> Engine:
    """What a new process makes of the connections alone."""
    other = router(made)
    journal = engine.core.journal
    assert journal is not None
    journals.restored(journal, other, now, clean=False, away=0, tunables=engine.core.tunables)
    return other


@pytest.mark.parametrize("mapping", ["endpoint-dependent", "endpoint-independent"])
@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_every_port_lies_in_a_block_of_its_host(mapping: str, steps: list[tuple[str, object, int]]) -> None:
    size = 16
    engine = router(rules(size, mapping))
    engine.nat.blocks.recording = True
    logged: dict[tuple[bytes, int, int], bytes] = {}
    now = 1
    for step in steps:
        if step[0] == WAIT:
            now += int(str(step[1])) * 1000
            engine.expire(now, 1000)
        elif step[0] == LOSE:
            engine.flush(now)
        elif step[0] == RELOAD:
            size = 16 if int(str(step[1])) % 2 else 32
            engine.configure(engine.core.tunables, nat_rules=rules(size, mapping))
        else:
            first = Skb(packets.udp(step[0], str(step[1]), step[2], 53), 0, LAN, 0)
            if engine.handle(first, PRE_ROUTING, now) == NF_ACCEPT:
                engine.handle(Skb(first.data, first.mark, LAN, WAN), POST_ROUTING, now)
        check(engine)
        follow(engine, logged)
    after = restored(engine, now, rules(size, mapping))
    check(after)
    assert owners(engine).items() <= owners(after).items()  # what ended may have contested a block
    engine.flush(now)
    engine.expire(now + 11_000, 1000)
    engine.expire(now + 60_000, 1000)
    check(engine)
    follow(engine, logged)
    assert len(engine.nat.blocks.by_place) == 0
    assert logged == {}


def follow(engine: Engine, logged: dict[tuple[bytes, int, int], bytes]) -> None:
    """The log alone says which host has each port of a connection, unless two hosts hold the block."""
    for event in engine.nat.blocks.drain_events():
        place = event.outer, event.low, event.high
        assert (place in logged) != event.allocated
        if event.allocated:
            logged[place] = event.inside
        else:
            assert logged.pop(place) == event.inside
    assert len(logged) == len(engine.nat.blocks.by_place.items())
    for ct in engine.core.table.slots:
        outer = outer_of(ct) if ct is not None and not ct.status & IPS_DYING else b""
        block = engine.nat.blocks.at(outer[:-2], port_in(outer)) if outer else None
        if block is not None:
            assert logged[block.outer, block.low, block.high] == block.inside
