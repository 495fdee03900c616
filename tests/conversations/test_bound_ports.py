"""A forwarded connection gets no port of the router that one of its sockets holds. Here one of all addresses: 40000."""

import pytest

from conntrackd_py.const import IP_CT_ESTABLISHED_REPLY, IP_CT_NEW
from conntrackd_py.nat.usage.bound_ports import bound_key
from conntrackd_py.reasons import NAT_EXHAUSTED
from tests.support.invariants import check
from tests.support.play import CLIENT, NEIGHBOUR, OTHER, ROUTER, SERVER, Play, accept, dropped, tcp, udp
from tests.support.rules import masquerade, rules_of

HELD = 40000
UDP = 17


@pytest.fixture
def router(family: int) -> Play:
    play = Play(family, [masquerade()])
    play.engine.nat.ports.bound.keys = {bound_key(UDP, b"", HELD): None}
    return play


def port_of(router: Play) -> int:
    """The source port of the packet that left last."""
    port = router.seen["sport"]
    assert isinstance(port, int)
    return port


def test_a_silent_socket_keeps_its_port(router: Play) -> None:
    assert router >> udp(CLIENT, SERVER, sport=HELD) << accept(IP_CT_NEW, src=ROUTER)
    chosen = port_of(router)
    assert chosen != HELD
    assert router >> udp(SERVER, ROUTER, dport=chosen) << accept(IP_CT_ESTABLISHED_REPLY, dst=CLIENT, dport=HELD)
    check(router.engine)


def test_the_socket_itself_uses_it_afterwards(router: Play) -> None:
    """To the same server too."""
    assert (
        router
        >> udp(CLIENT, SERVER, sport=HELD)
        << accept(src=ROUTER)
        >> udp(ROUTER, SERVER, sport=HELD)
        << accept(IP_CT_NEW, src=ROUTER, sport=HELD)
        >> udp(SERVER, ROUTER, dport=HELD)
        << accept(IP_CT_ESTABLISHED_REPLY, dst=ROUTER, dport=HELD)
    )


def test_a_socket_with_connections_keeps_it_for_other_destinations_too(router: Play) -> None:
    assert router >> udp(ROUTER, SERVER, sport=HELD) << accept(IP_CT_NEW, sport=HELD)
    assert router >> udp(CLIENT, OTHER, sport=HELD) << accept(IP_CT_NEW, src=ROUTER)
    assert port_of(router) != HELD
    check(router.engine)


def test_another_protocol_is_not_meant(router: Play) -> None:
    assert router >> tcp(CLIENT, SERVER, "S", sport=HELD) << accept(src=ROUTER, sport=HELD)


def test_a_former_mapping_to_a_port_that_was_bound_since_is_not_used_again(router: Play) -> None:
    assert router >> udp(NEIGHBOUR, SERVER, sport=50000) << accept(sport=50000)
    assert router >> udp(CLIENT, SERVER, sport=50000) << accept(src=ROUTER)
    chosen = port_of(router)
    router.engine.nat.ports.bound.keys = {bound_key(UDP, b"", chosen): None}
    assert router >> udp(CLIENT, OTHER, sport=50000) << accept(src=ROUTER, sport=50000)


def test_a_range_of_which_every_port_is_held_is_exhausted(family: int) -> None:
    to = {4: "203.0.113.1", 6: "[2001:db8:1::1]"}[family]
    rule = f'[[nat]]\naction = "SNAT"\nproto = "udp"\nout_interface = "wan"\nto = "{to}:'
    play = Play(family, rules_of(f'{rule}5000-5001"'))
    play.engine.nat.ports.bound.keys = {bound_key(UDP, b"", port): None for port in (5000, 5001)}
    assert play >> udp(CLIENT, SERVER) << dropped(NAT_EXHAUSTED)
    play = Play(family, rules_of(f'{rule}5000"'))
    play.engine.nat.ports.bound.keys = {bound_key(UDP, b"", 5000): None}
    assert play >> udp(CLIENT, SERVER) << accept(sport=5000)
