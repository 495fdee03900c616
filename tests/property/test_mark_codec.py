"""Whatever part of the mark is ours, all of it or none: the same packets leave, translated the same way."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import LOCAL_IN, LOCAL_OUT, NF_ACCEPT, POST_ROUTING, PRE_ROUTING
from conntrackd_py.engine.engine import DEFAULT_MASK, Engine
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.match.match import Match
from conntrackd_py.nat.rules import NAT_MASQUERADE, NatRule
from tests.support.examples import examples
from tests.support.invariants import check
from tests.support.packets import address
from tests.support.play import (
    CLIENT,
    INSIDE,
    LAN,
    NEIGHBOUR,
    OTHER,
    ROUTER,
    SERVER,
    WAN,
    Host,
    Said,
    corrupted,
    error,
    ping,
    pong,
    tcp,
    udp,
)
from tests.support.rules import masquerade, web_server_inside

MASKS = (DEFAULT_MASK, 0xF, 0)  # every slot fits, none fits, nothing at all
SOCKETS_MARKS = (0, 0, 0x2A00, 0x4B00, 0x1A00, 0xD00, 0xF00, 0xFFFFFFFF)  # of the router's own packets
LINKS = {address(getattr(host, f"v{f}")): host.link for f in (4, 6) for host in (CLIENT, NEIGHBOUR, SERVER, OTHER)}
OWN = (ROUTER, INSIDE)


def router(mask: int, family: int) -> Engine:
    rules = [
        masquerade(),
        web_server_inside(family),
        NatRule(NAT_MASQUERADE, Match(out_interface=InterfaceNames(["lan"]))),
    ]
    engine = Engine(Tunables(), Repeatable(4), nat_rules=rules, mark_mask=mask)
    for link, name, host in ((LAN, "lan", INSIDE), (WAN, "wan", ROUTER)):
        engine.set_interface(link, name, [address(host.v4), address(host.v6)], 0)
    return engine


# What crosses a router that translates: each of these alone is right, most of their orders are not.
NUMBERS = st.sampled_from([1, 2, 10, 11, 100_000])
FLAGS = st.sampled_from(["S", "SA", "A", "PA", "FA", "R", "RA"])
OUTSIDE = st.sampled_from([SERVER, OTHER])
IN_LAN = st.sampled_from([CLIENT, NEIGHBOUR])
ENDS: st.SearchStrategy[tuple[Host, Host]] = st.one_of(
    st.tuples(IN_LAN, OUTSIDE), st.tuples(OUTSIDE, st.just(ROUTER)), st.tuples(st.just(ROUTER), OUTSIDE)
)
PORTS = st.sampled_from([80, 8080, 40000])
GOOD: st.SearchStrategy[Said] = st.one_of(
    st.builds(lambda ends, s, d: udp(ends[0], ends[1], b"some data", sport=s, dport=d), ENDS, PORTS, PORTS),
    st.builds(
        lambda ends, s, d, flags, seq, ack: tcp(ends[0], ends[1], flags, sport=s, dport=d, seq=seq, ack=ack),
        ENDS,
        PORTS,
        PORTS,
        FLAGS,
        NUMBERS,
        NUMBERS,
    ),
    st.builds(lambda ends: ping(ends[0], ends[1]), ENDS),
    st.builds(lambda ends: pong(ends[0], ends[1]), ENDS),
)
ANY: st.SearchStrategy[Said] = st.one_of(
    GOOD,
    GOOD,
    GOOD,
    st.builds(corrupted, GOOD),
    st.builds(lambda about: error(SERVER, ROUTER, about), GOOD),
    st.builds(lambda about: error(CLIENT, SERVER, about), GOOD),
    st.builds(lambda about: error(CLIENT, INSIDE, about), GOOD),
)


Seen = tuple[int, int, bytes]  # verdict, ctinfo and bytes of a packet


def crossing(engine: Engine, said: Said, family: int, now: int, lost: bool, mark: int) -> Seen:
    """What becomes of a packet that crosses the router, or is lost half way. mark: of the router's own sockets."""
    verdict, first = coming(engine, said, family, now, mark)
    if verdict != NF_ACCEPT or lost:
        return verdict, first.ctinfo, first.data
    return leaving(engine, first, family, now)


def crossing_together(engine: Engine, said: Said, family: int, copies: int) -> list[Seen]:
    """What becomes of copies of a packet, all of which have come in before the first leaves."""
    came = [coming(engine, said, family, 0) for _ in range(copies)]
    return [leaving(engine, first, family, 0) for verdict, first in came if verdict == NF_ACCEPT]


def coming(engine: Engine, said: Said, family: int, now: int, mark: int = 0) -> tuple[int, Skb]:
    own = said.sender in OWN
    first = Skb(said.bytes_for(family), mark if own else 0, 0 if own else said.sender.link, WAN if own else 0)
    return engine.handle(first, LOCAL_OUT if own else PRE_ROUTING, now), first


def leaving(engine: Engine, first: Skb, family: int, now: int) -> Seen:
    destination = first.data[16:20] if family == 4 else first.data[24:40]
    outdev = LINKS.get(destination, 0)
    last = Skb(first.data, first.mark, first.indev, outdev)
    verdict = engine.handle(last, POST_ROUTING if outdev else LOCAL_IN, now)
    return verdict, last.ctinfo, last.data


@pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"])
@settings(max_examples=examples(150), deadline=None)
@given(st.lists(st.tuples(ANY, st.integers(0, 20_000), st.integers(0, 9)), min_size=5, max_size=40))
def test_the_mask_changes_nothing(family: int, steps: list[tuple[Said, int, int]]) -> None:
    engines = [router(mask, family) for mask in MASKS]
    now = 0
    for said, pause, luck in steps:
        now += pause
        for engine in engines:
            engine.expire(now, 1000)
        mark = SOCKETS_MARKS[luck % len(SOCKETS_MARKS)]
        wanted, *others = [crossing(engine, said, family, now, luck == 0, mark) for engine in engines]
        for other, mask in zip(others, MASKS[1:], strict=True):
            assert other == wanted, f"{said.text}, mask {mask:#x}"
    for engine in engines:
        check(engine)
        assert engine.core.stats.insert == engines[0].core.stats.insert
        assert engine.core.stats.ended == engines[0].core.stats.ended


@pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"])
@settings(max_examples=examples(100), deadline=None)
@given(st.lists(st.tuples(ANY, st.integers(1, 4)), min_size=3, max_size=20))
def test_nor_for_packets_alike_that_are_under_way_at_once(family: int, steps: list[tuple[Said, int]]) -> None:
    """Without a mark they cannot be told apart; only their numbers are compared."""
    engines = [router(mask, family) for mask in MASKS]
    for said, copies in steps:
        wanted, *others = [sorted(crossing_together(engine, said, family, copies)) for engine in engines]
        for other, mask in zip(others, MASKS[1:], strict=True):
            assert other == wanted, f"{copies} of {said.text}, mask {mask:#x}"
    for engine in engines:
        check(engine)
