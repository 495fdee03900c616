"""What NAT rules match: lists, packet marks, the connection; and DNAT from a base port."""

import pytest

from conntrackd_py.const import IP_CT_NEW
from conntrackd_py.reasons import LEAK_GUARD
from tests.support.play import CLIENT, NEIGHBOUR, OTHER, ROUTER, SERVER, Play, accept, dropped, ping, pong, tcp, udp
from tests.support.rules import rules_of

LIST = """
    [[nat]]
    action = "MASQUERADE"
    family = "ipv4"
    out_interface = ["ppp0", "wan"]
    source = ["192.168.1.2-192.168.1.9", "10.0.0.0/8"]
    proto = ["udp", "tcp"]
    dport = [53, "80:81"]
"""
SERVICES = """
    [[nat]]
    action = "DNAT"
    family = "ipv4"
    in_interface = "wan"
    proto = ["tcp", "udp"]
    dport = "8000:8099"
    to = "192.168.1.2:5000-5099/8000"
"""


def test_a_rule_matches_each_item_of_its_lists() -> None:
    play = Play(4, rules_of(LIST))
    assert (
        play >> udp(CLIENT, SERVER) << accept(src=ROUTER) >> tcp(NEIGHBOUR, OTHER, "S", dport=53) << accept(src=ROUTER)
    )
    assert play >> udp(CLIENT, SERVER, dport=82) << accept(src=CLIENT)
    assert play >> ping(CLIENT, SERVER) << accept(src=CLIENT)


def test_an_inverted_list_matches_none_of_its_items() -> None:
    text = '[[nat]]\naction = "MASQUERADE"\nout_interface = "wan"\nsource = ["!192.168.1.2", "!10.0.0.0/8"]'
    play = Play(4, rules_of(text))
    assert play >> udp(CLIENT, SERVER) << accept(src=CLIENT) >> udp(NEIGHBOUR, SERVER) << accept(src=ROUTER)


@pytest.mark.parametrize("port", [8000, 8001, 8099])
def test_ports_keep_their_distance_from_the_base_port(port: int) -> None:
    play = Play(4, rules_of(SERVICES))
    assert play >> udp(SERVER, ROUTER, dport=port) << accept(IP_CT_NEW, dst=CLIENT, dport=port - 3000)
    assert play >> tcp(SERVER, ROUTER, "S", seq=1, dport=port) << accept(IP_CT_NEW, dst=CLIENT, dport=port - 3000)
    assert play >> udp(CLIENT, SERVER, sport=port - 3000) << accept(src=ROUTER, sport=port, dst=SERVER)


MARKED = """
    [[nat]]
    action = "{action}"
    mark = "{mark}"
    out_interface = "wan"

    [[nat]]
    action = "SNAT"
    to = "203.0.113.9"
    out_interface = "wan"
"""


@pytest.mark.parametrize(
    ("mark", "packet", "matches"),
    [("3", 3, True), ("3", 7, False), ("1/1", 3, True), ("1/1", 2, False), ("!1/1", 2, True), ("!0x3", 3, False)],
)
def test_a_rule_matches_the_packet_mark_at_its_hook(mark: str, packet: int, matches: bool) -> None:
    """The bits that the daemon writes between the visits make no difference."""
    play = Play(4, rules_of(MARKED.format(action="MASQUERADE", mark=mark)), mark=packet)
    assert play >> udp(CLIENT, SERVER) << accept()
    assert play.seen["src"] == (ROUTER.v4 if matches else "203.0.113.9")


@pytest.mark.parametrize("action", ["ACCEPT", "MASQUERADE"])
def test_what_has_no_connection_is_covered_whatever_its_mark(action: str) -> None:
    """A rule with a mark that translates covers it, a rule with a mark that exempts does not."""
    play = Play(4, rules_of(MARKED.format(action=action, mark="1")), mark=1)
    assert play >> pong(CLIENT, SERVER) << dropped(LEAK_GUARD)


@pytest.mark.parametrize("action", ["ACCEPT", "MASQUERADE"])
def test_a_connection_under_a_rule_with_a_mark_is_not_stale(action: str) -> None:
    """Its mark is no longer known."""
    play = Play(4, rules_of(MARKED.format(action=action, mark="1")), mark=1)
    assert play >> udp(CLIENT, SERVER) << accept()
    assert play.ct is not None
    assert play.engine.stale().why(play.ct, play.now) == 0


def test_a_rule_matches_the_connection() -> None:
    text = """
        [[nat]]
        action = "ACCEPT"
        ct = "original proto-dst 53 ct original protocol udp"
        out_interface = "wan"

        [[nat]]
        action = "MASQUERADE"
        ct = "-m conntrack --ctstate NEW ! --ctproto icmp"
        out_interface = "wan"
    """
    play = Play(4, rules_of(text))
    assert play >> udp(CLIENT, SERVER, dport=53) << accept(src=CLIENT) >> udp(CLIENT, SERVER) << accept(src=ROUTER)
    assert play >> ping(CLIENT, SERVER) << accept(src=CLIENT)
