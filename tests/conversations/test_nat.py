"""Source and destination NAT, as packets see it: what leaves, what comes back, what must not leave."""

import pytest

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import (
    IP_CT_ESTABLISHED,
    IP_CT_ESTABLISHED_REPLY,
    IP_CT_NEW,
    IP_CT_RELATED_REPLY,
    IPS_DST_NAT,
    IPS_DST_NAT_DONE,
    IPS_SRC_NAT,
    IPS_SRC_NAT_DONE,
    POST_ROUTING,
    PRE_ROUTING,
)
from conntrackd_py.match.address import Addresses
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.match.match import Match
from conntrackd_py.match.numbers import Numbers
from conntrackd_py.nat.range import Range
from conntrackd_py.nat.rules import NAT_ACCEPT, NAT_DNAT, NAT_SNAT, NatRule
from conntrackd_py.reasons import LEAK_GUARD, NAT_EXHAUSTED, NAT_NO_ADDRESS, NAT_OIF_CHANGED
from tests.support import packets
from tests.support.packets import valid
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
    Said,
    accept,
    advance,
    destroyed,
    dropped,
    error,
    ping,
    pong,
    raw,
    tcp,
    udp,
)
from tests.support.rules import masquerade

DONE = IPS_SRC_NAT_DONE | IPS_DST_NAT_DONE


def test_the_server_sees_the_router(snat: Play) -> None:
    assert (
        snat
        >> udp(CLIENT, SERVER, b"odd")
        << accept(
            IP_CT_NEW, src=ROUTER, sport=40000, dst=SERVER, dport=80, status=IPS_SRC_NAT | DONE, not_status=IPS_DST_NAT
        )
    )
    assert valid(snat.left)
    assert snat >> udp(SERVER, ROUTER, b"even") << accept(IP_CT_ESTABLISHED_REPLY, src=SERVER, dst=CLIENT, dport=40000)
    assert valid(snat.left)
    assert snat >> udp(CLIENT, SERVER) << accept(IP_CT_ESTABLISHED, src=ROUTER, sport=40000)


def test_tcp_keeps_its_checksums(snat: Play) -> None:
    for step in (
        tcp(CLIENT, SERVER, "S", seq=1),
        tcp(SERVER, ROUTER, "SA", seq=9, ack=2),
        tcp(CLIENT, SERVER, "PA", seq=2, ack=10, data=b"GET / HTTP/1.0\r\n\r\n"),
    ):
        assert snat >> step << accept()
        assert valid(snat.left)


def test_two_clients_with_the_same_port(snat: Play) -> None:
    """The second one gets another port, of the same class; each answer finds its own."""
    assert (
        snat
        >> udp(CLIENT, SERVER)
        << accept(src=ROUTER, sport=40000)
        >> udp(NEIGHBOUR, SERVER)
        << accept(IP_CT_NEW, src=ROUTER, status=IPS_SRC_NAT)
    )
    other = snat.seen["sport"]
    assert isinstance(other, int)
    assert other != 40000
    assert other >= 1024
    assert (
        snat
        >> udp(SERVER, ROUTER, dport=other)
        << accept(IP_CT_ESTABLISHED_REPLY, dst=NEIGHBOUR, dport=40000)
        >> udp(SERVER, ROUTER)
        << accept(IP_CT_ESTABLISHED_REPLY, dst=CLIENT, dport=40000)
    )


def test_the_same_port_to_another_destination_is_no_collision(snat: Play) -> None:
    assert (
        snat
        >> udp(CLIENT, SERVER)
        << accept(sport=40000)
        >> udp(NEIGHBOUR, OTHER)
        << accept(src=ROUTER, sport=40000, dst=OTHER)
    )


def test_a_privileged_port_stays_privileged(snat: Play) -> None:
    assert snat >> udp(CLIENT, SERVER, sport=500) << accept(sport=500) >> udp(NEIGHBOUR, SERVER, sport=500) << accept()
    port = snat.seen["sport"]
    assert isinstance(port, int)
    assert 1 <= port <= 511
    assert port != 500


def test_ping_identifiers_are_kept_apart(snat: Play) -> None:
    assert (
        snat
        >> ping(CLIENT, SERVER, ident=42)
        << accept(IP_CT_NEW, src=ROUTER, ident=42)
        >> ping(NEIGHBOUR, SERVER, ident=42)
        << accept(IP_CT_NEW, src=ROUTER)
    )
    other = snat.seen["ident"]
    assert isinstance(other, int)
    assert other != 42
    assert valid(snat.left)
    assert snat >> pong(SERVER, ROUTER, ident=other) << accept(IP_CT_ESTABLISHED_REPLY, dst=NEIGHBOUR, ident=42)
    assert valid(snat.left)
    assert snat >> pong(SERVER, ROUTER, ident=42) << accept(IP_CT_ESTABLISHED_REPLY, dst=CLIENT, ident=42)


def test_an_error_is_translated_inside_and_out(snat: Play) -> None:
    """The client must recognise the packet it sent, in the header that the error quotes."""
    quoted = udp(ROUTER, SERVER, b"query")  # what the server saw
    assert (
        snat
        >> udp(CLIENT, SERVER, b"query")
        << accept(IP_CT_NEW, src=ROUTER)
        >> error(SERVER, ROUTER, quoted)
        << accept(IP_CT_RELATED_REPLY, src=SERVER, dst=CLIENT)
    )
    assert valid(snat.left)
    inner = snat.left[28:] if snat.family == 4 else snat.left[48:]
    sent = udp(CLIENT, SERVER, b"query").bytes_for(snat.family)
    assert inner == sent[: len(inner)]


def test_an_error_about_an_answer_hides_the_inside(snat: Play) -> None:
    answer = udp(SERVER, CLIENT, b"response")  # what the client saw
    assert (
        snat
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_NEW)
        >> udp(SERVER, ROUTER, b"response")
        << accept(IP_CT_ESTABLISHED_REPLY, dst=CLIENT)
        >> error(CLIENT, SERVER, answer)
        << accept(src=ROUTER, dst=SERVER)
    )
    assert valid(snat.left)
    inner = snat.left[28:] if snat.family == 4 else snat.left[48:]
    sent = udp(SERVER, ROUTER, b"response").bytes_for(snat.family)
    assert inner == sent[: len(inner)]


def test_a_service_inside_is_reached_by_the_router(dnat: Play) -> None:
    syn = tcp(SERVER, ROUTER, "S", seq=1, sport=5555, dport=8080)
    assert dnat >> syn << accept(IP_CT_NEW, src=SERVER, dst=CLIENT, dport=80, status=IPS_DST_NAT | DONE)
    assert valid(dnat.left)
    answer = tcp(CLIENT, SERVER, "SA", seq=9, ack=2, sport=80, dport=5555)
    assert dnat >> answer << accept(IP_CT_ESTABLISHED_REPLY, src=ROUTER, sport=8080, dst=SERVER, dport=5555)
    assert valid(dnat.left)
    last = tcp(SERVER, ROUTER, "A", seq=2, ack=10, sport=5555, dport=8080)
    assert dnat >> last << accept(IP_CT_ESTABLISHED, dst=CLIENT, dport=80, state="ESTABLISHED")


def test_the_router_itself_is_left_as_it_is(snat: Play) -> None:
    """Its own address needs no translation, and answers reach it."""
    assert (
        snat
        >> udp(ROUTER, SERVER)
        << accept(IP_CT_NEW, src=ROUTER, sport=40000, not_status=IPS_SRC_NAT)
        >> udp(SERVER, ROUTER)
        << accept(IP_CT_ESTABLISHED_REPLY, dst=ROUTER)
    )


def test_the_router_and_a_client_do_not_share_a_port(snat: Play) -> None:
    assert snat >> udp(ROUTER, SERVER) << accept(sport=40000) >> udp(CLIENT, SERVER) << accept(IP_CT_NEW, src=ROUTER)
    assert snat.seen["sport"] != 40000


def test_nothing_invalid_leaks(snat: Play) -> None:
    """A stray packet without a connection keeps its private source, so it does not leave."""
    assert snat >> pong(CLIENT, SERVER) << dropped(LEAK_GUARD)
    assert snat >> tcp(CLIENT, SERVER, "R", seq=5) << dropped(LEAK_GUARD)
    assert snat >> tcp(CLIENT, NEIGHBOUR, "R", seq=5) << accept()  # towards the inside no rule covers it


def test_the_leak_guard_can_be_switched_off(snat: Play) -> None:
    snat.engine.nat.leak_guard = False
    assert snat >> pong(CLIENT, SERVER) << accept(src=CLIENT)


def test_the_routers_own_stray_packets_may_leave(snat: Play) -> None:
    assert snat >> tcp(ROUTER, SERVER, "R", seq=5) << accept(src=ROUTER)


def snat_to(family: int, low: str, high: str, ports: tuple[int, int] = (0, 0), **more: bool) -> NatRule:
    addresses = (low, high) if family == 4 else (low.replace("203.0.113.", "2001:db8:1::"),) * 2
    first, last = (packets.address(a) for a in addresses)
    return NatRule(NAT_SNAT, Match(out_interface=InterfaceNames(["wan"])), Range(first, last, *ports, **more))


def test_a_port_range_that_runs_out(family: int) -> None:
    """The fifth connection to the same destination is dropped and counted; the others are not disturbed."""
    play = Play(family, [snat_to(family, "203.0.113.1", "203.0.113.1", (5000, 5003))])
    ports = set()
    for sport in range(1000, 1004):
        assert play >> udp(CLIENT, SERVER, sport=sport) << accept(IP_CT_NEW, src=ROUTER)
        ports.add(play.seen["sport"])
    assert ports == {5000, 5001, 5002, 5003}
    assert play >> udp(CLIENT, SERVER, sport=1004) << dropped(NAT_EXHAUSTED)
    assert play.engine.core.stats.nat_allocation_failures == 1
    assert play >> udp(CLIENT, OTHER, sport=1004) << accept(IP_CT_NEW, src=ROUTER)


def test_one_source_keeps_its_mapping(family: int) -> None:
    """Towards another destination the same inside port is the same outside port, while it is free there."""
    play = Play(family, [snat_to(family, "203.0.113.1", "203.0.113.1", (5000, 5999))])
    assert play >> udp(CLIENT, SERVER) << accept(src=ROUTER)
    first = play.seen["sport"]
    assert play >> udp(CLIENT, OTHER) << accept(src=ROUTER, sport=first)


def test_random_ports_are_not_the_originals(family: int) -> None:
    play = Play(family, [snat_to(family, "203.0.113.1", "203.0.113.1", random=True)])
    for sport in range(40000, 40010):
        assert play >> udp(CLIENT, SERVER, sport=sport) << accept(IP_CT_NEW, src=ROUTER)
        assert play.seen["sport"] != sport


def test_an_address_range_spreads_sources_and_stays_put() -> None:
    play = Play(4, [snat_to(4, "203.0.113.1", "203.0.113.8")])
    chosen = set()
    for last in range(10, 60):
        client = f"192.168.1.{last}"
        for sport in (1000, 2000):
            data = packets.udp(client, SERVER.v4, sport, 53)
            assert play >> raw(CLIENT, data) << accept()
            chosen.add(play.seen["src"])
            if sport == 1000:
                first = play.seen["src"]
            assert play.seen["src"] == first
    assert len(chosen) == 8


def test_an_exempt_destination(family: int) -> None:
    """ACCEPT before MASQUERADE, as in iptables."""
    vpn = packets.address(OTHER.v4 if family == 4 else OTHER.v6)
    exempt = NatRule(NAT_ACCEPT, Match(out_interface=InterfaceNames(["wan"]), destination=Addresses([vpn, vpn])))
    play = Play(family, [exempt, masquerade()])
    assert play >> udp(CLIENT, OTHER) << accept(src=CLIENT, not_status=IPS_SRC_NAT)
    assert play >> udp(CLIENT, SERVER) << accept(src=ROUTER)


def test_masquerade_without_an_address(family: int) -> None:
    play = Play(family, [masquerade()])
    play.engine.set_interface(WAN, "wan", [], play.now)
    assert play >> udp(CLIENT, SERVER) << dropped(NAT_NO_ADDRESS)
    assert len(play.engine.core.table) == 0


def test_masqueraded_connections_end_with_their_address(snat: Play) -> None:
    """And nothing else does: the next packet is a new connection with the new address."""
    assert snat >> udp(CLIENT, SERVER) << accept(src=ROUTER) >> udp(CLIENT, NEIGHBOUR) << accept()
    new = packets.address(OTHER.v4 if snat.family == 4 else OTHER.v6)
    snat.engine.set_interface(WAN, "wan", [new], snat.now)
    assert snat >> advance(0) << destroyed("address_gone")
    assert len(snat.engine.core.table) == 1
    assert snat >> udp(CLIENT, SERVER) << accept(IP_CT_NEW, src=OTHER)


def test_a_masqueraded_connection_rerouted_elsewhere_is_not_leaked(snat: Play) -> None:
    """The packet that finds its route changed is dropped, the connection ends, the next one starts right."""
    assert snat >> udp(CLIENT, SERVER) << accept(src=ROUTER)
    snat.engine.set_interface(9, "backup", [], snat.now)
    first = Skb(udp(CLIENT, SERVER).bytes_for(snat.family), 0, LAN, 0)
    snat.engine.handle(first, PRE_ROUTING, snat.now)
    second = Skb(first.data, first.mark, LAN, 9)
    assert snat.engine.handle(second, POST_ROUTING, snat.now) == 0
    assert second.reason == NAT_OIF_CHANGED
    assert snat >> udp(CLIENT, SERVER) << accept(IP_CT_NEW, src=ROUTER)


def test_a_connection_bound_before_its_rule_applied_is_not_leaked(family: int) -> None:
    """Bound towards an interface without a rule, then rerouted to one with: ended, not leaked."""
    play = Play(family, [masquerade()])
    play.engine.set_interface(9, "backup", [], play.now)
    for outdev, verdict in ((9, 1), (WAN, 0)):
        first = Skb(udp(CLIENT, SERVER).bytes_for(family), 0, LAN, 0)
        play.engine.handle(first, PRE_ROUTING, play.now)
        second = Skb(first.data, first.mark, LAN, outdev)
        assert play.engine.handle(second, POST_ROUTING, play.now) == verdict
    assert second.reason == NAT_OIF_CHANGED


def test_a_changed_port_is_no_translated_source(family: int) -> None:
    """A null binding changed the port of a connection. Rerouted to an interface with a source rule, it ends as well."""
    play = Play(family, [masquerade()])
    play.engine.set_interface(9, "backup", [], play.now)
    to = packets.address(SERVER.v4 if family == 4 else SERVER.v6)
    play.engine.nat.replace_rules(
        [
            masquerade(),
            NatRule(NAT_DNAT, Match(proto=Numbers([17, 17]), dport=Numbers([81, 81])), Range(to, to, 80, 80)),
        ]
    )

    def cross(said: Said, outdev: int) -> tuple[int, Skb]:
        first = Skb(said.bytes_for(family), 0, LAN, 0)
        play.engine.handle(first, PRE_ROUTING, play.now)
        second = Skb(first.data, first.mark, LAN, outdev)
        return play.engine.handle(second, POST_ROUTING, play.now), second

    assert cross(udp(CLIENT, SERVER, dport=80), 9)[0] == 1
    verdict, second = cross(udp(CLIENT, SERVER, dport=81), 9)
    assert verdict == 1
    assert second.ct is not None
    assert second.ct.status & IPS_SRC_NAT
    answer = udp(SERVER, CLIENT, sport=80, dport=tuples.l4dst(second.ct.reply))
    verdict, second = cross(error(CLIENT, SERVER, answer), WAN)
    assert (verdict, second.reason) == (0, LEAK_GUARD)
    verdict, second = cross(udp(CLIENT, SERVER, dport=81), WAN)
    assert (verdict, second.reason) == (0, NAT_OIF_CHANGED)


@pytest.mark.parametrize("hostname", [INSIDE, ROUTER], ids=["lan address", "wan address"])
def test_a_client_may_talk_to_the_router(snat: Play, hostname: Host) -> None:
    assert (
        snat
        >> udp(CLIENT, hostname, dport=53)
        << accept(IP_CT_NEW, src=CLIENT, dst=hostname)
        >> udp(hostname, CLIENT, sport=53)
        << accept(IP_CT_ESTABLISHED_REPLY, src=hostname, dst=CLIENT)
    )


def test_an_error_about_an_untranslated_connection_does_not_leak_its_sender(snat: Play) -> None:
    """A host inside sends it about the router's own connection. The kernel lets it out with its private address."""
    query = udp(ROUTER, SERVER, b"query")
    answer = udp(SERVER, ROUTER, b"answer")
    assert (
        snat
        >> query
        << accept(IP_CT_NEW, src=ROUTER)
        >> answer
        << accept(IP_CT_ESTABLISHED_REPLY)
        >> error(CLIENT, SERVER, answer)
        << dropped(LEAK_GUARD)
        >> error(ROUTER, SERVER, answer)
        << accept(src=ROUTER)
    )
