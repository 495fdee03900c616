"""Endpoint-independent mappings: one outer port for all destinations, and who outside may send to it (RFC 4787)."""

import pytest

from conntrackd_py.const import (
    IP_CT_ESTABLISHED,
    IP_CT_ESTABLISHED_REPLY,
    IP_CT_NEW,
    IP_CT_RELATED_REPLY,
    IPPROTO_UDP,
    IPS_DST_NAT,
    IPS_SRC_NAT,
)
from conntrackd_py.nat.usage.bound_ports import bound_key
from conntrackd_py.reasons import MAPPING_LIMIT, NAT_FILTERED
from tests.support.invariants import check
from tests.support.packets import valid
from tests.support.play import (
    CLIENT,
    NEIGHBOUR,
    OTHER,
    ROUTER,
    SERVER,
    WAN,
    Play,
    Restart,
    Said,
    accept,
    advance,
    crash,
    dropped,
    error,
    ping,
    restart,
    tcp,
    udp,
)
from tests.support.rules import rules_of

FULL_CONE = "endpoint-independent"
UNTOUCHED = IPS_DST_NAT | IPS_SRC_NAT


def cone(family: int, filtering: str = FULL_CONE, keys: str = "", more: str = "", **tunables: object) -> Play:
    text = f"""
        {more}
        [[nat]]
        action = "MASQUERADE"
        family = "any"
        out_interface = "wan"
        mapping = "endpoint-independent"
        filtering = "{filtering}"
        {keys}
    """
    return Play(family, rules_of(text), **tunables)  # type: ignore[arg-type]


def port_taken_by(play: Play, said: Said) -> int:
    """The outer port that this first packet gets."""
    assert play >> said << accept(IP_CT_NEW, src=ROUTER, status=IPS_SRC_NAT)
    port = play.seen["sport"]
    assert isinstance(port, int)
    return port


def test_all_destinations_see_one_port(family: int) -> None:
    play = cone(family)
    assert port_taken_by(play, udp(NEIGHBOUR, SERVER)) == 40000
    port = port_taken_by(play, udp(CLIENT, SERVER))
    assert port != 40000
    assert port_taken_by(play, udp(CLIENT, OTHER)) == port
    assert port_taken_by(play, udp(CLIENT, OTHER, dport=81)) == port
    assert valid(play.left)
    assert play.engine.nat.endpoints.count == 2
    check(play.engine)


def test_no_two_sources_share_a_port(family: int) -> None:
    """Without mappings, two sources share a port for different destinations."""
    play = cone(family)
    assert port_taken_by(play, udp(CLIENT, SERVER)) != port_taken_by(play, udp(NEIGHBOUR, OTHER))


def test_tcp_and_udp_have_mappings_of_their_own(family: int) -> None:
    play = cone(family)
    assert port_taken_by(play, udp(CLIENT, SERVER)) == 40000
    assert port_taken_by(play, tcp(NEIGHBOUR, SERVER, "S")) == 40000


@pytest.mark.parametrize(
    ("filtering", "called", "other_port", "stranger"),
    [("address-and-port", True, False, False), ("address", True, True, False), (FULL_CONE, True, True, True)],
)
def test_filtering(family: int, filtering: str, called: bool, other_port: bool, stranger: bool) -> None:
    """Who may send to the mapping: whom the host called, whose address it called, everybody."""
    play = cone(family, filtering)
    assert play >> udp(CLIENT, SERVER) << accept(src=ROUTER, sport=40000)
    for said, admitted in (
        (udp(SERVER, ROUTER), called),
        (udp(SERVER, ROUTER, sport=81), other_port),
        (udp(OTHER, ROUTER), stranger),
    ):
        assert play >> said << (accept(dst=CLIENT, dport=40000) if admitted else dropped(NAT_FILTERED))
    assert play.engine.nat.endpoints.filtered == [other_port, stranger].count(False)
    check(play.engine)


def test_a_connection_from_outside(family: int) -> None:
    play = cone(family)
    assert play >> udp(CLIENT, SERVER) << accept(src=ROUTER)
    assert play >> udp(OTHER, ROUTER) << accept(IP_CT_NEW, src=OTHER, dst=CLIENT, dport=40000, status=IPS_DST_NAT)
    assert play >> udp(CLIENT, OTHER) << accept(IP_CT_ESTABLISHED_REPLY, src=ROUTER, sport=40000, dst=OTHER)
    assert valid(play.left)
    assert play >> udp(OTHER, ROUTER) << accept(IP_CT_ESTABLISHED, dst=CLIENT, entries=2)
    assert play.ct is not None
    assert play.engine.stale().why(play.ct, play.now) == 0
    quoted = udp(OTHER, CLIENT)
    assert play >> error(CLIENT, OTHER, quoted) << accept(IP_CT_RELATED_REPLY, src=ROUTER, dst=OTHER)
    assert play.engine.nat.endpoints.inbound == 1
    check(play.engine)


def test_a_tcp_connection_from_outside(family: int) -> None:
    play = cone(family)
    assert play >> tcp(CLIENT, SERVER, "S", seq=1) << accept(src=ROUTER)
    assert play >> tcp(OTHER, ROUTER, "S", seq=5, sport=7) << accept(IP_CT_NEW, dst=CLIENT, dport=40000)
    answer = tcp(CLIENT, OTHER, "SA", seq=9, ack=6, dport=7)
    assert play >> answer << accept(IP_CT_ESTABLISHED_REPLY, src=ROUTER, sport=40000, dport=7)
    assert valid(play.left)


def test_both_ends_send_first(family: int) -> None:
    """Hole punching: the same two endpoints, one connection."""
    play = cone(family)
    assert play >> udp(CLIENT, SERVER) << accept(src=ROUTER)
    assert play >> udp(OTHER, ROUTER) << accept(IP_CT_NEW, dst=CLIENT)
    assert play >> udp(CLIENT, OTHER) << accept(IP_CT_ESTABLISHED_REPLY, src=ROUTER, sport=40000, entries=2)


def test_icmp_has_no_mapping(family: int) -> None:
    play = cone(family)
    assert play >> ping(CLIENT, SERVER) << accept(src=ROUTER)
    assert play.engine.nat.endpoints.count == 0


def test_it_lives_as_long_as_a_connection_and_a_rest(family: int) -> None:
    play = cone(family, nat_mapping_lifetime=100)
    assert play >> udp(CLIENT, SERVER) << accept(timeout=30)
    assert play >> advance(129)
    assert play >> udp(OTHER, ROUTER) << accept(dst=CLIENT)
    assert play >> advance(40)
    assert play >> udp(OTHER, ROUTER, sport=9) << accept(dst=ROUTER, not_status=UNTOUCHED)
    assert play.engine.nat.endpoints.count == 0
    check(play.engine)


def test_strangers_keep_no_mapping_alive(family: int) -> None:
    """An unanswered connection from outside does not count; one that the host answers does."""
    play = cone(family, nat_mapping_lifetime=100)
    assert play >> udp(CLIENT, SERVER) << accept(timeout=30)
    for sport in range(1, 7):
        assert play >> advance(20)
        assert play >> udp(OTHER, ROUTER, sport=sport) << accept(dst=CLIENT)
    assert play >> advance(20)
    assert play >> udp(OTHER, ROUTER, sport=99) << dropped(NAT_FILTERED)


def test_a_host_that_answers_keeps_its_mapping(family: int) -> None:
    play = cone(family, nat_mapping_lifetime=100)
    assert play >> udp(CLIENT, SERVER) << accept(timeout=30)
    for sport in range(1, 12):
        assert play >> advance(20)
        assert play >> udp(OTHER, ROUTER, sport=sport) << accept(dst=CLIENT)
        assert play >> udp(CLIENT, OTHER, dport=sport) << accept(src=ROUTER, sport=40000)


def test_the_port_rests(family: int) -> None:
    """Its inside endpoint gets it back; another one gets it after the rest."""
    play = cone(family, nat_mapping_lifetime=10, nat_port_rest=60)
    assert port_taken_by(play, udp(CLIENT, SERVER)) == 40000
    assert play >> advance(70)
    assert play >> udp(OTHER, ROUTER) << dropped(NAT_FILTERED)
    assert port_taken_by(play, udp(NEIGHBOUR, SERVER)) != 40000
    assert port_taken_by(play, udp(CLIENT, SERVER)) == 40000
    assert play >> advance(102)
    assert port_taken_by(play, udp(NEIGHBOUR, OTHER, sport=40000)) == 40000
    check(play.engine)


def test_parity(family: int) -> None:
    play = cone(family, keys="parity = true")
    assert port_taken_by(play, udp(CLIENT, SERVER, sport=40000)) == 40000
    assert port_taken_by(play, udp(CLIENT, SERVER, sport=40001)) == 40001
    assert port_taken_by(play, udp(NEIGHBOUR, SERVER, sport=40000)) % 2 == 0
    assert port_taken_by(play, udp(NEIGHBOUR, SERVER, sport=40001)) % 2 == 1


def test_one_host_keeps_one_outer_address() -> None:
    """Of a range, without `persistent`, for all ports and destinations."""
    text = 'out_interface = "wan"\naction = "SNAT"\nto = "203.0.113.8-203.0.113.15"\nmapping = "endpoint-independent"'
    play = Play(4, rules_of(f"[[nat]]\n{text}"))
    outer = set()
    for sport in range(1, 9):
        assert play >> udp(CLIENT, SERVER if sport % 2 else OTHER, sport=sport) << accept(sport=sport)
        outer.add(play.seen["src"])
    assert len(outer) == 1


def test_another_rule_on_the_same_address() -> None:
    """Its connection has the tuple: one connection of the mapping gets another port, and is no part of it."""
    more = f'[[nat]]\nsource = "{NEIGHBOUR.v4}"\nout_interface = "wan"\naction = "MASQUERADE"\n'
    play = cone(4, more=more)
    assert play >> udp(CLIENT, SERVER) << accept(src=ROUTER, sport=40000)
    assert play >> udp(NEIGHBOUR, OTHER) << accept(src=ROUTER, sport=40000)
    assert port_taken_by(play, udp(CLIENT, OTHER)) != 40000
    assert play.engine.nat.endpoints.conflicts == 1
    assert port_taken_by(play, udp(CLIENT, OTHER, dport=81)) == 40000
    check(play.engine)


def test_a_destination_rule_comes_first(family: int) -> None:
    """A port that a DNAT or ACCEPT rule names goes to no mapping: services of the router stay reachable."""
    more = '[[nat]]\naction = "ACCEPT"\nfamily = "any"\nin_interface = "wan"\nproto = "udp"\ndport = 40000\n'
    play = cone(family, more=more)
    assert port_taken_by(play, udp(CLIENT, SERVER)) != 40000
    assert play >> udp(OTHER, ROUTER) << accept(dst=ROUTER, not_status=UNTOUCHED)


def test_ports_of_the_routers_services_are_left(family: int) -> None:
    play = cone(family)
    play.engine.nat.ports.bound.keys = {bound_key(IPPROTO_UDP, b"", 40000): None}
    assert port_taken_by(play, udp(CLIENT, SERVER)) != 40000
    assert port_taken_by(play, tcp(CLIENT, SERVER, "S")) == 40000


def test_all_traffic_to_one_host_leaves_ports_for_mappings(family: int) -> None:
    to = f"[{NEIGHBOUR.v6}]" if family == 6 else NEIGHBOUR.v4
    play = cone(family, more=f'[[nat]]\naction = "DNAT"\nin_interface = "wan"\nto = "{to.strip("[]")}"\n')
    assert port_taken_by(play, udp(CLIENT, SERVER)) == 40000
    assert play >> udp(SERVER, ROUTER) << accept(dst=CLIENT)


@pytest.mark.parametrize("filtering", ["address-and-port", "address", FULL_CONE])
def test_hairpin(family: int, filtering: str) -> None:
    """Two hosts inside, each by its outer endpoint (RFC 4787 requirement 9: external source)."""
    play = cone(family, filtering, "hairpin = true")
    theirs = port_taken_by(play, udp(NEIGHBOUR, SERVER, sport=1111))
    mine = port_taken_by(play, udp(CLIENT, SERVER, sport=2222))
    assert (
        play
        >> udp(CLIENT, ROUTER, sport=2222, dport=theirs)
        << accept(src=ROUTER, sport=mine, dst=NEIGHBOUR, dport=1111)
    )
    assert valid(play.left)
    assert play >> udp(NEIGHBOUR, ROUTER, sport=1111, dport=mine) << accept(src=ROUTER, sport=theirs, dst=CLIENT)
    assert valid(play.left)
    assert play.engine.nat.endpoints.count == 2
    check(play.engine)


def test_hairpin_of_a_host_without_a_mapping(family: int) -> None:
    play = cone(family, keys="hairpin = true")
    assert play >> udp(CLIENT, SERVER) << accept(src=ROUTER)
    assert play >> udp(NEIGHBOUR, ROUTER, sport=7) << accept(src=ROUTER, sport=7, dst=CLIENT)
    assert play >> udp(CLIENT, ROUTER, dport=7) << accept(src=ROUTER, sport=40000, dst=NEIGHBOUR)
    assert port_taken_by(play, udp(NEIGHBOUR, SERVER, sport=7)) == 7
    check(play.engine)


def test_a_refused_stranger_does_not_take_the_tuple(family: int) -> None:
    """Hole punching: the other end sends first, is refused, and is then called by the same outer port."""
    play = cone(family, "address-and-port")
    assert play >> udp(CLIENT, SERVER) << accept(src=ROUTER, sport=40000)
    assert play >> udp(OTHER, ROUTER) << dropped(NAT_FILTERED)
    assert port_taken_by(play, udp(CLIENT, OTHER)) == 40000
    assert play >> udp(OTHER, ROUTER) << accept(IP_CT_ESTABLISHED_REPLY, dst=CLIENT)


def test_the_router_has_no_mapping(family: int) -> None:
    """Its services stay reachable on the ports that they also send from."""
    play = cone(family, "address-and-port")
    assert play >> udp(ROUTER, SERVER) << accept()
    assert play.engine.nat.endpoints.count == 0
    assert play >> udp(OTHER, ROUTER) << accept(dst=ROUTER, not_status=UNTOUCHED)
    assert port_taken_by(play, udp(CLIENT, SERVER)) != 40000


def test_without_hairpin_it_is_for_hosts_outside(family: int) -> None:
    play = cone(family)
    assert play >> udp(CLIENT, SERVER) << accept(src=ROUTER)
    assert play >> udp(NEIGHBOUR, ROUTER) << accept(dst=ROUTER, not_status=UNTOUCHED)


def test_limits(family: int) -> None:
    play = cone(family, nat_mapping_max=3)
    play.engine.nat.endpoints.host_limit = 2
    for sport in (1, 2):
        assert play >> udp(CLIENT, SERVER, sport=sport) << accept(src=ROUTER)
    assert play >> udp(CLIENT, SERVER, sport=3) << dropped(MAPPING_LIMIT)
    assert play >> udp(CLIENT, OTHER, sport=2) << accept(src=ROUTER)
    assert play >> udp(NEIGHBOUR, SERVER, sport=1) << accept(src=ROUTER)
    assert play >> udp(NEIGHBOUR, SERVER, sport=2) << dropped(MAPPING_LIMIT)
    assert play.engine.nat.endpoints.refused == 2
    check(play.engine)


def held(play: Play) -> dict[bytes, tuple[bytes, int, int]]:
    return {outer: (m.inside, m.connections, m.holding) for outer, m in play.engine.nat.endpoints.by_outer.items()}


@pytest.mark.parametrize("step", [restart(2), crash(2)], ids=["restart", "crash"])
def test_it_outlives_a_restart(family: int, step: Restart) -> None:
    play = cone(family, keys="hairpin = true")
    assert play >> udp(CLIENT, SERVER) << accept(src=ROUTER)
    assert play >> udp(OTHER, ROUTER) << accept(dst=CLIENT)
    assert play >> udp(NEIGHBOUR, ROUTER, sport=7) << accept(src=ROUTER, sport=7, dst=CLIENT)
    before = held(play)
    assert play >> step
    assert held(play) == before
    check(play.engine)
    assert play >> udp(SERVER, ROUTER, sport=5) << accept(dst=CLIENT)
    assert port_taken_by(play, udp(CLIENT, OTHER, dport=5)) == 40000


def test_a_mapping_of_a_connection_from_outside_alone_outlives_a_restart(family: int) -> None:
    play = cone(family)
    assert play >> udp(CLIENT, SERVER) << accept(src=ROUTER, timeout=30)
    assert play >> advance(20)
    assert play >> udp(OTHER, ROUTER) << accept(dst=CLIENT)
    assert play >> udp(CLIENT, OTHER) << accept(src=ROUTER)
    assert play >> advance(15)
    assert play >> restart(1)
    assert play.engine.nat.endpoints.count == 1
    check(play.engine)
    assert port_taken_by(play, udp(CLIENT, SERVER)) == 40000


def test_a_reload_closes_a_mapping_without_its_rule(family: int) -> None:
    play = cone(family)
    assert play >> udp(CLIENT, SERVER) << accept(src=ROUTER)
    play.engine.configure(play.tunables, nat_rules=rules_of('[[nat]]\naction = "MASQUERADE"\nfamily = "any"'))
    assert play >> udp(OTHER, ROUTER) << dropped(NAT_FILTERED)
    assert play >> udp(SERVER, ROUTER) << accept(dst=CLIENT)
    assert play >> advance(300)
    assert play.engine.nat.endpoints.count == 0
    check(play.engine)


def test_a_reload_moves_a_mapping_to_the_rule_of_its_source() -> None:
    """Not to the one that took the place of its own."""
    rule = '[[nat]]\naction = "MASQUERADE"\nmapping = "endpoint-independent"\nsource = "%s"\nfiltering = "%s"\n'
    play = Play(4, rules_of(rule % (CLIENT.v4, "address")))
    assert play >> udp(CLIENT, SERVER) << accept(src=ROUTER)
    both = rule % (NEIGHBOUR.v4, FULL_CONE) + rule % (CLIENT.v4, "address")
    play.engine.configure(play.tunables, nat_rules=rules_of(both))
    assert play >> udp(OTHER, ROUTER) << dropped(NAT_FILTERED)
    assert play >> udp(SERVER, ROUTER, sport=9) << accept(dst=CLIENT)


def test_a_reload_changes_the_filtering(family: int) -> None:
    play = cone(family, "address-and-port")
    assert play >> udp(CLIENT, SERVER) << accept(src=ROUTER)
    assert play >> udp(OTHER, ROUTER) << dropped(NAT_FILTERED)
    play.engine.configure(play.tunables, nat_rules=list(cone(family).engine.nat.rules.source_rules))
    assert play >> udp(OTHER, ROUTER, sport=9) << accept(dst=CLIENT)


def test_it_ends_with_its_address(family: int) -> None:
    play = cone(family)
    assert play >> udp(CLIENT, SERVER) << accept(src=ROUTER)
    play.engine.set_interface(WAN, "wan", [], play.now)
    assert play >> advance(200)
    assert play.engine.nat.endpoints.count == 0
    check(play.engine)
