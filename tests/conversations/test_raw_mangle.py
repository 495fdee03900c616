"""What raw and CONNMARK rules do: untracked packets, zones, timeouts and trackers of one's own, marks."""

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.expect import PERMANENT, Expectation
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import (
    IP_CT_ESTABLISHED,
    IP_CT_ESTABLISHED_REPLY,
    IP_CT_NEW,
    IP_CT_RELATED,
    IP_CT_UNTRACKED,
    IPCT_LABEL,
    IPCT_MARK,
    IPCT_NEW,
    IPCT_RELATED,
    IPCT_REPLY,
    IPPROTO_UDP,
    IPS_EXPECTED,
    LOCAL_OUT,
    POST_ROUTING,
    PRE_ROUTING,
)
from conntrackd_py.engine.raw_mangle import LABEL_SET, MARK_RESTORE, MARK_SAVE, MARK_SET, MarkRule, RawRule
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.match.match import Match
from conntrackd_py.match.numbers import Numbers
from conntrackd_py.proto.standard import RFC7857, standard_protos
from tests.support import packets
from tests.support.play import (
    CLIENT,
    NEIGHBOUR,
    ROUTER,
    SERVER,
    Host,
    Play,
    accept,
    advance,
    destroyed,
    error,
    nothing,
    tcp,
    udp,
)
from tests.support.router import source_mask
from tests.support.rules import masquerade, web_server_inside

HOOKS = (PRE_ROUTING, LOCAL_OUT, POST_ROUTING)


def to_port(port: int) -> Match:
    return Match(proto=Numbers([IPPROTO_UDP, IPPROTO_UDP]), dport=Numbers([port, port]))


# --- raw --------------------------------------------------------------------------------------------------


def test_notrack(family: int) -> None:
    """Left alone everywhere: no connection, no translation, and the leak guard respects it."""
    play = Play(family, [masquerade()], raw_rules=[RawRule(to_port(4789), notrack=True)])
    assert play >> udp(CLIENT, SERVER, dport=4789) << accept(IP_CT_UNTRACKED, src=CLIENT, entries=0)
    assert play >> udp(CLIENT, SERVER, dport=53) << accept(IP_CT_NEW, src=ROUTER, entries=1)


def test_the_first_raw_rule_that_matches_decides(family: int) -> None:
    rules = [RawRule(to_port(53), zone_original=7, zone_reply=7), RawRule(Match(), notrack=True)]
    play = Play(family, raw_rules=rules)
    assert play >> udp(CLIENT, SERVER, dport=53) << accept(IP_CT_NEW, zones=(7, 7))
    assert play >> udp(CLIENT, SERVER, dport=54) << accept(IP_CT_UNTRACKED)


def by_link(zone_of_lan: int, zone_of_wan: int) -> list[RawRule]:
    return [
        RawRule(Match(in_interface=InterfaceNames(["lan"])), zone_original=zone_of_lan, zone_reply=zone_of_lan),
        RawRule(Match(in_interface=InterfaceNames(["wan"])), zone_original=zone_of_wan, zone_reply=zone_of_wan),
    ]


def test_zones_keep_equal_tuples_apart(family: int) -> None:
    """Two networks that use the same addresses: what is known in one is new in the other."""
    play = Play(family, raw_rules=by_link(1, 1))
    assert (
        play
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_NEW, zones=(1, 1))
        >> udp(SERVER, CLIENT)
        << accept(IP_CT_ESTABLISHED_REPLY)
    )
    play.engine.pipeline[PRE_ROUTING][0].rules[:] = by_link(2, 2)  # type: ignore[attr-defined]
    assert play >> udp(CLIENT, SERVER) << accept(IP_CT_NEW, zones=(2, 2), entries=2)


def test_errors_stay_in_their_zone(family: int) -> None:
    query = udp(CLIENT, SERVER)
    play = Play(family, raw_rules=by_link(5, 5))
    assert play >> query << accept(IP_CT_NEW) >> error(SERVER, CLIENT, query) << accept(reason="ok", zones=(5, 5))
    play = Play(family, raw_rules=by_link(5, 6))
    assert play >> query << accept(IP_CT_NEW) >> error(SERVER, CLIENT, query) << accept(reason="icmp_unrelated")


def test_a_zone_for_one_direction_only(family: int) -> None:
    """Many inner networks with the same addresses, one outside: answers come back in zone 0."""
    rules = [RawRule(Match(in_interface=InterfaceNames(["lan"])), zone_original=9)]
    play = Play(family, [masquerade()], raw_rules=rules)
    assert (
        play
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_NEW, zones=(9, 0), src=ROUTER)
        >> udp(SERVER, ROUTER)
        << accept(IP_CT_ESTABLISHED_REPLY, zones=(9, 0), dst=CLIENT)
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_ESTABLISHED, zones=(9, 0), src=ROUTER)
    )


def test_timeouts_for_a_port(family: int) -> None:
    """A timeout policy: DNS need not be remembered for long, everything else as usual."""
    quick = standard_protos(Tunables(nf_conntrack_udp_timeout=3))
    play = Play(family, raw_rules=[RawRule(to_port(53), protos=quick)])
    assert play >> udp(CLIENT, SERVER, dport=53) << accept(IP_CT_NEW, timeout=3)
    assert play >> udp(CLIENT, SERVER, dport=443) << accept(IP_CT_NEW, timeout=30)
    assert play >> advance(4) << destroyed("timeout")


def test_another_tcp_tracker_for_a_zone(family: int) -> None:
    rfc = standard_protos(Tunables(), RFC7857)
    rules = [
        RawRule(Match(in_interface=InterfaceNames(["lan"])), zone_original=3, zone_reply=3, protos=rfc),
        *by_link(3, 3),
    ]
    play = Play(family, raw_rules=rules)
    assert play >> tcp(CLIENT, SERVER, "S") << accept(IP_CT_NEW, state="SYN_I2O", timeout=240)
    assert (
        play >> tcp(SERVER, CLIENT, "SA", ack=1) << accept(IP_CT_ESTABLISHED_REPLY, state="ESTABLISHED", timeout=7440)
    )


def test_the_trackers_of_a_zone_know_what_is_outside(family: int) -> None:
    """A call from outside is one to each RFC tracker, also to one that only a raw rule brings."""
    rfc = standard_protos(Tunables(), RFC7857)
    play = Play(family, [masquerade(), web_server_inside(family)], raw_rules=[RawRule(Match(), protos=rfc)])
    assert play >> tcp(SERVER, ROUTER, "S", dport=8080) << accept(IP_CT_NEW, state="SYN_O2I", timeout=240, dst=CLIENT)


# --- marks -----------------------------------------------------------------------------------------------------


def test_a_mark_is_set_once_and_restored_to_every_packet(family: int) -> None:
    """Policy routing by connection: the first packet decides, the rest follow, answers too."""
    decide = MarkRule(to_port(443), MARK_SET, value=0x11, mask=0xFF, hooks=HOOKS)
    follow = MarkRule(Match(), MARK_RESTORE, mask=0xFF, hooks=HOOKS)
    play = Play(family, mark_rules=[decide, follow])
    assert (
        play
        >> udp(CLIENT, SERVER, dport=443)
        << accept(IP_CT_NEW, connmark=0x11, mark=0x11)
        >> udp(SERVER, CLIENT, sport=443)
        << accept(IP_CT_ESTABLISHED_REPLY, connmark=0x11, mark=0x11)
        >> udp(CLIENT, SERVER, dport=80)
        << accept(IP_CT_NEW, connmark=0, mark=0)
    )


def test_the_packets_mark_is_saved_but_not_the_bits_that_carry_the_connection(family: int) -> None:
    play = Play(family, mark_rules=[MarkRule(Match(), MARK_SAVE, hooks=HOOKS)])
    assert play >> udp(CLIENT, SERVER) << accept(IP_CT_NEW, connmark=0)
    skb = Skb(udp(CLIENT, SERVER).bytes_for(family), 0x42, 2, 0)
    play.engine.handle(skb, PRE_ROUTING, play.now)
    assert skb.ct is not None
    assert skb.ct.mark == 0x42
    assert skb.mark & 0xFF == 0x42


def test_a_changed_mark_is_an_event(family: int) -> None:
    play = Play(family, mark_rules=[MarkRule(to_port(443), MARK_SET, value=1, hooks=HOOKS)])
    assert play >> udp(CLIENT, SERVER, dport=443) << accept(IP_CT_NEW)
    assert play.events == ["NEW"]
    assert play >> udp(CLIENT, SERVER, dport=443) << accept(IP_CT_NEW)
    assert play.events == ["NEW"]


def test_a_changed_label_is_an_event_of_its_own(family: int) -> None:
    """In the NEW event with the first packet, later as an update; set again, it is none (nf_connlabel_set)."""
    answers = Match(proto=Numbers([IPPROTO_UDP, IPPROTO_UDP]), sport=Numbers([443, 443]))
    rules = [
        MarkRule(to_port(443), LABEL_SET, value=1 << 5, hooks=HOOKS),
        MarkRule(answers, LABEL_SET, value=1 << 127, hooks=HOOKS),
    ]
    play = Play(family, mark_rules=rules)
    for _ in range(2):
        assert (
            play
            >> udp(CLIENT, SERVER, dport=443)
            << accept()
            >> udp(SERVER, CLIENT, sport=443)
            << accept(IP_CT_ESTABLISHED_REPLY)
        )
    told = [(event.bits, event.labels) for event in play.log]
    assert told == [
        (IPCT_NEW | IPCT_LABEL, 1 << 5),
        (IPCT_REPLY, 1 << 5),
        (IPCT_LABEL, 1 << 5 | 1 << 127),
    ]


# --- expectations ----------------------------------------------------------------------------------------------------


def expect(play: Play, sender: Host, receiver: Host, port: int, *, seconds: int = 300, flags: int = 0) -> bool:
    """What a helper does: packets from anywhere on sender to this port of receiver belong to play's connection."""
    master = play.ct
    assert master is not None
    src, dst = (sender.v4, receiver.v4) if play.family == 4 else (sender.v6, receiver.v6)
    t = tuples.make(packets.address(src) + packets.address(dst), b"\0\0" + port.to_bytes(2, "big"), IPPROTO_UDP)
    mask = source_mask(t, address=True)
    return play.engine.core.expectations.expect(
        Expectation(master, t, mask, play.now + seconds * 1000, flags=flags), most=1, now=play.now
    )


def test_an_expected_connection_is_related(play: Play) -> None:
    """Only its first packet is; it has a master and that one's mark."""
    assert play >> udp(CLIENT, SERVER) << accept(IP_CT_NEW)
    assert play.ct is not None
    master = play.ct
    master.mark = 5
    assert expect(play, SERVER, CLIENT, 7000)
    assert play >> udp(SERVER, CLIENT, sport=999, dport=7000) << accept(IP_CT_RELATED, status=IPS_EXPECTED, connmark=5)
    assert play.ct.master is master
    assert play >> udp(CLIENT, SERVER, sport=7000, dport=999) << accept(IP_CT_ESTABLISHED_REPLY, status=IPS_EXPECTED)
    assert play >> udp(SERVER, CLIENT, sport=999, dport=7000) << accept(IP_CT_ESTABLISHED)
    assert play.events[:2] == ["NEW", "NEW"]


def test_an_expectation_is_used_up(play: Play) -> None:
    assert play >> udp(CLIENT, SERVER) << accept(IP_CT_NEW)
    assert expect(play, SERVER, CLIENT, 7000)
    assert play >> udp(SERVER, CLIENT, sport=1, dport=7000) << accept(IP_CT_RELATED)
    assert play >> udp(SERVER, CLIENT, sport=2, dport=7000) << accept(IP_CT_NEW)


def test_a_permanent_one_is_not(play: Play) -> None:
    assert play >> udp(CLIENT, SERVER) << accept(IP_CT_NEW)
    assert expect(play, SERVER, CLIENT, 7000, flags=PERMANENT)
    for sport in (1, 2, 3):
        assert play >> udp(SERVER, CLIENT, sport=sport, dport=7000) << accept(IP_CT_RELATED)


def test_another_host_is_not_expected(play: Play) -> None:
    assert play >> udp(CLIENT, SERVER) << accept(IP_CT_NEW)
    assert expect(play, SERVER, CLIENT, 7000)
    assert play >> udp(NEIGHBOUR, CLIENT, dport=7000) << accept(IP_CT_NEW, not_status=IPS_EXPECTED)


def test_expectations_end_with_their_time_and_with_their_master(play: Play) -> None:
    expectations = play.engine.core.expectations
    assert play >> udp(CLIENT, SERVER) << accept(IP_CT_NEW)
    assert expect(play, SERVER, CLIENT, 7000, seconds=10)
    assert play >> advance(11) << nothing()
    assert expectations.count == 0
    assert play >> udp(CLIENT, SERVER) << accept(IP_CT_NEW)
    assert expect(play, SERVER, CLIENT, 7000)
    assert play >> advance(31) << destroyed("timeout")
    assert expectations.count == 0


# --- the events of rules ---------------------------------------------------------------------------------------------


def test_a_mark_that_changes_after_confirm_is_reported_by_an_update_event(family: int) -> None:
    """Before confirm the NEW event has it. The same mark again is no event (xt_connmark)."""
    answers = Match(proto=Numbers([IPPROTO_UDP, IPPROTO_UDP]), sport=Numbers([443, 443]))
    rules = [MarkRule(to_port(443), MARK_SET, value=1, mask=0), MarkRule(answers, MARK_SET, value=6, mask=7)]
    play = Play(family, mark_rules=rules[1:])
    for _ in range(2):
        assert (
            play
            >> udp(CLIENT, SERVER, dport=443)
            << accept()
            >> udp(SERVER, CLIENT, sport=443)
            << accept(IP_CT_ESTABLISHED_REPLY, connmark=6)
        )
    assert [(event.bits, event.mark) for event in play.log] == [(IPCT_NEW, 0), (IPCT_REPLY, 0), (IPCT_MARK, 6)]
    play = Play(family, mark_rules=rules[:1])
    assert play >> udp(CLIENT, SERVER, dport=443) << accept(IP_CT_NEW)
    assert [event.bits & IPCT_MARK for event in play.log] == [IPCT_MARK]


def test_the_first_event_of_an_expected_connection_is_related_not_new(play: Play) -> None:
    """conntrack(8) shows both as NEW. A listener for IPCT_RELATED gets only expected connections."""
    assert play >> udp(CLIENT, SERVER) << accept(IP_CT_NEW)
    assert expect(play, SERVER, CLIENT, 7000)
    assert play >> udp(SERVER, CLIENT, sport=999, dport=7000) << accept(IP_CT_RELATED)
    assert [event.bits for event in play.log] == [IPCT_NEW, IPCT_RELATED]
