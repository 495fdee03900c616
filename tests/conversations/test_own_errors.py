"""The router's own ICMP errors belong to the connection of the packet they quote (nf_ct_attach).

The router quotes a packet as it is between its two visits: the destination is translated, the source not yet.
Traceroute and path MTU discovery depend on these errors, and a filter at OUTPUT may drop what is INVALID.
"""

import pytest

from conntrackd_py.const import IP_CT_ESTABLISHED_REPLY, IP_CT_INVALID, IP_CT_NEW, IP_CT_RELATED, IP_CT_RELATED_REPLY
from conntrackd_py.engine.raw_mangle import RawRule
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.match.match import Match
from conntrackd_py.nat.rules import NAT_MASQUERADE, NatRule
from conntrackd_py.reasons import ICMP_UNRELATED, NAT_MANIP
from tests.support.play import (
    CLIENT,
    INSIDE,
    ROUTER,
    SERVER,
    Host,
    Play,
    Said,
    accept,
    arrives,
    dropped,
    error,
    invalid,
    leaves,
    tcp,
    udp,
)
from tests.support.rules import masquerade, web_server_inside

PROBE = udp(CLIENT, SERVER, b"probe", dport=33434)


def exceeded(sender: Host, receiver: Host, about: Said) -> Said:
    """Time exceeded in transit."""
    return error(sender, receiver, about, v4=(11, 0), v6=(3, 0))


def too_big(sender: Host, receiver: Host, about: Said) -> Said:
    return error(sender, receiver, about, v4=(3, 4), v6=(2, 0))


def quoted(play: Play) -> bytes:
    """The packet that the error which left last quotes."""
    return play.left[28:] if play.family == 4 else play.left[48:]


def starts_like(play: Play, said: Said) -> bool:
    return said.bytes_for(play.family).startswith(quoted(play))


@pytest.fixture(params=["plain", "masqueraded"])
def router(request: pytest.FixtureRequest, family: int) -> Play:
    return Play(family, [masquerade()] if request.param == "masqueraded" else [])


def test_traceroute(router: Play) -> None:
    """The probe expires in the router. Its connection never leaves the unconfirmed list."""
    assert (
        router
        >> arrives(PROBE)
        << accept(IP_CT_NEW)
        >> exceeded(INSIDE, CLIENT, PROBE)
        << accept(IP_CT_RELATED_REPLY, src=INSIDE, dst=CLIENT, entries=1)
    )
    assert starts_like(router, PROBE)


def test_about_a_packet_of_a_confirmed_connection(router: Play) -> None:
    """With source NAT the quoted packet still shows the inside address, which no reply tuple has."""
    assert (
        router
        >> PROBE
        << accept(IP_CT_NEW)
        >> too_big(INSIDE, CLIENT, PROBE)
        << accept(IP_CT_RELATED_REPLY, dst=CLIENT)
    )
    assert starts_like(router, PROBE)


def test_about_an_answer(snat: Play) -> None:
    """It goes to the outside: the server must find the packet it sent in it, and not the client's address."""
    answer = udp(SERVER, ROUTER, b"answer", sport=33434)
    assert snat >> PROBE << accept(IP_CT_NEW) >> arrives(answer) << accept(IP_CT_ESTABLISHED_REPLY)
    between = udp(SERVER, CLIENT, b"answer", sport=33434)
    assert snat >> too_big(INSIDE, SERVER, between) << accept(IP_CT_RELATED, src=ROUTER, dst=SERVER)
    assert starts_like(snat, answer)


@pytest.mark.parametrize("confirmed", [False, True], ids=["first packet", "later packet"])
@pytest.mark.parametrize("masquerading", [False, True], ids=["forwarded port", "and masqueraded inside"])
def test_about_a_packet_whose_destination_was_translated(family: int, confirmed: bool, masquerading: bool) -> None:
    """The outside sees the error come from the address it wrote to, about the packet it sent."""
    inwards = NatRule(NAT_MASQUERADE, Match(out_interface=InterfaceNames(["lan"])))
    play = Play(family, [web_server_inside(family), *([inwards] if masquerading else [])])
    syn = tcp(SERVER, ROUTER, "S", seq=1, sport=5555, dport=8080)
    assert play >> (syn if confirmed else arrives(syn)) << accept(IP_CT_NEW)
    between = tcp(SERVER, CLIENT, "S", seq=1, sport=5555, dport=80)
    assert play >> exceeded(INSIDE, SERVER, between) << accept(IP_CT_RELATED_REPLY, src=ROUTER, dst=SERVER)
    assert starts_like(play, syn)


def test_about_an_answer_that_is_translated_at_both_ends(family: int) -> None:
    inwards = NatRule(NAT_MASQUERADE, Match(out_interface=InterfaceNames(["lan"])))
    play = Play(family, [web_server_inside(family), inwards])
    assert play >> tcp(SERVER, ROUTER, "S", seq=1, sport=5555, dport=8080) << accept(IP_CT_NEW, src=INSIDE)
    answer = tcp(CLIENT, INSIDE, "SA", seq=9, ack=2, sport=80, dport=5555)
    assert play >> arrives(answer) << accept(IP_CT_ESTABLISHED_REPLY)
    between = tcp(CLIENT, SERVER, "SA", seq=9, ack=2, sport=80, dport=5555)
    assert play >> exceeded(INSIDE, CLIENT, between) << accept(IP_CT_RELATED, src=INSIDE, dst=CLIENT)
    assert starts_like(play, answer)


@pytest.mark.parametrize("confirmed", [False, True], ids=["first packet", "later packet"])
def test_in_a_zone_that_the_error_itself_is_not_in(family: int, confirmed: bool) -> None:
    """A raw rule gave the zone by the interface the packet came in by; an error of the router's own has none."""
    lan = Match(in_interface=InterfaceNames(["lan"]))
    play = Play(family, raw_rules=[RawRule(lan, zone_original=7, zone_reply=7)])
    assert play >> (PROBE if confirmed else arrives(PROBE)) << accept(IP_CT_NEW, zones=(7, 7))
    assert play >> exceeded(INSIDE, CLIENT, PROBE) << accept(IP_CT_RELATED_REPLY, zones=(7, 7))


def test_about_nothing_known_it_is_invalid(router: Play) -> None:
    assert router >> exceeded(INSIDE, CLIENT, PROBE) << invalid(ICMP_UNRELATED)


def test_from_another_host_only_a_confirmed_connection_counts(play: Play) -> None:
    """As in the kernel: no host has seen a packet that has not left."""
    assert play >> arrives(PROBE) << accept(IP_CT_NEW) >> exceeded(SERVER, CLIENT, PROBE) << invalid(ICMP_UNRELATED)


def test_it_changes_nothing(router: Play) -> None:
    """It neither confirms nor binds nor answers; the packet that it is about may still leave."""
    assert (
        router >> arrives(PROBE) << accept(IP_CT_NEW) >> exceeded(INSIDE, CLIENT, PROBE) << accept(IP_CT_RELATED_REPLY)
    )
    assert router.ct is not None
    assert not router.ct.confirmed
    assert router >> leaves() << accept(IP_CT_NEW, dst=SERVER, dport=33434, timeout=30)


@pytest.mark.parametrize("confirmed", [False, True], ids=["first packet", "later packet"])
def test_a_redirect_about_a_translation_is_dropped(confirmed: bool) -> None:
    """A first packet counts as translated until its source is settled."""
    play = Play(4, [masquerade()] if confirmed else [])
    redirect = error(INSIDE, CLIENT, PROBE, v4=(5, 1))
    assert play >> (PROBE if confirmed else arrives(PROBE)) << accept(IP_CT_NEW) >> redirect << dropped(NAT_MANIP)


def from_the_router(said: Said) -> Said:
    """The router makes it in the other end's name."""
    said.sender = INSIDE
    return said


def test_a_reset_for_a_rejected_first_packet(play: Play) -> None:
    """`-j REJECT --reject-with tcp-reset` in the administrator's FORWARD chain."""
    assert play >> arrives(tcp(CLIENT, SERVER, "S", seq=1)) << accept(IP_CT_NEW)
    reset = from_the_router(tcp(SERVER, CLIENT, "RA", ack=2))
    assert play >> reset << accept(IP_CT_RELATED_REPLY, src=SERVER, entries=1)


def test_a_reset_for_a_rejected_first_packet_to_a_forwarded_port(family: int) -> None:
    play = Play(family, [web_server_inside(family)])
    assert play >> arrives(tcp(SERVER, ROUTER, "S", seq=1, sport=5555, dport=8080)) << accept(IP_CT_NEW)
    reset = from_the_router(tcp(CLIENT, SERVER, "RA", ack=2, sport=80, dport=5555))
    assert play >> reset << accept(IP_CT_RELATED_REPLY, src=ROUTER, entries=1)


def test_a_syn_of_the_router_is_no_reset(play: Play) -> None:
    """It starts a connection, also with the tuple of the answers to an unconfirmed one."""
    assert play >> arrives(tcp(CLIENT, SERVER, "S", seq=1)) << accept(IP_CT_NEW)
    assert play >> from_the_router(tcp(SERVER, CLIENT, "S", seq=9)) << accept(IP_CT_NEW, entries=2)


def test_a_reset_about_nothing_known_is_invalid(play: Play) -> None:
    reset = tcp(SERVER, CLIENT, "RA", ack=2)
    reset.sender = INSIDE
    assert play >> reset << accept(IP_CT_INVALID, entries=0)


def test_the_router_itself_may_send_first(play: Play) -> None:
    """Its packet is no error: it begins a connection, and the one under way joins it or the other way round."""
    assert (
        play
        >> arrives(udp(CLIENT, INSIDE, sport=500, dport=500))
        << accept(IP_CT_NEW)
        >> udp(INSIDE, CLIENT, sport=500, dport=500)
        << accept(IP_CT_NEW, sport=500, dport=500)
        >> leaves()
        << accept(IP_CT_ESTABLISHED_REPLY, sport=500, entries=1)
    )
