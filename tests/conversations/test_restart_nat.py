"""Every kind of translation outlives a restart and a crash: prefixes, several targets, hairpin, lists."""

import pytest

from conntrackd_py.const import (
    IP_CT_ESTABLISHED,
    IP_CT_ESTABLISHED_REPLY,
    IP_CT_NEW,
    IP_CT_RELATED_REPLY,
    IPS_DST_NAT,
    IPS_SRC_NAT,
)
from conntrackd_py.nat.rewrite.mss import PMTU
from tests.support.nat import (
    BOTH,
    MSS_1460,
    NEUTRAL,
    OUTER,
    TARGETS,
    balancing,
    both_ways,
    chosen,
    clamping,
    down,
    hairpin,
    mss_of,
    source,
)
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
    Play,
    Restart,
    accept,
    crash,
    error,
    restart,
    tcp,
    udp,
)
from tests.support.rules import rules_of


@pytest.fixture(params=[restart(2), crash(2)], ids=["restart", "crash"])
def step(request: pytest.FixtureRequest) -> Restart:
    value: Restart = request.param
    return value


@pytest.mark.parametrize(
    ("family", "source", "destination", "outer"),
    [(4, "NETMAP", "NETMAP", OUTER), (6, "NETMAP", "NETMAP", OUTER), (6, "SNPT", "DNPT", NEUTRAL)],
    ids=["v4", "v6", "nptv6"],
)
def test_a_prefix(family: int, source: str, destination: str, outer: Host, step: Restart) -> None:
    """From inside and from outside; without its rules too."""
    play = both_ways(family, source, destination)
    for _ in range(2):
        assert (
            play
            >> udp(CLIENT, SERVER, b"odd")
            << accept(src=outer, sport=40000, status=IPS_SRC_NAT)
            >> tcp(SERVER, outer, "S", seq=1, sport=9, dport=22)
            << accept(dst=CLIENT, dport=22, status=IPS_DST_NAT)
            >> step
            >> udp(SERVER, outer)
            << accept(IP_CT_ESTABLISHED_REPLY, dst=CLIENT, dport=40000)
            >> tcp(CLIENT, SERVER, "SA", seq=5, ack=2, sport=22, dport=9)
            << accept(IP_CT_ESTABLISHED_REPLY, src=outer, sport=22)
            >> error(SERVER, outer, udp(outer, SERVER, b"odd"))
            << accept(IP_CT_RELATED_REPLY, dst=CLIENT, entries=2)
        )
        play.make.keywords["nat_rules"] = None
        assert play >> step


@pytest.mark.parametrize("balance", ["source", "random"])
def test_the_target_of_a_connection(family: int, balance: str, step: Restart) -> None:
    """Also if it is down now."""
    play = balancing(family, balance)
    before = {number: chosen(play, number) for number in range(20)}
    assert set(before.values()) == set(TARGETS[family])
    assert play >> step
    gone = TARGETS[family][0]
    down(play, gone)
    for number, target in before.items():
        again = udp(source(number), ROUTER, sport=5555, dport=8080)
        assert play >> again << accept(IP_CT_NEW, dst=target, dport=80, entries=20)
        host = Host("target", target, target, LAN, 80)
        assert play >> udp(host, source(number)) << accept(IP_CT_ESTABLISHED_REPLY, src=ROUTER, sport=8080)
    assert gone not in {chosen(play, number, 6666) for number in range(20)}


def test_a_hairpin(family: int, step: Restart) -> None:
    play = hairpin(family)
    assert (
        play
        >> tcp(NEIGHBOUR, ROUTER, "S", seq=1, sport=5555, dport=8080)
        << accept(IP_CT_NEW, src=INSIDE, sport=5555, dst=CLIENT, dport=80, status=BOTH)
        >> step
        >> tcp(CLIENT, INSIDE, "SA", seq=9, ack=2, sport=80, dport=5555)
        << accept(IP_CT_ESTABLISHED_REPLY, src=ROUTER, sport=8080, dst=NEIGHBOUR, dport=5555)
        >> step
        >> tcp(NEIGHBOUR, ROUTER, "A", seq=2, ack=10, sport=5555, dport=8080)
        << accept(IP_CT_ESTABLISHED, src=INSIDE, dst=CLIENT, dport=80, status=BOTH)
    )
    assert play >> udp(OTHER, ROUTER, sport=5555, dport=8080) << accept(IP_CT_NEW, src=OTHER, dst=CLIENT)


def test_an_mss_is_clamped_in_the_answer_too(family: int, step: Restart) -> None:
    play = clamping(family, PMTU)
    assert play >> tcp(CLIENT, SERVER, "S", seq=1, options=MSS_1460) << accept(IP_CT_NEW, src=ROUTER)
    assert play >> step
    play.engine.mss.limit, play.engine.mss.mtus = PMTU, {LAN: 1500, WAN: 1492}
    play.engine.configure(play.tunables, nat_rules=play.make.keywords["nat_rules"])
    answer = tcp(SERVER, ROUTER, "SA", seq=9, ack=2, options=MSS_1460)
    assert play >> answer << accept(IP_CT_ESTABLISHED_REPLY, dst=CLIENT, visits=2)
    assert mss_of(play.left) == (1452 if family == 4 else 1432)


def test_a_rule_with_lists(family: int, step: Restart) -> None:
    """A connection that its rule no longer covers keeps its translation."""
    clients, to = (
        (["192.168.1.2", "192.168.1.3"], "203.0.113.77")
        if family == 4
        else (["fd00:1::2", "fd00:1::3"], "2001:db8:1::77")
    )
    text = """
        [[nat]]
        action = "SNAT"
        out_interface = ["wan", "wan2"]
        source = {}
        proto = ["udp", "tcp"]
        dport = [80, "8000:8080"]
        to = "{}"
    """
    play = Play(family, rules_of(text.format(clients, to)))
    outer = Host("outer", to, to, WAN, 40000)
    assert play >> udp(CLIENT, SERVER) << accept(IP_CT_NEW, src=outer)
    assert play >> udp(NEIGHBOUR, SERVER) << accept(IP_CT_NEW, src=outer)
    port = play.seen["sport"]
    assert isinstance(port, int)
    play.make.keywords["nat_rules"] = rules_of(text.format(clients[:1], to))
    assert (
        play
        >> step
        >> udp(SERVER, outer, dport=port)
        << accept(IP_CT_ESTABLISHED_REPLY, dst=NEIGHBOUR, dport=40000)
        >> udp(SERVER, outer)
        << accept(IP_CT_ESTABLISHED_REPLY, dst=CLIENT, dport=40000)
        >> udp(NEIGHBOUR, SERVER)
        << accept(IP_CT_ESTABLISHED, src=outer, sport=port)
        >> udp(NEIGHBOUR, SERVER, sport=7)
        << accept(IP_CT_NEW, src=NEIGHBOUR)
    )
