"""Connections that today's rules would not make: by NAT, by the filter, and those that follow no rule."""

import pytest

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import FORWARD, LOCAL_IN, LOCAL_OUT, NF_ACCEPT
from conntrackd_py.explain.stale import CURRENT, NOT_ALLOWED, TRANSLATED_OTHERWISE, first_packet
from conntrackd_py.filter import nft
from conntrackd_py.filter.policy import ACCEPT, DROP, Chain, FilterRule, Policy
from conntrackd_py.match.match import Match
from conntrackd_py.match.numbers import Numbers
from conntrackd_py.wire import ip
from conntrackd_py.wire.packet import Packet
from tests.support.play import CLIENT, ROUTER, SERVER, Play, Said, accept, ping, tcp, udp
from tests.support.rules import masquerade, web_server_inside

ANSWERS = FilterRule(ACCEPT, Match(ct=nft.parse("state established,related")))


@pytest.fixture(params=[4, 6], ids=["v4", "v6"])
def play(request: pytest.FixtureRequest) -> Play:
    return Play(request.param, [masquerade(), web_server_inside(request.param)])


def made(play: Play, said: Said) -> NfConn:
    assert play >> said << accept()
    assert play.ct is not None
    return play.ct


def judge(play: Play, ct: NfConn) -> int:
    return play.engine.stale().why(ct, play.now)


def test_what_the_rules_made_is_current(play: Play) -> None:
    for said in (udp(CLIENT, SERVER), ping(CLIENT, SERVER), udp(CLIENT, ROUTER), udp(ROUTER, SERVER)):
        assert judge(play, made(play, said)) == CURRENT
    assert judge(play, made(play, tcp(SERVER, ROUTER, "S", seq=1, sport=5000, dport=8080))) == CURRENT


def test_without_its_nat_rule_it_is_stale(play: Play) -> None:
    ct = made(play, udp(CLIENT, SERVER))
    play.engine.configure(Tunables())
    assert judge(play, ct) == TRANSLATED_OTHERWISE


@pytest.mark.parametrize(
    ("said", "hook"),
    [(udp(CLIENT, SERVER), FORWARD), (udp(CLIENT, ROUTER), LOCAL_IN), (udp(ROUTER, SERVER), LOCAL_OUT)],
    ids=["forwarded", "to the router", "from the router"],
)
def test_a_filter_that_would_not_let_it_begin(play: Play, said: Said, hook: int) -> None:
    """That it is established does not count: its first packet was not. The rules' counters stay."""
    ct = made(play, said)
    web = FilterRule(ACCEPT, Match(proto=Numbers([17, 17]), dport=Numbers([53, 53])))
    policy = Policy([Chain(hook, [ANSWERS, web], 0)])
    rules = [masquerade(), web_server_inside(play.family)]
    play.engine.configure(Tunables(), nat_rules=rules, policy=policy)
    assert judge(play, ct) == NOT_ALLOWED
    assert [rule.packets for rule in (ANSWERS, web)] == [0, 0]
    allowed = Policy([Chain(hook, [FilterRule(ACCEPT, Match(proto=Numbers([17, 17])))], 0)])
    play.engine.configure(Tunables(), nat_rules=rules, policy=allowed)
    assert judge(play, ct) == CURRENT
    assert policy.chains[hook][0].packets == 0


def test_a_connection_made_by_hand_follows_no_rule(play: Play) -> None:
    ct = made(play, udp(CLIENT, SERVER))
    by_hand = NfConn(ct.original, ct.reply, ct.l4proto, play.now)
    play.engine.configure(Tunables(), policy=Policy([Chain(FORWARD, [FilterRule(DROP)], NF_ACCEPT)]))
    assert judge(play, ct) == TRANSLATED_OTHERWISE
    assert judge(play, by_hand) == CURRENT


@pytest.mark.parametrize("said", [udp(CLIENT, SERVER), tcp(CLIENT, SERVER, "S"), ping(CLIENT, SERVER)])
def test_its_first_packet_can_be_read(play: Play, said: Said) -> None:
    """And looks as the filter saw it: the destination translated, the source not yet."""
    skb = first_packet(made(play, said))
    again = type(skb)(skb.data)
    assert ip.parse(again) == 0
    assert (again.protonum, again.dataoff, again.end, again.version) == (
        skb.protonum,
        skb.dataoff,
        skb.end,
        skb.version,
    )
    assert ip.addresses(skb) == ip.addresses(_parsed(said, play.family))


def _parsed(said: Said, family: int) -> Packet:
    packet = Packet(said.bytes_for(family))
    assert ip.parse(packet) == 0
    return packet
