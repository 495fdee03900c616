"""No port is free: the packet is dropped, and by switch its sender gets ICMP 3/13 (RFC 5508 REQ-8)."""

from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.reasons import NAT_EXHAUSTED
from conntrackd_py.wire import ip
from conntrackd_py.wire.packet import Packet
from tests.support.packets import address, valid
from tests.support.play import (
    CLIENT,
    NEIGHBOUR,
    OTHER,
    ROUTER,
    SERVER,
    Host,
    Play,
    Said,
    accept,
    dropped,
    tcp,
    udp,
)
from tests.support.rules import rules_of


def one_port(family: int, switch: bool, more: str = "") -> Play:
    to = ROUTER.v4 if family == 4 else f"[{ROUTER.v6}]"
    text = f'[[nat]]\naction = "SNAT"\nproto = ["udp", "tcp"]\nto = "{to}:5000"\nout_interface = "wan"\n{more}'
    play = Play(family, rules_of(text))
    play.engine.nat.rejects_exhausted = switch
    play.engine.configure(Tunables(), nat_rules=rules_of(text))
    return play


def answered(play: Play, to: Host, about: Said) -> None:
    """The one answer goes to this host, quotes the packet as it was sent, and has right checksums."""
    (answer,) = play.engine.drain_rejects()
    packet = Packet(answer.data)
    assert ip.parse(packet) == 0
    kind = answer.data[packet.dataoff : packet.dataoff + 2]
    assert kind == (b"\3\15" if play.family == 4 else b"\1\1")
    assert ip.destination(packet) == address(to.v4 if play.family == 4 else to.v6)
    quoted, sent = answer.data[packet.dataoff + 8 :], about.bytes_for(play.family)
    assert quoted == sent[: len(quoted)]
    if play.family == 4:
        assert valid(answer.data)


def test_the_sender_is_told(family: int) -> None:
    play = one_port(family, True)
    assert play >> udp(CLIENT, SERVER) << accept(src=ROUTER, sport=5000)
    for said in (udp(NEIGHBOUR, SERVER, b"hello"), tcp(NEIGHBOUR, SERVER, "S", seq=1)):
        assert play >> udp(CLIENT, SERVER) << accept()
        assert play >> tcp(CLIENT, SERVER, "S", seq=1) << accept()
        assert play >> said << dropped(NAT_EXHAUSTED)
        answered(play, NEIGHBOUR, said)
    assert play >> udp(NEIGHBOUR, OTHER) << accept(sport=5000)
    assert play.engine.drain_rejects() == []


def test_without_the_switch_it_is_not(family: int) -> None:
    play = one_port(family, False)
    assert play >> udp(CLIENT, SERVER) << accept()
    assert play >> udp(NEIGHBOUR, SERVER) << dropped(NAT_EXHAUSTED)
    assert play.engine.drain_rejects() == []


def test_the_router_itself_is_not_told(family: int) -> None:
    play = one_port(family, True)
    assert play >> udp(CLIENT, SERVER) << accept()
    assert play >> udp(ROUTER, SERVER) << dropped(NAT_EXHAUSTED)
    assert play.engine.drain_rejects() == []


def test_a_flood_is_answered_in_part(family: int) -> None:
    play = one_port(family, True)
    assert play >> udp(CLIENT, SERVER) << accept()
    for sport in range(1, 1200):
        assert play >> udp(NEIGHBOUR, SERVER, sport=sport) << dropped(NAT_EXHAUSTED)
    assert len(play.engine.drain_rejects()) == 1000
    assert play.engine.rejects.limited == 199


def test_the_answer_itself_leaves(family: int) -> None:
    """With its mark, past tracking and leak guard."""
    play = one_port(family, True)
    assert play.engine.own_mark == play.engine.answer_mark != 0
    assert one_port(family, False).engine.own_mark == 0


def test_the_address_of_a_translated_destination_stays_hidden(family: int) -> None:
    """The answer quotes the packet with the destination that its sender knows."""
    to = SERVER.v4 if family == 4 else SERVER.v6
    outer = "203.0.113.9" if family == 4 else "2001:db8:1::9"
    more = f'[[nat]]\naction = "DNAT"\nin_interface = "lan"\ndestination = "{outer}"\nto = "{to}"\n'
    play = one_port(family, True, more)
    assert play >> udp(CLIENT, SERVER) << accept()
    said = udp(NEIGHBOUR, Host("outer", "203.0.113.9", "2001:db8:1::9", 3, 80))
    assert play >> said << dropped(NAT_EXHAUSTED)
    answered(play, NEIGHBOUR, said)
