"""Other rules and tunables take effect between two packets; connections keep what they were given."""

from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import (
    IP_CT_ESTABLISHED,
    IP_CT_ESTABLISHED_REPLY,
    IP_CT_NEW,
    IP_CT_UNTRACKED,
    IPS_DST_NAT,
    LOCAL_IN,
)
from conntrackd_py.engine.raw_mangle import RawRule
from conntrackd_py.filter.policy import DROP, Chain, FilterRule, Policy
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.match.match import Match
from conntrackd_py.nat.rules import NAT_MASQUERADE, NatRule
from conntrackd_py.proto.standard import RFC7857, standard_protos
from conntrackd_py.reasons import FILTER_DROP
from tests.support.play import (
    CLIENT,
    NEIGHBOUR,
    ROUTER,
    SERVER,
    Play,
    accept,
    advance,
    destroyed,
    dropped,
    tcp,
    udp,
)
from tests.support.rules import forward, masquerade


def test_another_target_is_for_new_connections(family: int) -> None:
    play = Play(family, [forward(family, (8080, 8080), protonum=6)])
    assert play >> tcp(SERVER, ROUTER, "S", seq=1, sport=5000, dport=8080) << accept(IP_CT_NEW, dst=CLIENT)
    assert play >> tcp(CLIENT, SERVER, "SA", seq=9, ack=2, sport=8080, dport=5000) << accept(src=ROUTER)
    play.engine.configure(Tunables(), nat_rules=[forward(family, (8080, 8080), protonum=6, host=NEIGHBOUR)])
    assert (
        play
        >> tcp(SERVER, ROUTER, "A", seq=2, ack=10, sport=5000, dport=8080)
        << accept(IP_CT_ESTABLISHED, dst=CLIENT)
        >> tcp(SERVER, ROUTER, "S", seq=1, sport=5001, dport=8080)
        << accept(IP_CT_NEW, dst=NEIGHBOUR, status=IPS_DST_NAT)
    )


def test_without_rules_a_translated_connection_goes_on(snat: Play) -> None:
    assert snat >> udp(CLIENT, SERVER) << accept(IP_CT_NEW, src=ROUTER)
    snat.engine.configure(Tunables())
    assert snat >> udp(SERVER, ROUTER) << accept(IP_CT_ESTABLISHED_REPLY, dst=CLIENT)
    assert snat >> udp(CLIENT, SERVER) << accept(IP_CT_ESTABLISHED, src=ROUTER)
    assert snat >> udp(CLIENT, SERVER, sport=41000) << accept(IP_CT_NEW, src=CLIENT)


def test_timeouts_hold_from_the_next_packet_on(play: Play) -> None:
    assert play >> udp(CLIENT, SERVER) << accept(IP_CT_NEW, timeout=30)
    play.engine.configure(Tunables(nf_conntrack_udp_timeout=7))
    assert play >> udp(CLIENT, SERVER) << accept(IP_CT_NEW, timeout=7) >> advance(8) << destroyed("timeout")


def test_a_smaller_table_makes_room_with_the_next_connection(play: Play) -> None:
    for sport in range(1000, 1010):
        assert play >> udp(CLIENT, SERVER, sport=sport) << accept(IP_CT_NEW)
    play.engine.configure(Tunables(nf_conntrack_max=5))
    assert play >> udp(CLIENT, SERVER, sport=2000) << accept(IP_CT_NEW)
    assert play.engine.core.stats.early_drop >= 1


def test_another_tcp_tracker_is_for_new_connections(play: Play) -> None:
    """The metrics still know the connections of the old one."""
    assert play >> tcp(CLIENT, SERVER, "S", seq=1) << accept(IP_CT_NEW, state="SYN_SENT")
    play.engine.configure(Tunables(), tcp_tracker=RFC7857)
    assert play >> tcp(SERVER, CLIENT, "SA", seq=9, ack=2) << accept(IP_CT_ESTABLISHED_REPLY, state="SYN_RECV")
    assert play >> tcp(CLIENT, SERVER, "S", seq=1, sport=41000) << accept(IP_CT_NEW, state="SYN_I2O")
    assert sum(sum(tracker.entries) for tracker in play.engine.trackers) == 2
    play.engine.configure(Tunables(), tcp_tracker=RFC7857)
    assert sum(sum(tracker.entries) for tracker in play.engine.trackers) == 2


def test_trackers_that_nothing_uses_are_forgotten(play: Play) -> None:
    """Every reload creates the trackers of raw rules again."""
    before = len(play.engine.trackers)
    for _ in range(5):
        rule = RawRule(Match(), protos=standard_protos(Tunables(nf_conntrack_udp_timeout=3)))
        play.engine.configure(Tunables(), raw_rules=[rule])
    assert len(play.engine.trackers) == 2 * before
    play.engine.configure(Tunables())
    assert len(play.engine.trackers) == before


def test_a_filter_comes_and_goes(play: Play) -> None:
    assert play >> udp(CLIENT, ROUTER) << accept(IP_CT_NEW)
    deny = Policy([Chain(LOCAL_IN, [FilterRule(DROP)], 1, label="filter")])
    play.engine.configure(Tunables(), policy=deny)
    assert play >> udp(CLIENT, ROUTER) << dropped(FILTER_DROP)
    assert play.engine.own_mark
    play.engine.configure(Tunables())
    assert play >> udp(CLIENT, ROUTER) << accept(IP_CT_NEW)


def test_raw_rules_come_and_go(snat: Play) -> None:
    snat.engine.configure(Tunables(), nat_rules=[masquerade()], raw_rules=[RawRule(Match(), notrack=True)])
    assert snat >> udp(CLIENT, SERVER) << accept(IP_CT_UNTRACKED, src=CLIENT)
    snat.engine.configure(Tunables(), nat_rules=[NatRule(NAT_MASQUERADE, Match(out_interface=InterfaceNames(["wan"])))])
    assert snat >> udp(CLIENT, SERVER) << accept(IP_CT_NEW, src=ROUTER)
