"""NAT rules with `hooks`: the router's own packets, packets to the router, and one chain only."""

from conntrackd_py.const import IP_CT_ESTABLISHED, IP_CT_ESTABLISHED_REPLY, IP_CT_NEW, IPS_DST_NAT, IPS_SRC_NAT
from tests.support.invariants import check
from tests.support.play import CLIENT, INSIDE, OTHER, ROUTER, SERVER, Play, accept, tcp, udp
from tests.support.rules import rules_of

NETWORKS = {4: ("198.51.100.0/24", "198.51.100.2/32"), 6: ("2001:db8:2::/64", "2001:db8:2::2/128")}
INSIDES = {4: "192.168.1.1", 6: "fd00:1::1"}
OUTSIDES = {4: "203.0.113.1", 6: "2001:db8:1::1"}


def netmap(family: int, hooks: str) -> Play:
    """Every address of the servers' network becomes that of the first server."""
    before, to = NETWORKS[family]
    text = f'[[nat]]\naction = "NETMAP"\nhooks = {hooks}\ndestination = "{before}"\nto = "{to}"'
    return Play(family, rules_of(text))


def test_netmap_translates_the_routers_own_packets(family: int) -> None:
    play = netmap(family, '["output"]')
    assert (
        play
        >> udp(ROUTER, OTHER)
        << accept(IP_CT_NEW, src=ROUTER, dst=SERVER, status=IPS_DST_NAT)
        >> udp(SERVER, ROUTER)
        << accept(IP_CT_ESTABLISHED_REPLY, src=OTHER, dst=ROUTER)
        >> udp(ROUTER, OTHER)
        << accept(IP_CT_ESTABLISHED, src=ROUTER, dst=SERVER)
    )
    check(play.engine)


def test_a_rule_of_output_leaves_forwarded_packets_alone(family: int) -> None:
    assert netmap(family, '["output"]') >> udp(CLIENT, OTHER) << accept(IP_CT_NEW, src=CLIENT, dst=OTHER)


def test_a_rule_of_prerouting_leaves_own_packets_alone(family: int) -> None:
    play = netmap(family, '["prerouting"]')
    assert play >> udp(ROUTER, OTHER) << accept(IP_CT_NEW, dst=OTHER) >> udp(CLIENT, OTHER) << accept(dst=SERVER)


def snat_at_input(family: int, more: str = "") -> Play:
    """Services of the router see the client as INSIDE."""
    text = f'[[nat]]\naction = "SNAT"\nhooks = ["input"]\nto = "{INSIDES[family]}"\n{more}'
    return Play(family, rules_of(text))


def test_a_source_rule_at_input(family: int) -> None:
    play = snat_at_input(family)
    assert (
        play
        >> tcp(SERVER, ROUTER, flags="S", sport=5000, dport=22)
        << accept(IP_CT_NEW, src=INSIDE, sport=5000, dst=ROUTER, status=IPS_SRC_NAT)
        >> tcp(ROUTER, INSIDE, flags="SA", sport=22, dport=5000, ack=1)
        << accept(IP_CT_ESTABLISHED_REPLY, src=ROUTER, dst=SERVER, dport=5000)
        >> tcp(SERVER, ROUTER, flags="A", sport=5000, dport=22, seq=1, ack=1)
        << accept(IP_CT_ESTABLISHED, src=INSIDE)
    )
    assert len(play.engine.core.table) == 1
    check(play.engine)


def test_a_source_rule_at_input_leaves_forwarded_packets_alone(family: int) -> None:
    assert snat_at_input(family) >> udp(CLIENT, SERVER) << accept(IP_CT_NEW, src=CLIENT, dst=SERVER)


def test_two_sources_with_one_port_get_two_ports_at_input(family: int) -> None:
    play = snat_at_input(family)
    play = play >> udp(SERVER, ROUTER, sport=5000, dport=53) << accept(src=INSIDE, sport=5000)
    assert play >> udp(OTHER, ROUTER, sport=5000, dport=53) << accept(IP_CT_NEW, src=INSIDE)
    first, second = play.engine.core.table.slots[:2]
    assert first is not None
    assert second is not None
    assert first.reply != second.reply
    check(play.engine)


def test_a_rule_for_the_routers_addresses(family: int) -> None:
    """As `-m addrtype --dst-type LOCAL`."""
    to = {4: "192.168.1.2", 6: "[fd00:1::2]"}[family]
    text = (
        f'[[nat]]\naction = "DNAT"\nhooks = ["prerouting"]\ndestination_type = "local"\nproto = "udp"\nto = "{to}:53"'
    )
    play = Play(family, rules_of(text))
    assert (
        play
        >> udp(SERVER, ROUTER, dport=5353)
        << accept(IP_CT_NEW, dst=CLIENT, dport=53)
        >> udp(CLIENT, SERVER, dport=5353)
        << accept(IP_CT_NEW, dst=SERVER, dport=5353)
    )
