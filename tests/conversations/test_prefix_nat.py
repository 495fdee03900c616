"""NETMAP, SNPT and DNPT: a network becomes another network, the host in it stays."""

import pytest

from conntrackd_py.const import IP_CT_ESTABLISHED_REPLY, IP_CT_NEW, IP_CT_RELATED_REPLY, IPS_DST_NAT, IPS_SRC_NAT
from conntrackd_py.reasons import LEAK_GUARD, NAT_NO_ADDRESS
from conntrackd_py.wire import checksum
from tests.support.nat import NEUTRAL, OUTER, both_ways
from tests.support.packets import valid
from tests.support.play import (
    CLIENT,
    LAN,
    NEIGHBOUR,
    SERVER,
    Host,
    Play,
    accept,
    dropped,
    error,
    ping,
    pong,
    tcp,
    udp,
)


@pytest.fixture(params=["v4", "v6", "nptv6"])
def mapped(request: pytest.FixtureRequest) -> tuple[Play, Host]:
    """The router, and the client as hosts outside see it."""
    if request.param == "nptv6":
        return both_ways(6, "SNPT", "DNPT"), NEUTRAL
    return both_ways(4 if request.param == "v4" else 6), OUTER


def test_the_inside_network_appears_as_the_outer_one(mapped: tuple[Play, Host]) -> None:
    play, outer = mapped
    assert play >> udp(CLIENT, SERVER, b"odd") << accept(IP_CT_NEW, src=outer, sport=40000, status=IPS_SRC_NAT)
    assert valid(play.left)
    assert play >> udp(SERVER, outer, b"even") << accept(IP_CT_ESTABLISHED_REPLY, dst=CLIENT, dport=40000)
    assert valid(play.left)


def test_a_host_inside_is_reached_by_its_outer_address(mapped: tuple[Play, Host]) -> None:
    play, outer = mapped
    assert play >> tcp(SERVER, outer, "S", seq=1) << accept(IP_CT_NEW, dst=CLIENT, status=IPS_DST_NAT)
    assert valid(play.left)
    answer = tcp(CLIENT, SERVER, "SA", seq=9, ack=2)
    assert play >> answer << accept(IP_CT_ESTABLISHED_REPLY, src=outer, sport=40000, dst=SERVER)
    assert valid(play.left)


def test_both_hosts_keep_their_ports(mapped: tuple[Play, Host]) -> None:
    """With another address each, there is no collision."""
    play, _ = mapped
    assert play >> udp(CLIENT, SERVER) << accept(sport=40000) >> udp(NEIGHBOUR, SERVER) << accept(sport=40000)


def test_pings_and_errors_are_translated_inside_and_out(mapped: tuple[Play, Host]) -> None:
    play, outer = mapped
    assert play >> ping(CLIENT, SERVER) << accept(IP_CT_NEW, src=outer, ident=42)
    assert valid(play.left)
    assert play >> pong(SERVER, outer) << accept(IP_CT_ESTABLISHED_REPLY, dst=CLIENT, ident=42)
    assert play >> udp(CLIENT, SERVER, b"query") << accept(IP_CT_NEW, src=outer)
    quoted = udp(outer, SERVER, b"query")
    assert play >> error(SERVER, outer, quoted) << accept(IP_CT_RELATED_REPLY, src=SERVER, dst=CLIENT)
    assert valid(play.left)
    sent = udp(CLIENT, SERVER, b"query").bytes_for(play.family)
    inner = play.left[28 if play.family == 4 else 48 :]
    assert inner == sent[: len(inner)]


def test_an_error_about_a_packet_from_outside_hides_the_inside(mapped: tuple[Play, Host]) -> None:
    play, outer = mapped
    assert play >> udp(SERVER, outer, b"hello") << accept(IP_CT_NEW, dst=CLIENT)
    quoted = udp(SERVER, CLIENT, b"hello")
    assert play >> error(CLIENT, SERVER, quoted) << accept(IP_CT_RELATED_REPLY, src=outer, dst=SERVER)
    assert valid(play.left)


def test_what_has_no_connection_does_not_leak(mapped: tuple[Play, Host]) -> None:
    play, _ = mapped
    assert play >> pong(CLIENT, SERVER) << dropped(LEAK_GUARD)


def test_nptv6_changes_no_checksum_of_a_higher_layer() -> None:
    play = both_ways(6, "SNPT", "DNPT")
    said = udp(CLIENT, SERVER, b"query")
    assert play >> said << accept(src=NEUTRAL)
    sent = said.bytes_for(6)
    assert play.left[40:] == sent[40:]
    assert checksum.total(play.left[8:24]) == checksum.total(sent[8:24])


def test_an_address_that_nptv6_cannot_translate_is_dropped() -> None:
    odd = Host("odd", "", "fd00:1::ffff:ffff:ffff:ffff", LAN, 40000)
    assert both_ways(6, "SNPT", "DNPT") >> udp(odd, SERVER) << dropped(NAT_NO_ADDRESS)


def test_a_reload_leaves_what_agrees_and_finds_what_does_not(mapped: tuple[Play, Host]) -> None:
    play, _ = mapped
    assert play >> udp(CLIENT, SERVER) << accept()
    assert play.ct is not None
    assert play.engine.stale().why(play.ct, play.now) == 0
    play.engine.nat.replace_rules([])
    assert play.engine.stale().why(play.ct, play.now) == 1
