"""With the kernel's hand and without it: the same packets leave, translated the same way."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import LOCAL_IN, LOCAL_OUT, NF_ACCEPT, POST_ROUTING, PRE_ROUTING
from conntrackd_py.engine.engine import Engine
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
    tcp,
    udp,
)
from tests.support.rules import masquerade, web_server_inside
from tests.support.twin_maps import TwinMaps, visit

LINKS = {address(getattr(host, f"v{f}")): host.link for f in (4, 6) for host in (CLIENT, NEIGHBOUR, SERVER, OTHER)}
OWN = (ROUTER, INSIDE)
DONE = 0x1000

ENDS: st.SearchStrategy[tuple[Host, Host]] = st.one_of(
    st.tuples(st.sampled_from([CLIENT, NEIGHBOUR]), st.sampled_from([SERVER, OTHER])),
    st.tuples(st.sampled_from([SERVER, OTHER]), st.just(ROUTER)),
    st.tuples(st.just(ROUTER), st.just(SERVER)),
)
PORTS = st.sampled_from([80, 8080, 40000])
DATA = st.sampled_from([b"", b"little", b"large" * 500])
NUMBERS = st.sampled_from([1, 2, 11, 2502])
GOOD: st.SearchStrategy[Said] = st.one_of(
    st.builds(lambda ends, s, d, data: udp(ends[0], ends[1], data, sport=s, dport=d), ENDS, PORTS, PORTS, DATA),
    st.builds(
        lambda ends, s, d, flags, seq, ack, data: tcp(
            ends[0], ends[1], flags, sport=s, dport=d, seq=seq, ack=ack, data=data
        ),
        ENDS,
        PORTS,
        PORTS,
        st.sampled_from(["S", "SA", "A", "A", "A", "FA", "R"]),
        NUMBERS,
        NUMBERS,
        DATA,
    ),
)
ANY = st.one_of(
    GOOD,
    GOOD,
    GOOD,
    st.builds(corrupted, GOOD),
    st.builds(lambda about: error(SERVER, ROUTER, about), GOOD),
    st.builds(lambda: ping(CLIENT, SERVER)),
)


def router(family: int) -> Engine:
    inner = NatRule(NAT_MASQUERADE, Match(out_interface=InterfaceNames(["lan"])))
    engine = Engine(Tunables(), Repeatable(4), nat_rules=[masquerade(), web_server_inside(family), inner])
    for link, name, host in ((LAN, "lan", INSIDE), (WAN, "wan", ROUTER)):
        engine.set_interface(link, name, [address(host.v4), address(host.v6)], 0)
    return engine


def crossing(engine: Engine, maps: TwinMaps, said: Said, family: int, now: int) -> tuple[int, int, bytes]:
    """Verdict, ctinfo and bytes of a packet that crosses the router."""
    own, good = said.sender in OWN, "bad checksum" not in said.text
    first = Skb(said.bytes_for(family), 0, 0 if own else said.sender.link, WAN if own else 0)
    verdict = visit(engine, maps, first, LOCAL_OUT if own else PRE_ROUTING, now, verified=good)
    if verdict != NF_ACCEPT:
        return verdict, first.ctinfo, b""
    destination = first.data[16:20] if family == 4 else first.data[24:40]
    outdev = LINKS.get(destination, 0)
    last = Skb(first.data, first.mark, first.indev, outdev)
    verdict = visit(engine, maps, last, POST_ROUTING if outdev else LOCAL_IN, now, verified=good)
    assert verdict != NF_ACCEPT or last.mark & DONE, "the leak table would drop it"
    return verdict, last.ctinfo, last.data if verdict == NF_ACCEPT else b""


@pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"])
@settings(max_examples=examples(250), deadline=None)
@given(st.lists(st.tuples(ANY, st.integers(0, 5_000), st.integers(0, 30)), min_size=5, max_size=50))
def test_who_rewrites_changes_nothing(family: int, steps: list[tuple[Said, int, int]]) -> None:
    alone, helped = router(family), router(family)
    none, maps = TwinMaps(), TwinMaps()
    helped.mark_maps.maps = maps
    now = 1000
    for said, pause, luck in steps:
        now += pause
        if luck == 0:
            maps.working = False
        for engine in (alone, helped):
            if luck == 1:
                engine.flush(now)
            engine.expire(now, 1000)
        assert crossing(helped, maps, said, family, now) == crossing(alone, none, said, family, now), said.text
        slots = {(mark >> 8 >> 5) - 1 for _, _, mark in maps.elements}
        assert slots == set(helped.mark_maps.mapped)
        assert all(helped.core.table.at(slot) is not None for slot in slots)
    for engine in (alone, helped):
        check(engine)
    assert helped.core.stats.ended == alone.core.stats.ended
    assert helped.core.stats.verdicts == alone.core.stats.verdicts
    assert helped.core.stats.bytes == alone.core.stats.bytes
