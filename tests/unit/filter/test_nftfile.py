"""Rulesets as nft writes them: chains, rules, verdicts; and what is not understood is said with its line."""

import pytest

from conntrackd_py.const import FORWARD, LOCAL_IN, LOCAL_OUT, NF_ACCEPT, NF_DROP
from conntrackd_py.filter import nft, nftfile, reject
from conntrackd_py.filter.nftfile import RulesetError
from conntrackd_py.filter.policy import ACCEPT, CONTINUE, DROP, REJECT, FilterRule
from tests.support.packets import address


def rule(text: str, family: str = "inet") -> FilterRule:
    (chain,) = nftfile.parse(f"table {family} t {{ chain c {{ type filter hook forward priority 0; {text} }} }}")
    (one,) = chain.rules
    return one


def test_the_example_of_the_article() -> None:
    (chain,) = nftfile.parse(
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
        assert each.in_interface is not None
        assert each.out_interface is not None
        assert (each.in_interface.names, each.out_interface.names) == ([inward], [outward])
        assert each.ct is not None
        assert each.ct.form() == nft.parse(f"ct state {states}").form()
        assert each.action == ACCEPT
    assert two.label == "filter forward line 8"


def test_several_tables_and_chains_in_the_order_of_their_priorities() -> None:
    chains = nftfile.parse(
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
    assert one.in_interface is not None
    assert one.out_interface is not None
    assert (one.in_interface.names, one.in_interface.invert) == (["eth+"], False)
    assert (one.out_interface.names, one.out_interface.invert) == (["lan0", "wan"], True)


def test_addresses() -> None:
    one = rule("ip saddr { 10.0.0.0/8, 192.168.0.1 } ip daddr != 10.0.0.1-10.0.0.9 drop")
    assert one.source is not None
    assert one.destination is not None
    assert one.source.has(address("10.1.2.3"))
    assert not one.source.has(address("192.168.0.2"))
    assert one.destination.invert
    assert one.family == 4
    assert rule("ip6 daddr fd00::/8 drop").family == 6


def test_protocols_and_ports() -> None:
    one = rule("tcp dport { 22, 80-90 } tcp sport >= 1024 accept")
    assert one.proto is not None
    assert one.dport is not None
    assert one.sport is not None
    assert (one.proto.bounds, one.dport.bounds, one.sport.bounds) == ([6, 6], [22, 22, 80, 90], [1024, 65535])
    for text in ("meta l4proto { tcp, udp } th dport 53 accept", "ip protocol udp udp dport != 53 accept"):
        assert rule(text).dport is not None
    nexthdr = rule("ip6 nexthdr icmpv6 accept")
    assert nexthdr.proto is not None
    assert (nexthdr.proto.bounds, nexthdr.family) == ([58, 58], 6)


def test_a_set_over_several_lines() -> None:
    one = rule("tcp dport {\n 22,\n 80,\n } accept")
    assert one.dport is not None
    assert one.dport.bounds == [22, 22, 80, 80]


def test_ct_expressions() -> None:
    one = rule("ct state established,related ct status ! dnat ct original proto-dst 80 accept")
    assert one.ct is not None
    assert one.ct.form() == nft.parse("ct state established,related ct status ! dnat ct original proto-dst 80").form()


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


def test_what_an_answer_says_of_the_packet() -> None:
    reset = rule("reject with tcp reset")
    assert reset.proto is not None
    assert reset.proto.bounds == [6, 6]
    assert rule("reject with icmpv6 no-route").family == 6


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("iif eth0 jump other", "jump is not read here"),
        ("log drop", "log is not read here"),
        ("limit rate 5/second accept", "limit is not read here"),
        ("ct state vmap { established : accept }", "vmap|no such ct state"),
        ("ct state establised accept", "no such ct state: establised"),
        ("icmp type echo-request accept", "icmp has no ports; its other fields are not read here"),
        ("tcp flags syn drop", "tcp flags is not read here"),
        ("ip ttl 1 drop", "ip ttl is not read here"),
        ("meta mark 1 drop", "meta mark is not read here"),
        ("accept drop", "drop where the statement should end"),
        ("iif eth0 iif eth1 drop", "iif asks the same thing a second time in one rule"),
        ("ip saddr 10.0.0.1 ip saddr 10.0.0.2 drop", "saddr asks the same thing a second time"),
        ("tcp dport 1 udp dport 2 drop", "udp contradicts the protocol already named"),
        ("ip saddr 10.0.0.1 ip6 daddr ::1 drop", "ip6 is for IPv6, but this rule is for IPv4"),
        ("ip saddr fd00::1 drop", "saddr of this family cannot be that address"),
        ("tcp dport ssh accept", "ssh where a port"),
        ("tcp accept", "accept is not read here"),
        ("reject with icmp type no-route", "no such code of icmp: no-route"),
        ("reject with rst", "no such answer: rst"),
        ("iif { } drop", "an empty set"),
        ("policy deny", "no such policy: deny"),
    ],
)
def test_what_is_not_read_is_said_with_its_line(statement: str, why: str) -> None:
    text = f"table inet t {{\n chain c {{\n type filter hook forward priority 0;\n {statement}\n }}\n}}"
    with pytest.raises(RulesetError, match=why) as caught:
        nftfile.parse(text)
    assert caught.value.line == 4


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("chain c { }", "chain where table belongs"),
        ("table bridge t { }", "no such family of tables that can filter: bridge"),
        ("table ip t { set s { } }", "set where chain belongs"),
        ("table ip t { chain c { } }", "chain c must begin with type filter hook"),
        ("table ip t { chain c { accept } }", "chain c must begin with type filter hook"),
        ("table ip t { chain c { type nat hook input priority 0; } }", "nat where filter belongs"),
        ("table ip t { chain c { type filter hook prerouting priority 0; } }", "no such hook that is read here"),
        ("table ip t { chain c { type filter hook input priority high; } }", "high where a priority"),
        ("table ip t { chain c {", "the text ends where } belongs"),
        ("table ip t", "nothing where { belongs"),
        ("table ip6 t { chain c { type filter hook input priority 0; ip saddr 10.0.0.1 drop } }", "ip is for IPv4"),
    ],
)
def test_what_else_is_refused(text: str, why: str) -> None:
    with pytest.raises(RulesetError, match=why):
        nftfile.parse(text)


def test_nothing_is_a_ruleset_too() -> None:
    assert nftfile.parse("") == nftfile.parse("# nothing\n;;\n") == nftfile.parse("table ip t { }") == []
