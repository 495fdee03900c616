"""NAT where the packet mark cannot carry the connection: another program owns it, or the mask is narrow.

Without a mark a packet's second visit has only the packet to go by, and its tuple is no longer the one it came
with: the destination has been translated, the source not yet. What leaves must be the same all the same.
"""

from collections.abc import Iterator

import pytest

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import (
    IP_CT_ESTABLISHED,
    IP_CT_ESTABLISHED_REPLY,
    IP_CT_INVALID,
    IP_CT_NEW,
    IP_CT_RELATED,
    IP_CT_RELATED_REPLY,
    IP_CT_UNTRACKED,
    IPS_DST_NAT,
    IPS_SRC_NAT,
    NF_ACCEPT,
    NF_DROP,
    POST_ROUTING,
    PRE_ROUTING,
)
from conntrackd_py.engine.mark_codec import MarkCodec
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.match.match import Match
from conntrackd_py.nat.rules import NAT_MASQUERADE, NatRule
from conntrackd_py.reasons import LEAK_GUARD
from tests.support import packets
from tests.support.invariants import check
from tests.support.play import (
    CLIENT,
    INSIDE,
    LAN,
    NEIGHBOUR,
    OTHER,
    ROUTER,
    SERVER,
    WAN,
    Play,
    Said,
    accept,
    advance,
    corrupted,
    destroyed,
    dropped,
    error,
    ping,
    pong,
    raw,
    tcp,
    udp,
)
from tests.support.rules import masquerade, web_server_inside

NO_MARK, NARROW = 0, 0xFF  # 8 bits: three for slots 0 to 6


def neighbours_fill_the_slots(play: Play) -> None:
    """So many connections that those to come do not fit into a narrow mark."""
    for sport in range(20000, 20016):
        assert play >> udp(NEIGHBOUR, INSIDE, sport=sport, dport=53) << accept(IP_CT_NEW)


@pytest.fixture(params=[NO_MARK, NARROW], ids=["no mark", "narrow mark"])
def router(request: pytest.FixtureRequest, family: int) -> Play:
    """Masquerades towards wan; its port 8080 is the client's port 80; what comes in for lan is masqueraded, too."""
    rules = [
        masquerade(),
        web_server_inside(family),
        NatRule(NAT_MASQUERADE, Match(out_interface=InterfaceNames(["lan"]))),
    ]
    play = Play(family, rules)
    play.engine.mark_codec = MarkCodec(play.engine.core, request.param)
    if request.param == NARROW:
        neighbours_fill_the_slots(play)
    return play


@pytest.fixture(autouse=True)
def nothing_is_lost_or_left(router: Play) -> Iterator[None]:
    """Every connection was made for one packet and confirmed by it, and is forgotten in the end."""
    yield
    stats = router.engine.core.stats
    assert stats.unconfirmed_lost == stats.insert_failed == 0
    assert stats.insert == router.events.count("NEW")
    check(router.engine)
    router.engine.expire(router.now + 500_000_000, 1 << 20)
    router.engine.expire(router.now + 500_010_000, 1 << 20)
    assert not router.engine.mark_codec.by_tuple


def entries(router: Play) -> int:
    return len(router.engine.core.table)


def test_source_nat(router: Play) -> None:
    before = entries(router)
    assert (
        router
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_NEW, src=ROUTER, dst=SERVER, sport=40000, entries=before + 1, status=IPS_SRC_NAT)
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_NEW, src=ROUTER, dst=SERVER, sport=40000, entries=before + 1)
        >> udp(SERVER, ROUTER)
        << accept(IP_CT_ESTABLISHED_REPLY, src=SERVER, dst=CLIENT, dport=40000, entries=before + 1)
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_ESTABLISHED, src=ROUTER, sport=40000, entries=before + 1)
    )


def test_destination_nat_and_source_nat_at_once(router: Play) -> None:
    """Neither the tuple that came nor the tuple that leaves is the one between the two visits."""
    syn = tcp(SERVER, ROUTER, "S", seq=1, sport=5555, dport=8080)
    answer = tcp(CLIENT, INSIDE, "SA", seq=9, ack=2, sport=80, dport=5555)
    last = tcp(SERVER, ROUTER, "A", seq=2, ack=10, sport=5555, dport=8080)
    assert (
        router
        >> syn
        << accept(IP_CT_NEW, src=INSIDE, sport=5555, dst=CLIENT, dport=80, status=IPS_SRC_NAT | IPS_DST_NAT)
        >> answer
        << accept(IP_CT_ESTABLISHED_REPLY, src=ROUTER, sport=8080, dst=SERVER, dport=5555, state="SYN_RECV")
        >> last
        << accept(IP_CT_ESTABLISHED, src=INSIDE, sport=5555, dst=CLIENT, dport=80, state="ESTABLISHED", timeout=432000)
    )


def test_destination_nat_alone(family: int, router: Play) -> None:
    router.engine.nat.replace_rules([web_server_inside(family)])
    syn = tcp(SERVER, ROUTER, "S", seq=1, sport=5555, dport=8080)
    answer = tcp(CLIENT, SERVER, "SA", seq=9, ack=2, sport=80, dport=5555)
    assert (
        router
        >> syn
        << accept(IP_CT_NEW, src=SERVER, dst=CLIENT, dport=80, status=IPS_DST_NAT, not_status=IPS_SRC_NAT)
        >> answer
        << accept(IP_CT_ESTABLISHED_REPLY, src=ROUTER, sport=8080, dst=SERVER, dport=5555)
    )


def test_each_packet_is_tracked_once(router: Play) -> None:
    """A tracker that saw the second visit as another packet would count retransmissions and cut the timeout."""
    assert (
        router
        >> tcp(CLIENT, SERVER, "S", seq=1)
        << accept(IP_CT_NEW, src=ROUTER, state="SYN_SENT")
        >> tcp(SERVER, ROUTER, "SA", seq=9, ack=2)
        << accept(IP_CT_ESTABLISHED_REPLY, dst=CLIENT)
        >> tcp(CLIENT, SERVER, "A", seq=2, ack=10)
        << accept(IP_CT_ESTABLISHED, timeout=432000)
        >> tcp(CLIENT, SERVER, "A", seq=2, ack=10)
        << accept(IP_CT_ESTABLISHED, timeout=432000)
        >> tcp(CLIENT, SERVER, "A", seq=2, ack=10)
        << accept(IP_CT_ESTABLISHED, timeout=432000)
    )


def test_echo(router: Play) -> None:
    """Its identifier, too, is translated at the first visit on the way back."""
    assert router >> ping(NEIGHBOUR, SERVER) << accept(IP_CT_NEW, src=ROUTER, ident=42)
    assert router >> ping(CLIENT, SERVER) << accept(IP_CT_NEW, src=ROUTER)
    other = router.seen["ident"]
    assert isinstance(other, int)
    assert other != 42
    assert (
        router
        >> pong(SERVER, ROUTER, ident=other)
        << accept(IP_CT_ESTABLISHED_REPLY, dst=CLIENT, ident=42)
        >> pong(SERVER, ROUTER, ident=42)
        << accept(IP_CT_ESTABLISHED_REPLY, dst=NEIGHBOUR, ident=42)
        >> ping(CLIENT, SERVER)
        << accept(IP_CT_ESTABLISHED, src=ROUTER, ident=other)
    )


def test_an_error_from_outside(router: Play) -> None:
    assert (
        router
        >> udp(CLIENT, SERVER, b"query")
        << accept(IP_CT_NEW, src=ROUTER)
        >> error(SERVER, ROUTER, udp(ROUTER, SERVER, b"query"))
        << accept(IP_CT_RELATED_REPLY, src=SERVER, dst=CLIENT)
    )
    inner = router.left[28:] if router.family == 4 else router.left[48:]
    assert inner == udp(CLIENT, SERVER, b"query").bytes_for(router.family)[: len(inner)]


def test_an_error_from_inside(router: Play) -> None:
    """It does not make the answers that follow RELATED."""
    assert (
        router
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_NEW)
        >> udp(SERVER, ROUTER, b"response")
        << accept(IP_CT_ESTABLISHED_REPLY, dst=CLIENT)
        >> error(CLIENT, SERVER, udp(SERVER, CLIENT, b"response"))
        << accept(IP_CT_RELATED, src=ROUTER, dst=SERVER)
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_ESTABLISHED, src=ROUTER)
    )


def test_an_error_about_both_translations(router: Play) -> None:
    """The client refuses what was forwarded to it; the sender recognises its own packet."""
    syn = tcp(SERVER, ROUTER, "S", seq=1, sport=5555, dport=8080)
    forwarded = tcp(INSIDE, CLIENT, "S", seq=1, sport=5555, dport=80)
    assert (
        router
        >> syn
        << accept(IP_CT_NEW, src=INSIDE, dst=CLIENT)
        >> error(CLIENT, INSIDE, forwarded)
        << accept(IP_CT_RELATED_REPLY, src=ROUTER, dst=SERVER)
    )


def test_a_refused_connection_still_gets_its_answer(router: Play) -> None:
    """The RST ends the connection at the first visit; at the second it must still be translated."""
    assert (
        router
        >> tcp(CLIENT, SERVER, "S", seq=1)
        << accept(IP_CT_NEW)
        >> tcp(SERVER, ROUTER, "RA", seq=0, ack=2)
        << accept(IP_CT_ESTABLISHED_REPLY, dst=CLIENT, dport=40000, ended=["rst"])
    )


def test_invalid_stays_invalid(router: Play) -> None:
    """Its tuple is that of a good connection; that must not get it translated, nor stop what is good."""
    good = tcp(CLIENT, SERVER, "A", seq=2, ack=10, data=b"data")
    assert (
        router
        >> tcp(CLIENT, SERVER, "S", seq=1)
        << accept(IP_CT_NEW)
        >> tcp(SERVER, ROUTER, "SA", seq=9, ack=2)
        << accept(IP_CT_ESTABLISHED_REPLY)
        >> tcp(CLIENT, SERVER, "A", seq=2, ack=10)
        << accept(IP_CT_ESTABLISHED)
        >> tcp(CLIENT, SERVER, "A", seq=2, ack=500_000)
        << dropped(LEAK_GUARD)
        >> corrupted(good)
        << dropped(LEAK_GUARD)
        >> good
        << accept(IP_CT_ESTABLISHED, src=ROUTER)
        >> tcp(SERVER, ROUTER, "A", seq=10, ack=900_000)
        << accept(IP_CT_INVALID, dst=ROUTER)
    )


def test_an_error_to_the_wrong_host_stays_invalid(router: Play) -> None:
    about = udp(CLIENT, SERVER)
    assert router >> about << accept(IP_CT_NEW) >> error(SERVER, NEIGHBOUR, about) << dropped(LEAK_GUARD)


def test_untracked_stays_untracked(router: Play) -> None:
    def solicitation(_: int) -> bytes:
        return packets.icmp(ROUTER.v6, "ff02::1", 135)

    assert router >> raw(ROUTER, solicitation) << accept(IP_CT_UNTRACKED)


def test_the_routers_own_packets(router: Play) -> None:
    assert (
        router
        >> udp(ROUTER, SERVER)
        << accept(IP_CT_NEW, src=ROUTER, sport=40000)
        >> udp(SERVER, ROUTER)
        << accept(IP_CT_ESTABLISHED_REPLY, dst=ROUTER)
        >> udp(CLIENT, INSIDE, dport=53)
        << accept(IP_CT_NEW, src=CLIENT)
        >> udp(INSIDE, CLIENT, sport=53)
        << accept(IP_CT_ESTABLISHED_REPLY, src=INSIDE, dst=CLIENT)
    )


def test_the_end_is_the_same(router: Play) -> None:
    assert router >> advance(121)
    assert router >> udp(CLIENT, SERVER) << accept(IP_CT_NEW) >> advance(31) << destroyed("timeout")
    assert router >> udp(CLIENT, SERVER) << accept(IP_CT_NEW, src=ROUTER)


def first_visit(router: Play, said: Said) -> Skb:
    skb = Skb(said.bytes_for(router.family), 0, said.sender.link, 0)
    assert router.engine.handle(skb, PRE_ROUTING, router.now) == NF_ACCEPT
    return skb


def second_visit(router: Play, first: Skb, outdev: int) -> Skb:
    skb = Skb(first.data, first.mark, first.indev, outdev)
    assert router.engine.handle(skb, POST_ROUTING, router.now) == NF_ACCEPT
    return skb


def test_packets_overtaking_each_other(router: Play) -> None:
    """Several under way at once, of one connection and of many: each finds its own."""
    clients = [udp(CLIENT, SERVER, sport=sport) for sport in range(3000, 3020)]
    under_way = [first_visit(router, said) for said in clients for _ in range(2)]
    sources = [second_visit(router, skb, WAN) for skb in reversed(under_way)]
    assert len({id(skb.ct) for skb in sources}) == len(clients)
    router._collect()
    back = [first_visit(router, udp(SERVER, ROUTER, dport=sport)) for sport in range(3000, 3020)]
    for sport, skb in zip(range(3019, 2999, -1), reversed(back), strict=True):
        arrived = second_visit(router, skb, LAN)
        assert arrived.ctinfo == IP_CT_ESTABLISHED_REPLY
        assert arrived.data == udp(SERVER, CLIENT, dport=sport).bytes_for(router.family)


def quoting_the_other_version(family: int) -> bytes:
    """An error to the server about a packet that it sent to the client by the other IP version."""
    about = udp(SERVER, CLIENT).bytes_for(10 - family)
    if family == 4:
        return packets.icmp(CLIENT.v4, SERVER.v4, 3, 3, data=about)
    return packets.icmp(CLIENT.v6, SERVER.v6, 1, 4, data=about)


LOOK_LIKE_CONNECTIONS = {
    "quotes the other IP version": raw(CLIENT, quoting_the_other_version),
    "error to the wrong host": error(CLIENT, OTHER, udp(SERVER, CLIENT)),
    "error with a wrong checksum": corrupted(error(CLIENT, SERVER, udp(SERVER, CLIENT))),
    "UDP with a wrong checksum": corrupted(udp(CLIENT, SERVER, b"data")),
    "TCP with a wrong checksum": corrupted(tcp(CLIENT, SERVER, "A", seq=2, ack=10, data=b"data")),
    "out of the window": tcp(CLIENT, SERVER, "A", seq=2, ack=500_000),
}


@pytest.mark.parametrize("copies", [2, 50])
@pytest.mark.parametrize("bad", LOOK_LIKE_CONNECTIONS.values(), ids=list(LOOK_LIKE_CONNECTIONS))
def test_invalid_packets_under_way_at_once_all_stay_invalid(router: Play, bad: Said, copies: int) -> None:
    """They look alike, and like packets of connections whose own are under way as well."""
    other = 10 - router.family
    assert (
        router
        >> raw(CLIENT, udp(CLIENT, SERVER).bytes_for(other))
        << accept(IP_CT_NEW)
        >> raw(SERVER, udp(SERVER, ROUTER).bytes_for(other))
        << accept(IP_CT_ESTABLISHED_REPLY)
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_NEW)
        >> udp(SERVER, ROUTER)
        << accept(IP_CT_ESTABLISHED_REPLY)
        >> tcp(CLIENT, SERVER, "S", seq=1)
        << accept(IP_CT_NEW)
        >> tcp(SERVER, ROUTER, "SA", seq=9, ack=2)
        << accept(IP_CT_ESTABLISHED_REPLY)
        >> tcp(CLIENT, SERVER, "A", seq=2, ack=10)
        << accept(IP_CT_ESTABLISHED)
    )
    for first in [first_visit(router, bad) for _ in range(copies)]:
        skb = Skb(first.data, first.mark, first.indev, WAN)
        verdict = router.engine.handle(skb, POST_ROUTING, router.now)
        assert (verdict, skb.reason, skb.ctinfo, skb.ct) == (NF_DROP, LEAK_GUARD, IP_CT_INVALID, None)
        assert skb.data == bad.bytes_for(router.family)
    assert router >> udp(CLIENT, SERVER) << accept(IP_CT_ESTABLISHED, src=ROUTER)
