"""Rules, chains and their order, one packet at a time."""

import pytest

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import FORWARD, LOCAL_IN, LOCAL_OUT, NF_ACCEPT, NF_DROP, PRE_ROUTING
from conntrackd_py.filter.policy import ACCEPT, CONTINUE, DROP, REJECT, Chain, FilterRule, Policy
from conntrackd_py.filter.reject import ADMIN_PROHIBITED
from conntrackd_py.match.match import Match
from conntrackd_py.reasons import FILTER_DROP, FILTER_REJECT, OK
from conntrackd_py.wire import ip
from tests.support import packets

A, B = "10.0.0.1", "10.0.0.2"


def packet(data: bytes = b"", indev: int = 1, outdev: int = 2) -> Skb:
    skb = Skb(data or packets.udp(A, B, 1000, 53), 0, indev, outdev)
    ip.parse(skb)
    return skb


def verdict(rules: list[FilterRule], skb: Skb, default: int = NF_ACCEPT, family: int = 0) -> int:
    policy = Policy([Chain(FORWARD, rules, default, family)])
    policy.names = {1: "eth0", 2: "eth1"}
    return policy.evaluate(skb, FORWARD, 0)


def test_the_first_rule_that_matches_decides() -> None:
    assert verdict([FilterRule(ACCEPT), FilterRule(DROP)], packet()) == NF_ACCEPT
    assert verdict([FilterRule(DROP), FilterRule(ACCEPT)], packet()) == NF_DROP
    assert verdict([FilterRule(CONTINUE), FilterRule(DROP)], packet()) == NF_DROP


@pytest.mark.parametrize("default", [NF_ACCEPT, NF_DROP])
def test_the_default_decides_when_none_does(default: int) -> None:
    skb = packet()
    assert verdict([], skb, default) == default
    assert skb.reason == (OK if default == NF_ACCEPT else FILTER_DROP)


def test_a_rejected_packet_has_the_kind_of_its_answer() -> None:
    skb = packet()
    assert verdict([FilterRule(REJECT, reject=ADMIN_PROHIBITED)], skb) == NF_DROP
    assert (skb.reason, skb.reject) == (FILTER_REJECT, ADMIN_PROHIBITED)


def test_a_dropped_packet_names_what_decided() -> None:
    for rules, named in (
        ([FilterRule(DROP, label="filter.rule[0]")], "filter.rule[0]"),
        ([FilterRule(REJECT, label="filter.rule[1]", comment="no mail")], "filter.rule[1] (no mail)"),
        ([FilterRule(CONTINUE, label="filter.rule[2]")], "default of filter forward"),
    ):
        skb = packet()
        assert Policy([Chain(FORWARD, rules, NF_DROP, label="filter")]).evaluate(skb, FORWARD, 0) == NF_DROP
        assert skb.rule == named


def test_a_rule_counts_the_packets_it_matches() -> None:
    rule, other = FilterRule(CONTINUE), FilterRule(DROP, Match(family=6))
    assert verdict([rule, other], packet()) == NF_ACCEPT
    assert [(one.packets, one.bytes) for one in (rule, other)] == [(1, 28), (0, 0)]


def test_a_chain_of_one_family() -> None:
    assert verdict([], packet(), NF_DROP, family=6) == NF_ACCEPT
    assert verdict([], packet(), NF_DROP, family=4) == NF_DROP
    assert verdict([], packet(packets.udp("fd00::1", "fd00::2", 1, 2)), NF_DROP, family=6) == NF_DROP


def test_every_chain_of_the_hook_must_accept() -> None:
    accepting = Chain(FORWARD, [FilterRule(ACCEPT)], NF_DROP)
    policy = Policy([accepting, Chain(FORWARD, [], NF_DROP), Chain(LOCAL_IN, [], NF_ACCEPT)])
    assert policy.evaluate(packet(), FORWARD, 0) == NF_DROP
    assert policy.evaluate(packet(), LOCAL_IN, 0) == NF_ACCEPT
    assert policy.evaluate(packet(), LOCAL_OUT, 0) == NF_ACCEPT
    assert policy.evaluate(packet(), PRE_ROUTING, 0) == NF_ACCEPT
    assert (accepting.packets, accepting.bytes) == (0, 0)
