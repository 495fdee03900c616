"""No two connections ever wait for the same answers, whatever arrives, in whatever order it leaves or is lost."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import (
    IPS_DYING,
    IPS_SRC_NAT_DONE,
    LOCAL_OUT,
    NF_ACCEPT,
    POST_ROUTING,
    PRE_ROUTING,
)
from conntrackd_py.engine.engine import Engine
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.match.match import Match
from conntrackd_py.match.numbers import Numbers
from conntrackd_py.nat.range import Range
from conntrackd_py.nat.rules import NAT_DNAT, NAT_SNAT, NatRule
from conntrackd_py.reasons import CONNECTION_LOST, NAT_EXHAUSTED
from tests.support import packets
from tests.support.examples import examples
from tests.support.invariants import check
from tests.support.play import CLIENT, LAN, NEIGHBOUR, OTHER, ROUTER, SERVER, WAN

CLIENTS = (CLIENT.v4, NEIGHBOUR.v4, ROUTER.v4)
SERVERS = (SERVER.v4, OTHER.v4)
PUBLISHED = (8080, 8081)  # two ports of the other host that lead to one service of the server


def router(ports: tuple[int, int], random: bool) -> Engine:
    to, server = packets.address(ROUTER.v4), packets.address(SERVER.v4)
    snat = NatRule(
        NAT_SNAT, Match(out_interface=InterfaceNames(["wan"])), Range(to, to, ports[0], ports[1], random=random)
    )
    dnat = NatRule(NAT_DNAT, Match(proto=Numbers([17, 17]), dport=Numbers([*PUBLISHED])), Range(server, server, 80, 80))
    engine = Engine(Tunables(), Repeatable(9), nat_rules=[snat, dnat])
    engine.set_interface(LAN, "lan", [], 0)
    engine.set_interface(WAN, "wan", [to], 0)
    return engine


def bytes_of(client: str, server: str, sport: int, dport: int, ping: bool) -> bytes:
    return packets.icmp(client, server, 8, ident=sport) if ping else packets.udp(client, server, sport, dport)


def no_reply_tuple_is_shared(engine: Engine) -> None:
    bound = [ct for ct in engine.core.table.slots if ct is not None and ct.status & IPS_SRC_NAT_DONE]
    replies = [ct.reply for ct in bound if not ct.status & IPS_DYING]
    assert len(set(replies)) == len(replies)


ARRIVAL = st.tuples(
    st.sampled_from(CLIENTS),
    st.sampled_from(SERVERS),
    st.integers(1, 3),
    st.sampled_from((80, *PUBLISHED)),
    st.booleans(),
)
LEAVE, LOSE = "leave", "lose"
STEPS = st.lists(
    st.one_of(ARRIVAL, st.tuples(st.sampled_from((LEAVE, LOSE)), st.integers(0, 100))), min_size=20, max_size=60
)


def arrived(engine: Engine, step: tuple[object, ...], now: int) -> Skb:
    own = step[0] == ROUTER.v4
    skb = Skb(bytes_of(*step), 0, 0 if own else LAN, WAN if own else 0)  # type: ignore[arg-type]
    assert engine.handle(skb, LOCAL_OUT if own else PRE_ROUTING, now) == NF_ACCEPT
    return skb


def leave(engine: Engine, skb: Skb, now: int) -> None:
    last = Skb(skb.data, skb.mark, skb.indev, WAN)
    if engine.handle(last, POST_ROUTING, now) != NF_ACCEPT:
        assert last.reason in (NAT_EXHAUSTED, CONNECTION_LOST)  # none free; or deleted under way


def lose(engine: Engine, skb: Skb, now: int) -> None:
    assert skb.ct is not None
    engine.delete(skb.ct.slot, now)


@pytest.mark.parametrize("random", [False, True], ids=["keeps ports", "random ports"])
@pytest.mark.parametrize("ports", [(0, 0), (1, 2)], ids=["any port", "two ports"])
@settings(max_examples=examples(100), deadline=None)
@given(STEPS)
def test_answers_are_never_shared(ports: tuple[int, int], random: bool, steps: list[tuple[object, ...]]) -> None:
    engine = router(ports, random)
    under_way: list[Skb] = []
    for now, step in enumerate(steps, 1):
        if step[0] not in (LEAVE, LOSE):
            under_way.append(arrived(engine, step, now))
        elif under_way:
            skb = under_way.pop(step[1] % len(under_way))  # type: ignore[operator]
            (leave if step[0] == LEAVE else lose)(engine, skb, now)
        no_reply_tuple_is_shared(engine)
        check(engine)
    assert engine.core.stats.insert_failed == 0


@pytest.mark.parametrize("ping", [False, True], ids=["udp", "ping"])
def test_a_range_can_be_used_up_to_the_last(ping: bool) -> None:
    """Up to the size that is searched completely; beyond it the search gives up in bounded time."""
    engine = router((1, 128), random=False)
    taken = set()
    for sport in range(1000, 1128):
        first = Skb(bytes_of(CLIENT.v4, SERVER.v4, sport, 80, ping), 0, LAN, 0)
        assert engine.handle(first, PRE_ROUTING, 0) == NF_ACCEPT
        last = Skb(first.data, first.mark, LAN, WAN)
        assert engine.handle(last, POST_ROUTING, 0) == NF_ACCEPT
        assert last.ct is not None
        taken.add(last.ct.reply)
    assert len(taken) == 128
    first = Skb(bytes_of(CLIENT.v4, SERVER.v4, 999, 80, ping), 0, LAN, 0)
    engine.handle(first, PRE_ROUTING, 0)
    last = Skb(first.data, first.mark, LAN, WAN)
    assert engine.handle(last, POST_ROUTING, 0) != NF_ACCEPT
    assert last.reason == NAT_EXHAUSTED
