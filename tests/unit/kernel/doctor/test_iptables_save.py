"""iptables-save lines, as the doctor understands them."""

import pytest

from conntrackd_py.kernel.doctor.iptables_save import read, rule
from conntrackd_py.kernel.doctor.ruleset import ACCEPT, CT_WRITE, DROP, NOTRACK, QUEUE, TEMPLATE, TPROXY, TRANSLATE
from tests.support.rulesets import DOCKER


def test_chains_have_the_hook_and_priority_of_their_table() -> None:
    chains, unread = read(DOCKER, "iptables", "ip")
    places = {(chain.table, chain.name): (chain.hook, chain.priority, chain.policy) for chain in chains}
    assert unread == 0
    assert places["filter", "FORWARD"] == ("forward", 0, DROP)
    assert places["nat", "POSTROUTING"] == ("postrouting", 100, ACCEPT)
    assert places["nat", "PREROUTING"] == ("prerouting", -100, ACCEPT)
    assert places["filter", "DOCKER"] == ("", 0, ACCEPT)


@pytest.mark.parametrize(
    ("text", "does"),
    [
        ("-j ACCEPT", {ACCEPT}),
        ("-p tcp -j REJECT --reject-with tcp-reset", {DROP}),
        ("-j NFQUEUE --queue-balance 4:7", {QUEUE}),
        ("-j MASQUERADE", {TRANSLATE}),
        ("-j CT --notrack", {NOTRACK}),
        ("-j NOTRACK", {NOTRACK}),
        ("-j CT --zone 3", {TEMPLATE}),
        ("-j CONNMARK --save-mark --nfmask 0xff --ctmask 0xff", {CT_WRITE}),
        ("-p tcp -j TPROXY --on-port 1 --on-ip 0.0.0.0 --tproxy-mark 0x1/0x1", {TPROXY}),
        ("-j LOG --log-prefix ACCEPT", set()),
        ('-m comment --comment "-j ACCEPT"', set()),
    ],
)
def test_what_a_rule_does(text: str, does: set[str]) -> None:
    assert rule(f"-A FORWARD {text}").does == does


@pytest.mark.parametrize(
    ("text", "writes", "restores"),
    [
        ("-j MARK --set-xmark 0x5/0xffffffff", 0xFFFFFFFF, False),
        ("-j MARK --set-xmark 0x100/0xff", 0x1FF, False),
        ("-j MARK --set-xmark 0x0/0xff", 0xFF, False),
        ("-j CONNMARK --set-xmark 0x5/0xffffffff", 0, False),
        ("-j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff", 0xFF, True),
        ("-j CONNMARK --restore-mark", 0xFFFFFFFF, True),
        ("-j TPROXY --on-port 1 --tproxy-mark 0x1/0x3", 0x3, False),
    ],
)
def test_which_bits_of_the_mark_it_writes(text: str, writes: int, restores: bool) -> None:
    found = rule(f"-A PREROUTING {text}")
    assert (found.writes_mark, found.restores) == (writes, restores)


def test_the_fields_that_it_matches() -> None:
    found = rule("-A X -s 10.0.0.0/8 ! -i lan0 -o wan0 -p tcp -m tcp --dport 80:88 -m mark --mark 0x1/0xf -j Y")
    assert (found.source, found.in_interface, found.out_interface) == ("10.0.0.0/8", "", "wan0")
    assert (found.proto, found.dports, found.compares_mark, found.jumps) == ("tcp", (80, 88), 0xF, {"Y"})
    assert found.narrow
    assert not rule("-A X -i lan0 -m comment --comment y -j DROP").narrow


@pytest.mark.parametrize(
    ("text", "states", "inverted"),
    [
        ("-m conntrack --ctstate RELATED,ESTABLISHED", {"related", "established"}, False),
        ("-m conntrack ! --ctstate NEW", {"new"}, True),
        ("-m state --state NEW", {"new"}, False),
        ("-m connmark --mark 0x1", None, False),
        ("-m conntrack --ctstatus ASSURED", None, False),
    ],
)
def test_matches_of_the_kernels_connection(text: str, states: set[str] | None, inverted: bool) -> None:
    found = rule(f"-A FORWARD {text} -j ACCEPT")
    assert (found.ct, found.states, found.inverted, found.compares_mark) == (True, states, inverted, 0)


def test_lines_that_are_not_understood_are_counted() -> None:
    lines = ["*filter", ":FORWARD DROP [0:0]", "-A FORWARD -m comment --comment 'open", "-A NOWHERE -j DROP"]
    text = "\n".join([*lines, "-A FORWARD -j DROP", "?", ""])
    chains, unread = read(text, "iptables", "ip")
    assert unread == 3
    assert [rule.text for rule in chains[0].rules] == ["-A FORWARD -j DROP"]
