"""Hairpin: hosts inside reach a service inside by its outer address, and its answers come back through the router."""

import pytest

from conntrackd_py.const import (
    IP_CT_ESTABLISHED,
    IP_CT_ESTABLISHED_REPLY,
    IP_CT_NEW,
    IP_CT_RELATED_REPLY,
    IPS_DST_NAT,
)
from conntrackd_py.reasons import NAT_NO_ADDRESS
from tests.support import packets
from tests.support.nat import BOTH, hairpin
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
    Play,
    accept,
    advance,
    destroyed,
    dropped,
    error,
    tcp,
    udp,
)


def outer_address(family: int) -> str:
    return f'destination = "{ROUTER.v4 if family == 4 else ROUTER.v6}"'


@pytest.fixture(params=["interface", "address", "both"])
def pinned(request: pytest.FixtureRequest, family: int) -> Play:
    keys = {"interface": 'in_interface = "wan"', "address": outer_address(family)}
    keys["both"] = "\n".join(keys.values())
    return hairpin(family, keys[request.param])


def test_a_host_inside_reaches_the_service_by_the_outer_address(pinned: Play) -> None:
    """The server sees the router's inside address, so its answers pass the router."""
    syn = tcp(NEIGHBOUR, ROUTER, "S", seq=1, sport=5555, dport=8080)
    assert pinned >> syn << accept(IP_CT_NEW, src=INSIDE, sport=5555, dst=CLIENT, dport=80, status=BOTH)
    assert valid(pinned.left)
    answer = tcp(CLIENT, INSIDE, "SA", seq=9, ack=2, sport=80, dport=5555)
    assert pinned >> answer << accept(IP_CT_ESTABLISHED_REPLY, src=ROUTER, sport=8080, dst=NEIGHBOUR, dport=5555)
    assert valid(pinned.left)
    last = tcp(NEIGHBOUR, ROUTER, "A", seq=2, ack=10, sport=5555, dport=8080)
    assert pinned >> last << accept(IP_CT_ESTABLISHED, src=INSIDE, dst=CLIENT, dport=80)
    assert valid(pinned.left)


def test_the_server_reaches_itself(pinned: Play) -> None:
    assert pinned >> udp(CLIENT, ROUTER, sport=5555, dport=8080) << accept(IP_CT_NEW, src=INSIDE, dst=CLIENT, dport=80)
    back = udp(CLIENT, INSIDE, sport=80, dport=5555)
    assert pinned >> back << accept(IP_CT_ESTABLISHED_REPLY, src=ROUTER, sport=8080, dst=CLIENT, dport=5555)


def test_hosts_outside_are_seen_as_they_are(pinned: Play) -> None:
    assert pinned >> udp(SERVER, ROUTER, sport=5555, dport=8080) << accept(IP_CT_NEW, src=SERVER, dst=CLIENT, dport=80)
    assert pinned >> udp(CLIENT, SERVER, sport=80, dport=5555) << accept(src=ROUTER, sport=8080)


def test_two_hosts_inside_with_the_same_port(pinned: Play) -> None:
    assert pinned >> udp(NEIGHBOUR, ROUTER, sport=5555, dport=8080) << accept(src=INSIDE, sport=5555)
    assert pinned >> udp(CLIENT, ROUTER, sport=5555, dport=8080) << accept(src=INSIDE)
    assert pinned.seen["sport"] != 5555


def test_an_error_of_the_server_is_translated_back(pinned: Play) -> None:
    assert pinned >> udp(NEIGHBOUR, ROUTER, b"query", sport=5555, dport=8080) << accept(dst=CLIENT)
    quoted = udp(INSIDE, CLIENT, b"query", sport=5555, dport=80)
    assert pinned >> error(CLIENT, INSIDE, quoted) << accept(IP_CT_RELATED_REPLY, src=ROUTER, dst=NEIGHBOUR)
    assert valid(pinned.left)
    sent = udp(NEIGHBOUR, ROUTER, b"query", sport=5555, dport=8080).bytes_for(pinned.family)
    inner = pinned.left[28 if pinned.family == 4 else 48 :]
    assert inner == sent[: len(inner)]


def test_only_the_outer_address_is_meant(pinned: Play) -> None:
    assert pinned >> udp(NEIGHBOUR, INSIDE, dport=8080) << accept(dst=INSIDE, not_status=IPS_DST_NAT)
    assert pinned >> udp(NEIGHBOUR, OTHER, dport=8080) << accept(dst=OTHER, not_status=IPS_DST_NAT)
    assert pinned >> udp(NEIGHBOUR, ROUTER, dport=8081) << accept(dst=ROUTER, not_status=IPS_DST_NAT)


def test_a_source_rule_of_your_own_comes_first(family: int) -> None:
    own = ROUTER.v4 if family == 4 else ROUTER.v6
    play = hairpin(family, more=f'[[nat]]\naction = "SNAT"\nout_interface = "lan"\nto = "{own}"')
    assert play >> udp(NEIGHBOUR, ROUTER, dport=8080) << accept(src=ROUTER, dst=CLIENT)


def test_an_exemption_does_not_break_it(family: int) -> None:
    play = hairpin(family, more='[[nat]]\naction = "ACCEPT"\nfamily = "any"\nout_interface = "lan"')
    assert play >> udp(NEIGHBOUR, ROUTER, dport=8080) << accept(src=INSIDE, dst=CLIENT)


def test_without_an_inside_address_it_is_refused(family: int) -> None:
    play = hairpin(family)
    play.engine.set_interface(LAN, "lan", [], play.now)
    assert play >> udp(NEIGHBOUR, ROUTER, dport=8080) << dropped(NAT_NO_ADDRESS)


def test_it_ends_when_the_inside_address_goes(pinned: Play) -> None:
    assert pinned >> udp(NEIGHBOUR, ROUTER, dport=8080) << accept(src=INSIDE)
    pinned.engine.set_interface(LAN, "lan", [], pinned.now)
    assert pinned >> advance(0) << destroyed("address_gone")


def test_it_is_stale_without_the_switch(pinned: Play) -> None:
    assert pinned >> udp(NEIGHBOUR, ROUTER, dport=8080) << accept()
    ct = pinned.ct
    assert ct is not None
    assert pinned.engine.stale().why(ct, pinned.now) == 0
    (rule,) = pinned.engine.nat.rules.destination_rules
    rule.hairpin = None
    pinned.engine.nat.replace_rules([rule])
    assert pinned.engine.stale().why(ct, pinned.now) == 1


def test_the_outer_address_may_change(family: int) -> None:
    """With in_interface alone, it is whatever address that interface has."""
    play = hairpin(family)
    assert play >> udp(NEIGHBOUR, ROUTER, dport=8080) << accept(dst=CLIENT)
    other = packets.address("203.0.113.77" if family == 4 else "2001:db8:1::77")
    play.engine.set_interface(WAN, "wan", [other], play.now)
    assert play >> udp(NEIGHBOUR, ROUTER, sport=5, dport=8080) << accept(dst=ROUTER, not_status=IPS_DST_NAT)
