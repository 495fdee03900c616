"""Endpoint-independent mappings, whatever comes in, is lost or ends: one outer port for a source, shared by none."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPS_DYING, MANIP_SRC, NF_ACCEPT, POST_ROUTING, PRE_ROUTING
from conntrackd_py.engine.engine import Engine
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.match.match import Match
from conntrackd_py.nat.range import Range
from conntrackd_py.nat.rules import FILTERINGS, NAT_SNAT, Independent, NatRule
from tests.support import packets
from tests.support.examples import examples
from tests.support.invariants import check
from tests.support.play import CLIENT, LAN, NEIGHBOUR, OTHER, ROUTER, SERVER, WAN

INSIDE = (CLIENT.v4, NEIGHBOUR.v4)
OUTSIDE = (SERVER.v4, OTHER.v4)
PORTS = (5000, 5003)
LEAVE, LOSE, WAIT = "leave", "lose", "wait"
HOSTS = st.sampled_from((*INSIDE, *OUTSIDE))
NUMBERS = st.integers(*PORTS)
STEPS = st.lists(
    st.one_of(
        st.tuples(HOSTS, st.sampled_from((*OUTSIDE, ROUTER.v4)), NUMBERS, NUMBERS),
        st.tuples(st.sampled_from((LEAVE, LOSE, WAIT)), st.integers(0, 100)),
    ),
    min_size=20,
    max_size=60,
)


def router(filtering: int, hairpin: bool) -> Engine:
    to = packets.address(ROUTER.v4)
    rule = NatRule(NAT_SNAT, Match(out_interface=InterfaceNames(["wan"])), Range(to, to, *PORTS), label="nat[0]")
    rule.independent = Independent(filtering, hairpin=hairpin)
    tunables = Tunables(nat_mapping_lifetime=20, nat_port_rest=20)
    engine = Engine(tunables, Repeatable(9), nat_rules=[rule])
    engine.set_interface(LAN, "lan", [], 0)
    engine.set_interface(WAN, "wan", [to], 0)
    return engine


def route(skb: Skb) -> int:
    return LAN if skb.data[16:20] in [packets.address(host) for host in INSIDE] else WAN


def ports_by_source(engine: Engine) -> dict[bytes, set[bytes]]:
    """The outer endpoints of each inside endpoint, of the connections with a mapping."""
    found: dict[bytes, set[bytes]] = {}
    for ct in engine.core.table.slots:
        if ct is not None and not ct.status & IPS_DYING and engine.nat.endpoints.of(ct, MANIP_SRC) is not None:
            outer = tuples.destination_key(ct.reply, False)
            found.setdefault(tuples.source_key(ct.original), set()).add(outer)
    return found


@pytest.mark.parametrize("hairpin", [False, True])
@pytest.mark.parametrize("filtering", range(len(FILTERINGS)), ids=FILTERINGS)
@settings(max_examples=examples(60), deadline=None)
@given(STEPS)
def test_a_source_has_one_outer_port_of_its_own(filtering: int, hairpin: bool, steps: list[tuple[object, ...]]) -> None:
    engine = router(filtering, hairpin)
    under_way: list[Skb] = []
    now = 1
    for step in steps:
        if step[0] == WAIT:
            now += step[1] * 1000  # type: ignore[operator]
            engine.expire(now, 1000)
        elif step[0] in (LEAVE, LOSE):
            for skb in under_way[-1:]:
                under_way.remove(skb)
                last = Skb(skb.data, skb.mark, skb.indev, route(skb))
                engine.handle(last, POST_ROUTING, now) if step[0] == LEAVE else engine.flush(now)
        else:
            first = Skb(packets.udp(*step), 0, LAN if step[0] in INSIDE else WAN, 0)  # type: ignore[arg-type]
            if engine.handle(first, PRE_ROUTING, now) == NF_ACCEPT:
                under_way.append(first)
        check(engine)
        ports = ports_by_source(engine)
        assert all(len(outer) == 1 for outer in ports.values())
        everyone = [outer for each in ports.values() for outer in each]
        assert len(set(everyone)) == len(everyone)
    engine.flush(now)
    engine.expire(now + 11_000, 1000)
    engine.expire(now + 60_000, 1000)
    check(engine)
    assert engine.nat.endpoints.count == 0


def test_a_range_can_be_used_up_to_the_last() -> None:
    """And a port that is free again is found."""
    engine = router(0, False)
    seen = set()
    for sport in range(1000, 1004):
        first = Skb(packets.udp(CLIENT.v4, SERVER.v4, sport, 53), 0, LAN, 0)
        engine.handle(first, PRE_ROUTING, 1)
        last = Skb(first.data, first.mark, LAN, WAN)
        assert engine.handle(last, POST_ROUTING, 1) == NF_ACCEPT
        assert last.ct is not None
        seen.add(last.ct.reply)
    assert len(seen) == 4
    first = Skb(packets.udp(NEIGHBOUR.v4, OTHER.v4, 1000, 53), 0, LAN, 0)
    engine.handle(first, PRE_ROUTING, 1)
    assert engine.handle(Skb(first.data, first.mark, LAN, WAN), POST_ROUTING, 1) != NF_ACCEPT
