"""Which packets make one visit, and what happens to such a packet that is queued again all the same."""

import pytest

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import (
    FORWARD,
    IP_CT_ESTABLISHED,
    IP_CT_ESTABLISHED_REPLY,
    IP_CT_INVALID,
    IP_CT_NEW,
    IP_CT_RELATED_REPLY,
    IP_CT_UNTRACKED,
    LOCAL_IN,
    LOCAL_OUT,
    NF_ACCEPT,
    NF_DROP,
    POST_ROUTING,
    PRE_ROUTING,
)
from conntrackd_py.engine.mark_codec import MarkCodec
from conntrackd_py.engine.raw_mangle import MARK_SET, MarkRule, RawRule
from conntrackd_py.match.match import Match
from conntrackd_py.reasons import NAT_OIF_CHANGED
from tests.support import packets
from tests.support.play import (
    CLIENT,
    INSIDE,
    LAN,
    OTHER,
    ROUTER,
    SERVER,
    WAN,
    Host,
    Play,
    Said,
    accept,
    error,
    raw,
    tcp,
    udp,
)
from tests.support.rules import masquerade
from tests.support.steering import passes

DONE = 0x1000


def at(host: Host, family: int) -> str:
    return host.v4 if family == 4 else host.v6


def come_in(play: Play, said: Said) -> Skb:
    skb = Skb(said.bytes_for(play.family), 0, said.sender.link)
    assert play.engine.handle(skb, PRE_ROUTING, play.now) == NF_ACCEPT
    return skb


def go_out(play: Play, first: Skb, outdev: int) -> tuple[int, Skb]:
    hook = POST_ROUTING if outdev else LOCAL_IN
    skb = Skb(first.data, first.mark, first.indev, outdev)
    return play.engine.handle(skb, hook, play.now), skb


@pytest.mark.parametrize("mode", ["nat", "track"])
def test_a_confirmed_connection_without_translation(mode: str, family: int) -> None:
    assert (
        Play(family, mode=mode)
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_NEW, visits=2)
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_NEW, visits=1)
        >> udp(SERVER, CLIENT)
        << accept(IP_CT_ESTABLISHED_REPLY, visits=1)
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_ESTABLISHED, visits=1)
    )


def test_the_answer_of_a_translated_source(snat: Play) -> None:
    assert (
        snat
        >> tcp(CLIENT, SERVER, "S", seq=1)
        << accept(IP_CT_NEW, src=ROUTER, visits=2)
        >> tcp(SERVER, ROUTER, "SA", seq=9, ack=2)
        << accept(IP_CT_ESTABLISHED_REPLY, dst=CLIENT, visits=1)
        >> tcp(CLIENT, SERVER, "A", seq=2, ack=10)
        << accept(IP_CT_ESTABLISHED, src=ROUTER, visits=2)
        >> tcp(SERVER, ROUTER, "R", seq=10)
        << accept(IP_CT_ESTABLISHED_REPLY, dst=CLIENT, visits=1)
    )


def test_the_way_there_of_a_translated_destination(dnat: Play) -> None:
    assert (
        dnat
        >> tcp(OTHER, ROUTER, "S", seq=1, sport=50000, dport=8080)
        << accept(IP_CT_NEW, dst=CLIENT, dport=80, visits=2)
        >> tcp(CLIENT, OTHER, "SA", seq=9, ack=2, sport=80, dport=50000)
        << accept(IP_CT_ESTABLISHED_REPLY, src=ROUTER, sport=8080, visits=2)
        >> tcp(OTHER, ROUTER, "A", seq=2, ack=10, sport=50000, dport=8080)
        << accept(IP_CT_ESTABLISHED, dst=CLIENT, dport=80, visits=1)
    )


def test_to_the_router_and_from_it(snat: Play) -> None:
    assert (
        snat
        >> udp(CLIENT, INSIDE, dport=53)
        << accept(IP_CT_NEW, visits=2)
        >> udp(INSIDE, CLIENT, sport=53)
        << accept(IP_CT_ESTABLISHED_REPLY, visits=2)
        >> udp(CLIENT, INSIDE, dport=53)
        << accept(IP_CT_ESTABLISHED, visits=1)
    )


def test_errors_and_invalid_packets(family: int) -> None:
    question = udp(CLIENT, SERVER)
    assert (
        Play(family)
        >> question
        << accept(IP_CT_NEW)
        >> error(SERVER, CLIENT, question)
        << accept(IP_CT_RELATED_REPLY, visits=2)
        >> tcp(CLIENT, SERVER, "R", seq=1)
        << accept(IP_CT_INVALID, visits=2)
    )


def test_untracked_packets_but_not_those_the_leak_guard_judges() -> None:
    play = Play(6, [masquerade()], raw_rules=[RawRule(Match(), notrack=True)])
    neighbour = raw(CLIENT, packets.icmp(CLIENT.v6, SERVER.v6, 135))
    assert (
        play
        >> udp(SERVER, CLIENT)
        << accept(IP_CT_UNTRACKED, visits=1)
        >> udp(CLIENT, SERVER)
        << accept(IP_CT_UNTRACKED, visits=2, src=CLIENT)
    )
    assert not come_in(play, neighbour).mark & DONE


@pytest.mark.parametrize("hook", [LOCAL_IN, FORWARD, POST_ROUTING])
def test_rules_at_a_later_hook_are_not_passed_by(hook: int, family: int) -> None:
    play = Play(family, mark_rules=[MarkRule(Match(), MARK_SET, 5, hooks=(hook,))])
    assert play >> udp(CLIENT, SERVER) << accept(visits=2) >> udp(SERVER, CLIENT) << accept(visits=2)


@pytest.mark.parametrize("hook", [PRE_ROUTING, LOCAL_OUT])
def test_rules_at_the_first_hook_do_not_matter(hook: int, family: int) -> None:
    play = Play(family, mark_rules=[MarkRule(Match(), MARK_SET, 5, hooks=(hook,))])
    assert play >> udp(CLIENT, SERVER) << accept(visits=2) >> udp(SERVER, CLIENT) << accept(visits=1)


def test_a_narrow_mark_has_room_for_the_bit_and_without_a_mark_there_is_none(family: int) -> None:
    for mask, visits in ((0xFF, 1), (0xF, 2), (0, 2)):
        play = Play(family)
        play.engine.mark_codec = MarkCodec(play.engine.core, mask)
        assert play >> udp(CLIENT, SERVER) << accept(visits=2) >> udp(SERVER, CLIENT) << accept(visits=visits)


# --- queued again: they leave by an interface with a source rule -------------------------------------------


def test_a_new_route_to_an_interface_with_a_source_rule_ends_the_connection(snat: Play) -> None:
    """The first packet went to the inside; then the route leads outside."""
    for _ in range(2):
        first = come_in(snat, udp(CLIENT, SERVER))
        assert go_out(snat, first, LAN)[0] == NF_ACCEPT
    first = come_in(snat, udp(CLIENT, SERVER))
    assert first.mark & DONE
    assert passes(snat.engine, first.mark, POST_ROUTING, LAN)
    assert not passes(snat.engine, first.mark, POST_ROUTING, WAN)
    verdict, skb = go_out(snat, first, WAN)
    assert (verdict, skb.reason) == (NF_DROP, NAT_OIF_CHANGED)


@pytest.mark.parametrize("mask", [0xFFFFFF00, 0xFF, 0xFF000000])
def test_a_packet_that_was_done_is_found_again_and_counts_once(mask: int, family: int) -> None:
    play = Play(family, [masquerade()], nf_conntrack_acct=True)
    play.engine.mark_codec = MarkCodec(play.engine.core, mask)
    play.engine.overwritten.codec = play.engine.mark_codec
    for port in range(20):  # the slots of a narrow mark do not fit
        asked = udp(OTHER, CLIENT, sport=1000 + port, dport=80)
        assert go_out(play, come_in(play, asked), LAN)[0] == NF_ACCEPT
        answer = come_in(play, udp(CLIENT, OTHER, sport=80, dport=1000 + port))
        assert answer.mark & play.engine.mark_codec.done
        verdict, skb = go_out(play, answer, WAN)
        assert (verdict, skb.ctinfo, skb.data) == (NF_ACCEPT, IP_CT_ESTABLISHED_REPLY, answer.data)
        assert skb.ct is not None
        assert (skb.ct.packets_original, skb.ct.packets_reply) == (1, 1)
    assert play.engine.overwritten.total == 0


def test_the_mark_of_another_packet_is_not_believed(snat: Play) -> None:
    """A rule restores the mark of an answer for a packet that needs its translation."""
    first = come_in(snat, udp(CLIENT, SERVER))
    assert go_out(snat, first, WAN)[0] == NF_ACCEPT
    answer = come_in(snat, udp(SERVER, ROUTER, dport=40000))
    assert answer.mark & DONE
    again = come_in(snat, udp(CLIENT, SERVER))
    again.mark = answer.mark
    verdict, skb = go_out(snat, again, WAN)
    assert verdict == NF_ACCEPT
    assert packets.address(at(ROUTER, snat.family)) in skb.data


# --- super-packets -----------------------------------------------------------------------------------------


def super_packet(said: Said, family: int) -> Skb:
    skb = Skb(said.bytes_for(family), 0, said.sender.link)
    skb.segments = skb.checksum_partial = True
    return skb


def test_a_super_packet_that_may_be_for_the_router_gets_its_checksum_at_input(dnat: Play) -> None:
    """A connection that was delivered here, to an address that no interface is known to have."""
    opened = come_in(dnat, tcp(OTHER, ROUTER, "S", seq=1, sport=50000, dport=8080))
    assert go_out(dnat, opened, 0)[0] == NF_ACCEPT
    again = tcp(OTHER, ROUTER, "S", seq=1, sport=50000, dport=8080)
    for outdev, done in ((0, False), (LAN, True)):
        assert opened.ct is not None
        opened.ct.oif = outdev
        skb = super_packet(again, dnat.family)
        assert dnat.engine.handle(skb, PRE_ROUTING, dnat.now) == NF_ACCEPT
        assert bool(skb.mark & DONE) is done
