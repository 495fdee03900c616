"""TFTP: the server answers from another port, through NAT in both roles."""

import pytest

from conntrackd_py.const import IP_CT_NEW, IP_CT_RELATED, IPPROTO_UDP, IPS_DST_NAT, IPS_EXPECTED, IPS_HELPER
from conntrackd_py.helpers.tftp import Tftp
from conntrackd_py.nat.rules import NatRule
from tests.support.control import assigned, expected
from tests.support.play import CLIENT, NEIGHBOUR, OTHER, ROUTER, SERVER, Play, accept, udp
from tests.support.rules import forward, masquerade

TFTP = 69
READ, WRITE = b"\0\1file\0octet\0", b"\0\2file\0octet\0"
DATA = b"\0\3\0\1text"


def tftp(family: int, rules: list[NatRule] | None = None) -> Play:
    return Play(family, rules, raw_rules=assigned("tftp", TFTP, protonum=IPPROTO_UDP), helpers=(Tftp,))


@pytest.mark.parametrize("request_", [READ, WRITE])
def test_the_answer_comes_from_another_port(family: int, request_: bytes) -> None:
    assert (
        tftp(family)
        >> udp(CLIENT, SERVER, request_, dport=TFTP)
        << accept(IP_CT_NEW, status=IPS_HELPER)
        >> udp(OTHER, CLIENT, DATA, sport=3000)
        << accept(IP_CT_NEW)
        >> udp(SERVER, CLIENT, DATA, sport=3000)
        << accept(IP_CT_RELATED, status=IPS_EXPECTED)
        >> udp(SERVER, CLIENT, DATA, sport=3001)
        << accept(IP_CT_NEW)
    )


@pytest.mark.parametrize("payload", [b"\0\1a", b"\0\3abc", b"", b"\1\0abc"])
def test_other_datagrams_announce_nothing(family: int, payload: bytes) -> None:
    play = tftp(family)
    assert play >> udp(CLIENT, SERVER, payload, dport=TFTP) << accept()
    assert expected(play) == []


def test_a_repeated_request_expects_once(family: int) -> None:
    play = tftp(family)
    for _ in range(3):
        assert play >> udp(CLIENT, SERVER, READ, dport=TFTP) << accept()
    assert len(expected(play)) == 1


def test_behind_a_router(family: int) -> None:
    """Two clients with the same port: the second one has another port outside, and its answer comes there."""
    play = tftp(family, [masquerade()])
    assert play >> udp(CLIENT, SERVER, READ, dport=TFTP) << accept(src=ROUTER, sport=40000)
    assert play >> udp(NEIGHBOUR, SERVER, READ, dport=TFTP) << accept(src=ROUTER)
    outside = play.seen["sport"]
    assert isinstance(outside, int)
    assert outside != 40000
    both = IPS_EXPECTED | IPS_DST_NAT
    assert (
        play
        >> udp(SERVER, ROUTER, DATA, sport=3000, dport=outside)
        << accept(IP_CT_RELATED, dst=NEIGHBOUR, dport=40000, status=both)
        >> udp(SERVER, ROUTER, DATA, sport=3000, dport=40000)
        << accept(IP_CT_RELATED, dst=CLIENT, dport=40000, status=both)
        >> udp(CLIENT, SERVER, b"\0\4\0\1", dport=3000)
        << accept(src=ROUTER, sport=40000)
    )


def test_a_server_behind_a_router(family: int) -> None:
    """Its answer leaves from the address that the client asked."""
    play = tftp(family, [masquerade(), forward(family, (TFTP, TFTP))])
    assert (
        play
        >> udp(SERVER, ROUTER, READ, sport=5000, dport=TFTP)
        << accept(IP_CT_NEW, dst=CLIENT, dport=TFTP)
        >> udp(CLIENT, SERVER, DATA, sport=3000, dport=5000)
        << accept(IP_CT_RELATED, src=ROUTER, sport=3000, dst=SERVER, dport=5000)
        >> udp(SERVER, ROUTER, b"\0\4\0\1", sport=5000, dport=3000)
        << accept(dst=CLIENT, dport=3000)
    )
