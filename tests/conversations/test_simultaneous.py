"""Two hosts that send first to each other, and packets that overtake each other between their two visits.

Each pair ends up in one connection and no port changes. The kernel does so for UDP and unknown protocols; of TCP
and of translated connections it drops the second packet and lets its retransmission join.
"""

import pytest

from conntrackd_py.const import (
    IP_CT_ESTABLISHED,
    IP_CT_ESTABLISHED_REPLY,
    IP_CT_NEW,
    IPS_SEEN_REPLY,
    IPS_SRC_NAT,
)
from conntrackd_py.engine.raw_mangle import RawRule
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.match.match import Match
from conntrackd_py.reasons import INSERT_FAILED
from conntrackd_py.wire import sctp as wire
from tests.support import packets
from tests.support.invariants import check
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
    advance,
    arrives,
    dropped,
    leaves,
    ping,
    pong,
    raw,
    tcp,
    udp,
)
from tests.support.rules import forward, masquerade

PORT = 51820


def wireguard(sender: Host, receiver: Host) -> Said:
    """The same port on both sides."""
    return udp(sender, receiver, sport=PORT, dport=PORT)


def syn(sender: Host, receiver: Host, seq: int) -> Said:
    return tcp(sender, receiver, "S", seq=seq, sport=179, dport=179)


def esp(sender: Host, receiver: Host) -> Said:
    def make(family: int) -> bytes:
        ends = (sender.v4, receiver.v4) if family == 4 else (sender.v6, receiver.v6)
        return packets.ip(*ends, 50, bytes(20))

    return raw(sender, make, f"esp {sender.name} > {receiver.name}")


@pytest.fixture(params=["the first leaves first", "the second leaves first"])
def order(request: pytest.FixtureRequest) -> int:
    return 0 if request.param == "the first leaves first" else 1


def test_udp_on_equal_ports(play: Play, order: int) -> None:
    inside, outside = wireguard(CLIENT, SERVER), wireguard(SERVER, CLIENT)
    assert (
        play
        >> arrives(inside)
        << accept(IP_CT_NEW, entries=1)
        >> arrives(outside)
        << accept(IP_CT_NEW, entries=2)
        >> leaves(order)
        << accept(IP_CT_NEW, sport=PORT, dport=PORT)
        >> leaves()
        << accept(IP_CT_ESTABLISHED_REPLY, sport=PORT, dport=PORT, entries=1, status=IPS_SEEN_REPLY)
    )
    opener = (inside, outside)[order]
    assert play >> opener << accept(IP_CT_ESTABLISHED, entries=1, sport=PORT, dport=PORT)
    assert play.events == ["NEW", "UPDATE"]


def test_several_packets_of_both_are_under_way(play: Play, order: int) -> None:
    """Those of the connection that could not be confirmed join the other one as well."""
    for _ in range(3):
        assert (
            play
            >> arrives(wireguard(CLIENT, SERVER))
            << accept(IP_CT_NEW)
            >> arrives(wireguard(SERVER, CLIENT))
            << accept(IP_CT_NEW)
        )
    assert play >> leaves(order) << accept(IP_CT_NEW)
    for _ in range(5):
        assert play >> leaves(len(play.waiting) // 2) << accept(sport=PORT, dport=PORT)
    assert play.seen["entries"] == 1
    assert play.events.count("NEW") == 1
    check(play.engine)


def test_tcp_opens_simultaneously(play: Play, order: int) -> None:
    """RFC 9293 figure 8, with the SYNs on their way through the router at the same time."""
    hosts = (CLIENT, SERVER) if order == 0 else (SERVER, CLIENT)
    first, second = hosts
    assert (
        play
        >> arrives(syn(CLIENT, SERVER, 100))
        << accept(IP_CT_NEW)
        >> arrives(syn(SERVER, CLIENT, 100))
        << accept(IP_CT_NEW)
        >> leaves(order)
        << accept(IP_CT_NEW, state="SYN_SENT", sport=179)
        >> leaves()
        << accept(IP_CT_ESTABLISHED_REPLY, state="SYN_SENT2", sport=179, entries=1)
        >> tcp(first, second, "SA", seq=100, ack=101, sport=179, dport=179)
        << accept(IP_CT_ESTABLISHED, state="SYN_RECV")
        >> tcp(second, first, "SA", seq=100, ack=101, sport=179, dport=179)
        << accept(IP_CT_ESTABLISHED_REPLY)
        >> tcp(first, second, "A", seq=101, ack=101, sport=179, dport=179)
        << accept(IP_CT_ESTABLISHED, state="ESTABLISHED", entries=1)
    )


def test_a_protocol_without_ports(play: Play, order: int) -> None:
    assert (
        play
        >> arrives(esp(CLIENT, SERVER))
        << accept(IP_CT_NEW)
        >> arrives(esp(SERVER, CLIENT))
        << accept(IP_CT_NEW)
        >> leaves(order)
        << accept(IP_CT_NEW)
        >> leaves()
        << accept(IP_CT_ESTABLISHED_REPLY, entries=1)
    )


def test_sctp_init_collision(play: Play, order: int) -> None:
    """RFC 9260 section 5.2.1."""

    def init(sender: Host, receiver: Host, tag: int) -> Said:
        def make(family: int) -> bytes:
            ends = (sender.v4, receiver.v4) if family == 4 else (sender.v6, receiver.v6)
            return packets.sctp(*ends, 2905, 2905, 0, (wire.INIT, tag.to_bytes(4, "big") + bytes(12)))

        return raw(sender, make, "INIT")

    assert (
        play
        >> arrives(init(CLIENT, SERVER, 7))
        << accept(IP_CT_NEW)
        >> arrives(init(SERVER, CLIENT, 8))
        << accept(IP_CT_NEW)
        >> leaves(order)
        << accept(IP_CT_NEW, sport=2905)
        >> leaves()
        << accept(IP_CT_ESTABLISHED_REPLY, sport=2905, entries=1)
    )


def test_echo_requests_are_two_connections(play: Play, order: int) -> None:
    """A request answers nothing, even with the same identifier."""
    assert (
        play
        >> arrives(ping(CLIENT, SERVER))
        << accept(IP_CT_NEW)
        >> arrives(ping(SERVER, CLIENT))
        << accept(IP_CT_NEW)
        >> leaves(order)
        << accept(IP_CT_NEW, ident=42)
        >> leaves()
        << accept(IP_CT_NEW, ident=42, entries=2)
        >> pong(SERVER, CLIENT)
        << accept(IP_CT_ESTABLISHED_REPLY, ident=42)
        >> pong(CLIENT, SERVER)
        << accept(IP_CT_ESTABLISHED_REPLY, ident=42)
    )


def by_link(lan: tuple[int, int], wan: tuple[int, int]) -> list[RawRule]:
    return [
        RawRule(
            Match(in_interface=InterfaceNames([name])),
            zone_original=original,
            zone_reply=reply,
        )
        for name, (original, reply) in (("lan", lan), ("wan", wan))
    ]


def test_in_a_zone(family: int, order: int) -> None:
    play = Play(family, raw_rules=by_link((5, 5), (5, 5)))
    assert (
        play
        >> arrives(wireguard(CLIENT, SERVER))
        << accept(IP_CT_NEW)
        >> arrives(wireguard(SERVER, CLIENT))
        << accept(IP_CT_NEW)
        >> leaves(order)
        << accept(IP_CT_NEW, zones=(5, 5))
        >> leaves()
        << accept(IP_CT_ESTABLISHED_REPLY, zones=(5, 5), sport=PORT, entries=1)
    )


def test_in_two_zones_they_are_two_connections(family: int, order: int) -> None:
    play = Play(family, raw_rules=by_link((5, 5), (6, 6)))
    assert (
        play
        >> arrives(wireguard(CLIENT, SERVER))
        << accept(IP_CT_NEW)
        >> arrives(wireguard(SERVER, CLIENT))
        << accept(IP_CT_NEW)
        >> leaves(order)
        << accept(IP_CT_NEW, sport=PORT)
        >> leaves()
        << accept(IP_CT_NEW, sport=PORT, entries=2)
    )


def port_forward(family: int, *, random: bool = False) -> Play:
    """WireGuard on the client: its port on the router is forwarded, and what leaves is masqueraded."""
    return Play(family, [masquerade(random=random), forward(family, (PORT, PORT))])


@pytest.mark.parametrize("random", [False, True], ids=["port kept", "random"])
def test_through_a_port_forward_the_outside_first(family: int, random: bool) -> None:
    """The client's packet takes the translation of the connection that was confirmed before it."""
    play = port_forward(family, random=random)
    assert (
        play
        >> arrives(wireguard(CLIENT, SERVER))
        << accept(IP_CT_NEW)
        >> arrives(wireguard(SERVER, ROUTER))
        << accept(IP_CT_NEW, dst=CLIENT)
        >> leaves(1)
        << accept(IP_CT_NEW, dst=CLIENT, sport=PORT, dport=PORT)
        >> leaves()
        << accept(IP_CT_ESTABLISHED_REPLY, src=ROUTER, dst=SERVER, sport=PORT, dport=PORT, entries=1)
    )


def test_through_a_port_forward_the_inside_first(family: int) -> None:
    play = port_forward(family)
    assert (
        play
        >> arrives(wireguard(CLIENT, SERVER))
        << accept(IP_CT_NEW)
        >> arrives(wireguard(SERVER, ROUTER))
        << accept(IP_CT_NEW, dst=CLIENT)
        >> leaves()
        << accept(IP_CT_NEW, src=ROUTER, sport=PORT, dport=PORT, status=IPS_SRC_NAT)
        >> leaves()
        << accept(IP_CT_ESTABLISHED_REPLY, dst=CLIENT, sport=PORT, dport=PORT, entries=1)
    )


def test_translated_and_straight_at_once_are_two_connections(snat: Play) -> None:
    """The server writes to the private address. Its source would be the answer to a translated connection."""
    assert (
        snat
        >> arrives(wireguard(CLIENT, SERVER))
        << accept(IP_CT_NEW)
        >> arrives(wireguard(SERVER, CLIENT))
        << accept(IP_CT_NEW)
        >> leaves()
        << accept(IP_CT_NEW, src=ROUTER, sport=PORT)
        >> leaves()
        << accept(IP_CT_NEW, dst=CLIENT, entries=2)
    )
    assert snat.seen["sport"] != PORT, "the kernel changes it as well: the tuple of the answers is taken"


def test_a_packet_never_leaves_untranslated_because_the_other_end_was_first(snat: Play) -> None:
    """The kernel drops it too (insert_failed); its retransmission is a reply of the server's connection."""
    assert (
        snat
        >> arrives(wireguard(CLIENT, SERVER))
        << accept(IP_CT_NEW)
        >> arrives(wireguard(SERVER, CLIENT))
        << accept(IP_CT_NEW)
        >> leaves(1)
        << accept(IP_CT_NEW, dst=CLIENT, sport=PORT)
        >> leaves()
        << dropped(INSERT_FAILED)
    )


def test_an_unconfirmed_connection_holds_no_port(family: int) -> None:
    """Two hosts inside, one port: the one whose packet leaves first keeps it, not the first to arrive."""
    play = Play(family, [masquerade()])
    assert (
        play
        >> arrives(udp(CLIENT, SERVER, sport=5000))
        << accept(IP_CT_NEW)
        >> arrives(udp(NEIGHBOUR, SERVER, sport=5000))
        << accept(IP_CT_NEW)
        >> leaves(1)
        << accept(IP_CT_NEW, src=ROUTER, sport=5000)
        >> leaves()
        << accept(IP_CT_NEW, src=ROUTER)
    )
    assert play.seen["sport"] != 5000


def test_two_forwarded_ports_to_one_service(family: int) -> None:
    """Between the visits both look the same. The first to leave keeps its port, the other gets one of its own."""
    play = Play(family, [forward(family, (8000, 8001), 80)])
    assert (
        play
        >> arrives(udp(OTHER, ROUTER, sport=5000, dport=8000))
        << accept(IP_CT_NEW, dst=CLIENT, dport=80)
        >> arrives(udp(OTHER, ROUTER, sport=5000, dport=8001))
        << accept(IP_CT_NEW, dst=CLIENT, dport=80)
        >> leaves(1)
        << accept(IP_CT_NEW, sport=5000)
        >> leaves()
        << accept(IP_CT_NEW, entries=2)
    )
    assert play.seen["sport"] != 5000


def test_a_dropped_first_packet_keeps_no_tuple(play: Play) -> None:
    """Its first packet never leaves. The other end's first packet is a connection with its own port."""
    assert (
        play
        >> arrives(wireguard(CLIENT, SERVER))
        << accept(IP_CT_NEW)
        >> wireguard(SERVER, CLIENT)
        << accept(IP_CT_NEW, sport=PORT, dport=PORT)
        >> advance(12)
        >> wireguard(CLIENT, SERVER)
        << accept(IP_CT_ESTABLISHED_REPLY, entries=1)
    )
