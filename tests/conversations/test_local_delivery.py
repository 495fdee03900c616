"""Two connections from one source port to one service of the router, called by two of its ports.

The second one gets another source port, at PREROUTING: the kernel looks for the socket right behind it.
Answers leave OUTPUT as they are, and get the client's port and the outer port at POSTROUTING.
"""

import pytest

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import (
    IP_CT_ESTABLISHED,
    IP_CT_ESTABLISHED_REPLY,
    IP_CT_NEW,
    IP_CT_RELATED,
    IP_CT_RELATED_REPLY,
    IPS_DST_NAT,
    IPS_DST_NAT_DONE,
    IPS_SRC_NAT,
    IPS_SRC_NAT_DONE,
    LOCAL_IN,
    LOCAL_OUT,
    NF_ACCEPT,
    NF_DROP,
    POST_ROUTING,
    PRE_ROUTING,
)
from conntrackd_py.engine.engine import DEFAULT_MASK
from conntrackd_py.engine.mark_codec import MarkCodec
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.match.match import Match
from conntrackd_py.match.numbers import Numbers
from conntrackd_py.nat.range import Range
from conntrackd_py.nat.rules import NAT_REDIRECT, NatRule
from conntrackd_py.reasons import NAT_EXHAUSTED
from tests.support.invariants import check
from tests.support.play import CLIENT, INSIDE, LAN, NEIGHBOUR, ROUTER, WAN, Host, Play, Said, accept, error, tcp, udp
from tests.support.rules import masquerade

REDIRECT = NatRule(
    NAT_REDIRECT,
    Match(in_interface=InterfaceNames(["lan"]), dport=Numbers([8001, 8999])),
    Range(port_low=9000, port_high=9000),
)
BOUND = IPS_DST_NAT | IPS_DST_NAT_DONE


@pytest.fixture(params=[DEFAULT_MASK, 0xF, 0], ids=["wide mark", "narrow mark", "no mark"])
def router(request: pytest.FixtureRequest, family: int) -> Play:
    """Ports 8001 to 8999 of the router lead to its port 9000."""
    play = Play(family, [REDIRECT, masquerade()])
    play.engine.mark_codec = MarkCodec(play.engine.core, request.param)
    return play


def called_twice(router: Play) -> int:
    """Call 8001 and 8002 from one port; the port that the service sees the second time."""
    assert (
        router
        >> udp(CLIENT, ROUTER, dport=8001)
        << accept(IP_CT_NEW, src=CLIENT, sport=40000, dst=INSIDE, dport=9000, entered=BOUND)
        >> udp(CLIENT, ROUTER, dport=8002)
        << accept(IP_CT_NEW, src=CLIENT, dst=INSIDE, dport=9000, entered=BOUND | IPS_SRC_NAT | IPS_SRC_NAT_DONE)
    )
    port = router.seen["sport"]
    assert isinstance(port, int)
    assert 40000 != port >= 1024
    return port


def inner(router: Play) -> bytes:
    return router.left[28:] if router.family == 4 else router.left[48:]


def test_each_gets_its_own_answers(router: Play) -> None:
    second = called_twice(router)
    assert (
        router
        >> udp(INSIDE, CLIENT, sport=9000, dport=second)
        << accept(IP_CT_ESTABLISHED_REPLY, src=ROUTER, sport=8002, dst=CLIENT, dport=40000)
        >> udp(INSIDE, CLIENT, sport=9000, dport=40000)
        << accept(IP_CT_ESTABLISHED_REPLY, src=ROUTER, sport=8001, dst=CLIENT, dport=40000)
        >> udp(CLIENT, ROUTER, dport=8002)
        << accept(IP_CT_ESTABLISHED, sport=second, dst=INSIDE, dport=9000)
        >> udp(CLIENT, ROUTER, dport=8001)
        << accept(IP_CT_ESTABLISHED, sport=40000, dst=INSIDE, dport=9000, entries=2)
    )
    check(router.engine)


def test_tcp(router: Play) -> None:
    """The tracker sees each segment once; a reset ends its connection at OUTPUT and is still translated."""
    assert (
        router >> tcp(CLIENT, ROUTER, "S", seq=1, dport=8001) << accept(IP_CT_NEW, sport=40000, dst=INSIDE, dport=9000)
    )
    assert router >> tcp(CLIENT, ROUTER, "S", seq=1, dport=8002) << accept(IP_CT_NEW, dst=INSIDE, dport=9000)
    second = router.seen["sport"]
    assert isinstance(second, int)
    assert second != 40000
    assert (
        router
        >> tcp(INSIDE, CLIENT, "SA", seq=9, ack=2, sport=9000, dport=second)
        << accept(IP_CT_ESTABLISHED_REPLY, src=ROUTER, sport=8002, dport=40000, state="SYN_RECV")
        >> tcp(CLIENT, ROUTER, "A", seq=2, ack=10, dport=8002)
        << accept(IP_CT_ESTABLISHED, sport=second, dport=9000, state="ESTABLISHED", timeout=432000)
        >> tcp(CLIENT, ROUTER, "A", seq=2, ack=10, dport=8002)
        << accept(IP_CT_ESTABLISHED, sport=second, dport=9000, timeout=432000)
    )
    assert router >> tcp(CLIENT, ROUTER, "S", seq=1, dport=8003) << accept(IP_CT_NEW, dst=INSIDE, dport=9000)
    third = router.seen["sport"]
    assert isinstance(third, int)
    assert (
        router
        >> tcp(INSIDE, CLIENT, "RA", seq=0, ack=2, sport=9000, dport=third)
        << accept(IP_CT_ESTABLISHED_REPLY, src=ROUTER, sport=8003, dport=40000, ended=["rst"])
    )


def visit(router: Play, hook: int, said: Said | bytes, mark: int = 0, outdev: int = 0) -> Skb:
    """One visit of a packet from the lan."""
    data = said if isinstance(said, bytes) else said.bytes_for(router.family)
    skb = Skb(data, mark, 0 if hook == LOCAL_OUT else LAN, outdev)
    assert router.engine.handle(skb, hook, router.now) == NF_ACCEPT
    return skb


def test_prerouting_leaves_what_the_socket_is_found_by(router: Play) -> None:
    """INPUT changes nothing more."""
    second = called_twice(router)
    first = visit(router, PRE_ROUTING, udp(CLIENT, ROUTER, dport=8002))
    assert first.data == udp(CLIENT, INSIDE, sport=second, dport=9000).bytes_for(router.family)
    last = visit(router, LOCAL_IN, first.data, first.mark)
    assert last.data is first.data
    assert last.ct is first.ct


def test_input_keeps_the_port_that_prerouting_gave_to_the_first_packet(router: Play) -> None:
    assert router >> udp(CLIENT, ROUTER, dport=8001) << accept(IP_CT_NEW, sport=40000)
    first = visit(router, PRE_ROUTING, udp(CLIENT, ROUTER, dport=8002))
    assert first.ct is not None
    assert first.ct.status & IPS_SRC_NAT
    last = visit(router, LOCAL_IN, first.data, first.mark)
    assert last.data is first.data
    assert last.ct is first.ct


def test_an_answer_leaves_output_as_it_is(router: Play) -> None:
    """Nothing changes that would make the kernel route it again."""
    answer = udp(INSIDE, CLIENT, sport=9000, dport=called_twice(router))
    skb = visit(router, LOCAL_OUT, answer, 0x77, LAN)
    assert (skb.data, skb.mark) == (answer.bytes_for(router.family), 0x77)


def test_calls_that_come_together(family: int) -> None:
    """The first has no socket yet, so INPUT is early enough for the second; its later packets change at PREROUTING."""
    router = Play(family, [REDIRECT])
    calls = [visit(router, PRE_ROUTING, udp(CLIENT, ROUTER, dport=dport)) for dport in (8001, 8002)]
    inside = [visit(router, LOCAL_IN, skb.data, skb.mark) for skb in calls]
    assert inside[0].data != inside[1].data
    again = visit(router, PRE_ROUTING, udp(CLIENT, ROUTER, dport=8002))
    assert again.data == inside[1].data


def test_an_error_about_an_answer(router: Play) -> None:
    """The client has closed its socket; the service's own socket gets the error."""
    second = called_twice(router)
    assert (
        router
        >> udp(INSIDE, CLIENT, sport=9000, dport=second)
        << accept(IP_CT_ESTABLISHED_REPLY)
        >> error(CLIENT, ROUTER, udp(ROUTER, CLIENT, sport=8002, dport=40000))
        << accept(IP_CT_RELATED, src=CLIENT, dst=INSIDE)
    )
    told = udp(INSIDE, CLIENT, sport=9000, dport=second).bytes_for(router.family)
    assert inner(router) == told[: len(inner(router))]


def test_an_error_of_the_router(router: Play) -> None:
    """The service is gone; the client recognises what it sent."""
    second = called_twice(router)
    assert (
        router
        >> error(INSIDE, CLIENT, udp(CLIENT, INSIDE, sport=second, dport=9000))
        << accept(IP_CT_RELATED_REPLY, src=ROUTER, dst=CLIENT)
    )
    sent = udp(CLIENT, ROUTER, dport=8002).bytes_for(router.family)
    assert inner(router) == sent[: len(inner(router))]


def test_the_port_in_use_may_be_one_that_was_chosen(router: Play) -> None:
    """A third connection from that very port has to move, untranslated as its destination is."""
    second = called_twice(router)
    assert router >> udp(CLIENT, INSIDE, sport=second, dport=9000) << accept(IP_CT_NEW, dst=INSIDE, dport=9000)
    third = router.seen["sport"]
    assert third not in (second, 40000)
    assert isinstance(third, int)
    assert (
        router
        >> udp(INSIDE, CLIENT, sport=9000, dport=third)
        << accept(IP_CT_ESTABLISHED_REPLY, src=INSIDE, sport=9000, dport=second)
    )


def test_the_port_in_use_may_be_one_of_the_routers_own_calls(router: Play) -> None:
    assert router >> udp(INSIDE, CLIENT, sport=9000) << accept(IP_CT_NEW)
    assert (
        router
        >> udp(CLIENT, ROUTER, dport=8001)
        << accept(IP_CT_NEW, dst=INSIDE, dport=9000, entered=BOUND | IPS_SRC_NAT | IPS_SRC_NAT_DONE)
    )


def test_without_a_clash_prerouting_leaves_the_source_alone(router: Play) -> None:
    assert router >> udp(CLIENT, ROUTER, dport=8001) << accept(IP_CT_NEW, sport=40000, entered=BOUND)
    assert router >> udp(NEIGHBOUR, ROUTER, dport=8002) << accept(IP_CT_NEW, sport=40000, entered=BOUND)


@pytest.mark.parametrize(
    ("rules", "source", "keeps"),
    [([REDIRECT, masquerade()], ROUTER, True), ([REDIRECT], CLIENT, False)],
    ids=["a source rule", "no source rule"],
)
def test_a_packet_that_is_sent_on_after_all(family: int, rules: list[NatRule], source: Host, keeps: bool) -> None:
    """The router lost the address: a source rule applies as ever; without one, the client's own port is taken."""
    router = Play(family, rules)
    called_twice(router)
    first = visit(router, PRE_ROUTING, udp(CLIENT, ROUTER, dport=8003))
    last = visit(router, POST_ROUTING, first.data, first.mark, WAN)
    port = int.from_bytes(last.data[20:22] if family == 4 else last.data[40:42], "big")
    assert last.data == udp(source, INSIDE, sport=port, dport=9000).bytes_for(family)
    assert (port == 40000) == keeps
    answer = visit(router, PRE_ROUTING, udp(INSIDE, source, sport=9000, dport=port))
    answer = visit(router, POST_ROUTING, answer.data, answer.mark, LAN)
    assert answer.data == udp(ROUTER, CLIENT, sport=8003).bytes_for(family)
    check(router.engine)


def test_no_free_port(router: Play) -> None:
    """Privileged ports are few; the packet is dropped at PREROUTING, where INPUT would have dropped it."""
    for dport in range(8001, 8600):
        skb = Skb(udp(CLIENT, ROUTER, sport=1, dport=dport).bytes_for(router.family), 0, LAN, 0)
        if router.engine.handle(skb, PRE_ROUTING, router.now) == NF_DROP:
            break
        visit(router, LOCAL_IN, skb.data, skb.mark)
    assert skb.reason == NAT_EXHAUSTED
    check(router.engine)
