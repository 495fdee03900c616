"""NetBIOS name service: the router asks a whole network by broadcast."""

import pytest

from conntrackd_py.const import IP_CT_NEW, IP_CT_RELATED, IPPROTO_UDP, IPS_EXPECTED, IPS_HELPER
from conntrackd_py.helpers.netbios import NetbiosNs
from tests.support.control import assigned, expected
from tests.support.packets import address
from tests.support.play import CLIENT, INSIDE, NEIGHBOUR, OTHER, SERVER, WAN, Host, Play, accept, advance, udp

NETBIOS = 137
EVERYONE = Host("everyone", "192.168.1.255", "ff02::1", WAN, NETBIOS)
MASK = b"\xff\xff\xff\0"


@pytest.fixture
def router() -> Play:
    raw = assigned("netbios-ns", NETBIOS, protonum=IPPROTO_UDP)
    play = Play(4, raw_rules=raw, helpers=(NetbiosNs,))
    play.engine.nat.interfaces.networks = {(WAN, address(EVERYONE.v4)): MASK}
    return play


def test_every_host_of_the_network_may_answer(router: Play) -> None:
    """For three seconds, from port 137; a stranger may not."""
    assert (
        router
        >> udp(INSIDE, EVERYONE, b"name?", sport=1500)
        << accept(IP_CT_NEW, status=IPS_HELPER, timeout=3)
        >> udp(CLIENT, INSIDE, b"me", sport=NETBIOS, dport=1500)
        << accept(IP_CT_RELATED, status=IPS_EXPECTED)
        >> udp(NEIGHBOUR, INSIDE, b"me", sport=NETBIOS, dport=1500)
        << accept(IP_CT_RELATED, status=IPS_EXPECTED)
        >> udp(NEIGHBOUR, INSIDE, b"me", sport=138, dport=1500)
        << accept(IP_CT_NEW)
        >> udp(OTHER, INSIDE, b"me", sport=NETBIOS, dport=1500)
        << accept(IP_CT_NEW)
    )
    assert len(expected(router)) == 1
    assert router >> advance(4)
    assert expected(router) == []


def test_a_repeated_question_expects_once(router: Play) -> None:
    for _ in range(3):
        assert router >> udp(INSIDE, EVERYONE, b"name?", sport=1500) << accept()
    assert len(expected(router)) == 1


@pytest.mark.parametrize(("sender", "receiver"), [(CLIENT, EVERYONE), (INSIDE, SERVER)])
def test_other_packets_expect_nothing(router: Play, sender: Host, receiver: Host) -> None:
    """Of another host, or to one host."""
    assert router >> udp(sender, receiver, b"name?", sport=1500, dport=NETBIOS) << accept()
    assert expected(router) == []
