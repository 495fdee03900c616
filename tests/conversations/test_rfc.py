"""profile = "rfc": the timers and the behaviour that the NAT RFCs ask for and the kernel does not have."""

import tomllib
from dataclasses import asdict

import pytest

from conntrackd_py.const import IP_CT_ESTABLISHED_REPLY, IP_CT_NEW, IP_CT_RELATED_REPLY
from conntrackd_py.settings.load import parse
from tests.support.play import (
    CLIENT,
    NEIGHBOUR,
    OTHER,
    ROUTER,
    SERVER,
    Play,
    accept,
    advance,
    destroyed,
    error,
    ping,
    pong,
    tcp,
    udp,
)

TEXT = 'profile = "rfc"\n[[nat]]\naction = "MASQUERADE"\nfamily = "any"\nout_interface = "wan"\n'


@pytest.fixture
def rfc(family: int) -> Play:
    settings = parse(tomllib.loads(TEXT), "FILE")
    return Play(family, list(settings.nat), tcp=settings.tcp_tracker, **asdict(settings.tunables))


def test_udp_lives_for_five_minutes(rfc: Play) -> None:
    assert rfc >> udp(CLIENT, SERVER) << accept(timeout=300)
    assert rfc >> udp(SERVER, ROUTER) << accept(timeout=300, dst=CLIENT)
    assert rfc >> advance(299)
    assert rfc >> udp(CLIENT, SERVER) << accept(timeout=300)
    assert rfc >> advance(301) << destroyed()


def test_icmp_lives_for_a_minute(rfc: Play) -> None:
    assert rfc >> ping(CLIENT, SERVER) << accept(timeout=60)


def test_tcp_timers(rfc: Play) -> None:
    """Transitory 4 min, established 2 h 4 min, 4 min after a RST."""
    assert rfc >> tcp(CLIENT, SERVER, "S", seq=1) << accept(timeout=240)
    assert rfc >> tcp(SERVER, ROUTER, "SA", seq=9, ack=2) << accept(timeout=7440)
    assert rfc >> tcp(SERVER, ROUTER, "R", seq=10) << accept(timeout=240)
    assert rfc >> tcp(CLIENT, SERVER, "A", seq=2, ack=10) << accept(timeout=7440)


@pytest.mark.parametrize("syn", [True, False], ids=["tcp", "udp"])
def test_an_error_ends_and_refreshes_nothing(rfc: Play, syn: bool) -> None:
    first = tcp(CLIENT, SERVER, "S", seq=1) if syn else udp(CLIENT, SERVER)
    assert rfc >> first << accept(src=ROUTER)
    left = rfc.seen["timeout"]
    assert isinstance(left, float)
    assert rfc >> advance(100)
    quoted = tcp(ROUTER, SERVER, "S", seq=1) if syn else udp(ROUTER, SERVER)
    assert rfc >> error(OTHER, ROUTER, quoted) << accept(IP_CT_RELATED_REPLY, dst=CLIENT, timeout=left - 100, entries=1)


def test_an_error_about_a_hairpin(rfc: Play) -> None:
    """It comes from the outer address of the host that answers (RFC 5508, requirement 7)."""
    assert rfc >> udp(CLIENT, SERVER) << accept(src=ROUTER, sport=40000)
    assert rfc >> udp(NEIGHBOUR, ROUTER, b"query", sport=7) << accept(src=ROUTER, sport=7, dst=CLIENT)
    quoted = udp(ROUTER, CLIENT, b"query", sport=7)
    assert rfc >> error(CLIENT, ROUTER, quoted) << accept(IP_CT_RELATED_REPLY, src=ROUTER, dst=NEIGHBOUR)


def test_an_identifier_is_kept_for_all_destinations(rfc: Play) -> None:
    assert rfc >> ping(NEIGHBOUR, SERVER, 42) << accept(src=ROUTER, ident=42)
    assert rfc >> ping(CLIENT, SERVER, 42) << accept(src=ROUTER)
    ident = rfc.seen["ident"]
    assert isinstance(ident, int)
    assert rfc >> ping(CLIENT, OTHER, 42) << accept(src=ROUTER, ident=ident)
    assert rfc >> pong(OTHER, ROUTER, ident) << accept(IP_CT_ESTABLISHED_REPLY, dst=CLIENT, ident=42)


def test_packets_from_inside_refresh(rfc: Play) -> None:
    assert rfc >> udp(CLIENT, SERVER) << accept(src=ROUTER)
    for _ in range(3):
        assert rfc >> advance(250)
        assert rfc >> udp(CLIENT, SERVER) << accept(IP_CT_NEW, timeout=300)


def test_mapping_filtering_and_hairpin_are_the_defaults(rfc: Play) -> None:
    assert rfc >> udp(CLIENT, SERVER) << accept(src=ROUTER, sport=40000)
    assert rfc >> udp(SERVER, ROUTER, sport=81) << accept(dst=CLIENT)
    assert rfc >> udp(NEIGHBOUR, ROUTER, sport=7) << accept(src=ROUTER, dst=CLIENT)


def test_a_port_is_kept_in_its_class(rfc: Play) -> None:
    assert rfc >> udp(CLIENT, SERVER, sport=500) << accept(sport=500)
    assert rfc >> udp(NEIGHBOUR, SERVER, sport=500) << accept(src=ROUTER)
    port = rfc.seen["sport"]
    assert isinstance(port, int)
    assert 0 < port < 512
