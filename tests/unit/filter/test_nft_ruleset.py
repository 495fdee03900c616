"""Rulesets in nft's syntax: chains, rules, verdicts; errors with their line."""

import pytest

from conntrackd_py.const import FORWARD, LOCAL_IN, LOCAL_OUT, NF_ACCEPT, NF_DROP
from conntrackd_py.filter import nft, nft_ruleset, reject
from conntrackd_py.filter.nft_ruleset import RulesetError
from conntrackd_py.filter.policy import ACCEPT, CONTINUE, DROP, REJECT, FilterRule
from tests.support.packets import address


def rule(text: str, family: str = "inet") -> FilterRule:
    (chain,) = nft_ruleset.parse(f"table {family} t {{ chain c {{ type filter hook forward priority 0; {text} }} }}")
    (one,) = chain.rules
    return one


def test_the_example_of_the_article() -> None:
    (chain,) = nft_ruleset.parse(
        """
# allowing new connections to be established from eth0 to eth1,
# but only established+related packets allowed from eth1 to eth0
table ip filter {
        chain forward {
                type filter hook forward priority filter; policy drop;
                iif eth0 oif eth1 ct state new,established,related accept
                iif eth1 oif eth0 ct state established,related accept
        }
}
"""
    )
    assert (chain.hook, chain.default, chain.family, chain.label) == (FORWARD, NF_DROP, 4, "filter forward")
    one, two = chain.rules
    for each, inward, outward, states in (
        (one, "eth0", "eth1", "new,established,related"),
        (two, "eth1", "eth0", "established,related"),
    ):
        assert each.match.in_interface is not None
        assert each.match.out_interface is not None
        assert (each.match.in_interface.names, each.match.out_interface.names) == ([inward], [outward])
        assert each.match.ct is not None
        assert each.match.ct.form() == nft.parse(f"ct state {states}").form()
        assert each.action == ACCEPT
    assert two.label == "filter forward line 8"


def test_several_tables_and_chains_in_the_order_of_their_priorities() -> None:
    chains = nft_ruleset.parse(
        """#!/usr/sbin/nft -f
        flush ruleset
        table inet late { chain a { type filter hook input priority filter + 10; }
                          chain b { type filter hook output priority filter
                                    policy drop
                          } }
        add table early
        {
          chain c
          {
            comment "first of all"
            type filter hook input priority -5; policy accept;
          }
        }
        """
    )
    assert [(c.label, c.hook, c.default, c.family) for c in chains] == [
        ("early c", LOCAL_IN, NF_ACCEPT, 4),
        ("late b", LOCAL_OUT, NF_DROP, 0),
        ("late a", LOCAL_IN, NF_ACCEPT, 0),
    ]


def test_interfaces() -> None:
    one = rule('iifname "eth*" oifname != { lan0, "wan" } accept')
    assert one.match.in_interface is not None
    assert one.match.out_interface is not None
    assert (one.match.in_interface.names, one.match.in_interface.invert) == (["eth+"], False)
    assert (one.match.out_interface.names, one.match.out_interface.invert) == (["lan0", "wan"], True)


def test_addresses() -> None:
    one = rule("ip saddr { 10.0.0.0/8, 192.168.0.1 } ip daddr != 10.0.0.1-10.0.0.9 drop")
    assert one.match.source is not None
    assert one.match.destination is not None
    assert one.match.source.has(address("10.1.2.3"))
    assert not one.match.source.has(address("192.168.0.2"))
    assert one.match.destination.invert
    assert one.match.family == 4
    assert rule("ip6 daddr fd00::/8 drop").match.family == 6


def test_protocols_and_ports() -> None:
    one = rule("tcp dport { 22, 80-90 } tcp sport >= 1024 accept")
    assert one.match.proto is not None
    assert one.match.dport is not None
    assert one.match.sport is not None
    assert (one.match.proto.bounds, one.match.dport.bounds, one.match.sport.bounds) == (
        [6, 6],
        [22, 22, 80, 90],
        [1024, 65535],
    )
    for text in ("meta l4proto { tcp, udp } th dport 53 accept", "ip protocol udp udp dport != 53 accept"):
        assert rule(text).match.dport is not None
    nexthdr = rule("ip6 nexthdr icmpv6 accept")
    assert nexthdr.match.proto is not None
    assert (nexthdr.match.proto.bounds, nexthdr.match.family) == ([58, 58], 6)


def test_a_set_over_several_lines() -> None:
    one = rule("tcp dport {\n 22,\n 80,\n } accept")
    assert one.match.dport is not None
    assert one.match.dport.bounds == [22, 22, 80, 80]


def test_ct_expressions() -> None:
    one = rule("ct state established,related ct status ! dnat ct original proto-dst 80 accept")
    assert one.match.ct is not None
    assert (
        one.match.ct.form()
        == nft.parse("ct state established,related ct status ! dnat ct original proto-dst 80").form()
    )


@pytest.mark.parametrize(
    ("verdict", "action", "kind"),
    [
        ("accept", ACCEPT, 0),
        ("drop", DROP, 0),
        ("counter packets 5 bytes 300 drop", DROP, 0),
        ('counter drop comment "why not"', DROP, 0),
        ("counter", CONTINUE, 0),
        ("reject", REJECT, reject.PORT_UNREACHABLE),
        ("reject with tcp reset", REJECT, reject.TCP_RESET),
        ("reject with icmp type host-unreachable", REJECT, reject.HOST_UNREACHABLE),
        ("reject with icmp net-prohibited", REJECT, reject.NET_PROHIBITED),
        ("reject with icmpv6 policy-fail", REJECT, reject.POLICY_FAIL),
        ("reject with icmpx admin-prohibited", REJECT, reject.ADMIN_PROHIBITED),
    ],
)
def test_verdicts(verdict: str, action: int, kind: int) -> None:
    one = rule(verdict)
    assert (one.action, one.reject) == (action, kind)


def test_reject_with_implies_protocol_and_family() -> None:
    reset = rule("reject with tcp reset")
    assert reset.match.proto is not None
    assert reset.match.proto.bounds == [6, 6]
    assert rule("reject with icmpv6 no-route").match.family == 6


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("iif eth0 jump other", "jump is not supported"),
        ("log drop", "log is not supported"),
        ("limit rate 5/second accept", "limit is not supported"),
        ("ct state vmap { established : accept }", "vmap|no such ct state"),
        ("ct state establised accept", "no such ct state: establised"),
        ("icmp type echo-request accept", "icmp has no ports; its other fields are not supported"),
        ("tcp flags syn drop", "tcp flags is not supported"),
        ("ip ttl 1 drop", "ip ttl is not supported"),
        ("meta mark 1 drop", "meta mark is not supported"),
        ("accept drop", "expected the end of the statement, found drop"),
        ("iif eth0 iif eth1 drop", "iif repeats a match of the same rule"),
        ("ip saddr 10.0.0.1 ip saddr 10.0.0.2 drop", "saddr repeats a match"),
        ("tcp dport 1 udp dport 2 drop", "udp contradicts the protocol given before"),
        ("ip saddr 10.0.0.1 ip6 daddr ::1 drop", "ip6 is for IPv6, but this rule is for IPv4"),
        ("ip saddr fd00::1 drop", "the address of saddr is of the other family"),
        ("tcp dport ssh accept", "'ssh' is not a port"),
        ("tcp accept", "accept is not supported"),
        ("reject with icmp type no-route", "no such code of icmp: no-route"),
        ("reject with rst", "no such reject type: rst"),
        ("iif { } drop", "an empty set"),
        ("policy deny", "no such policy: deny"),
    ],
)
def test_a_wrong_statement_is_refused_with_its_line(statement: str, why: str) -> None:
    text = f"table inet t {{\n chain c {{\n type filter hook forward priority 0;\n {statement}\n }}\n}}"
    with pytest.raises(RulesetError, match=why) as caught:
        nft_ruleset.parse(text)
    assert caught.value.line == 4


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("chain c { }", "expected table at the top of a ruleset, found chain"),
        ("table bridge t { }", "no such family of filter tables: bridge"),
        ("table ip t { set s { } }", "expected chain, found set"),
        ("table ip t { chain c { } }", "chain c must begin with type filter hook"),
        ("table ip t { chain c { accept } }", "chain c must begin with type filter hook"),
        ("table ip t { chain c { type nat hook input priority 0; } }", "expected filter after type"),
        ("table ip t { chain c { type filter hook prerouting priority 0; } }", "no such supported hook"),
        ("table ip t { chain c { type filter hook input priority high; } }", "'high' is not a priority"),
        ("table ip t { chain c {", "expected }, found the end of the text"),
        ("table ip t", "expected { after table t, found the end of the text"),
        ("table ip6 t { chain c { type filter hook input priority 0; ip saddr 10.0.0.1 drop } }", "ip is for IPv4"),
    ],
)
def test_what_else_is_refused(text: str, why: str) -> None:
    with pytest.raises(RulesetError, match=why):
        nft_ruleset.parse(text)


def test_an_empty_ruleset() -> None:
    assert nft_ruleset.parse("") == nft_ruleset.parse("# nothing\n;;\n") == nft_ruleset.parse("table ip t { }") == []
