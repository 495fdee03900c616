"""Rules of nft."""

import pytest

from conntrackd_py.kernel.import_rules.conditions import Value
from conntrackd_py.kernel.import_rules.nft_rules import read
from conntrackd_py.kernel.import_rules.walk import ACCEPT, GOTO, JUMP, NAT, POLICY, RAW, RETURN, Entry
from tests.support import rulesets

TABLE = "table inet t {{\nchain pre {{\ntype nat hook prerouting priority dstnat; policy accept;\n{}\n}}\n}}\n"
RAW_TABLE = "table ip t {{\nchain pre {{\ntype filter hook prerouting priority raw;\n{}\n}}\n}}\n"


def entry(rule: str, table: str = TABLE) -> Entry:
    (base,), _, _ = read(table.format(rule))
    (found,) = base.entries
    return found


@pytest.mark.parametrize(
    ("match", "when"),
    [
        ('iifname "eth0"', {"in_interface": Value(("eth0",))}),
        ('meta oifname != { "eth0", "wan*" }', {"out_interface": Value(("eth0", "wan+"), True)}),
        ("meta l4proto { tcp, udp }", {"proto": Value(("tcp", "udp"))}),
        ("meta nfproto ipv6", {"family": Value(("ipv6",))}),
        ("ip6 nexthdr ipv6-icmp", {"family": Value(("ipv6",)), "proto": Value(("icmpv6",))}),
        ("ip saddr != 10.0.0.0/8", {"family": Value(("ipv4",)), "source": Value(("10.0.0.0/8",), True)}),
        (
            "ip6 daddr { fd00::1, fd00::2-fd00::9 }",
            {"family": Value(("ipv6",)), "destination": Value(("fd00::1", "fd00::2-fd00::9"))},
        ),
        ("tcp dport { 80, 1000-2000 }", {"proto": Value(("tcp",)), "dport": Value(("80", "1000:2000"))}),
        ("meta l4proto { tcp, udp } th sport 53", {"proto": Value(("tcp", "udp")), "sport": Value(("53",))}),
        ("meta mark 0x00000001", {"mark": Value(("0x1",))}),
        ("meta mark & 0x000000ff != 0x00000001", {"mark": Value(("0x1/0xff",), True)}),
        ("fib daddr type local", {"destination_type": Value(("local",))}),
        ("fib daddr type != local", {"destination_type": Value(("local",), True)}),
        ("ct state new ct status != dnat", {"ct": Value(("ct state new ct status != dnat",))}),
        ("counter packets 5 bytes 100 tcp dport 80", {"proto": Value(("tcp",)), "dport": Value(("80",))}),
    ],
)
def test_every_match(match: str, when: dict[str, Value]) -> None:
    found = entry(f"{match} accept")
    assert (found.problem, found.when, found.does) == ("", when, ACCEPT)


@pytest.mark.parametrize(
    ("statement", "does", "action", "keys"),
    [
        ("return", RETURN, "", {}),
        ("jump other", JUMP, "other", {}),
        ("goto other", GOTO, "other", {}),
        ("masquerade", NAT, "MASQUERADE", {}),
        ("masquerade to :1024-2000 random", NAT, "MASQUERADE", {"to": ":1024-2000", "random": True}),
        ("redirect to :8080", NAT, "REDIRECT", {"to": ":8080"}),
        ("dnat ip to 10.0.0.1:80", NAT, "DNAT", {"to": "10.0.0.1:80"}),
        ('dnat ip6 to [fd00::1]:80 comment "a b"', NAT, "DNAT", {"to": "[fd00::1]:80", "comment": "a b"}),
        (
            "snat ip to 10.0.0.1-10.0.0.9 fully-random,persistent",
            NAT,
            "SNAT",
            {"to": "10.0.0.1-10.0.0.9", "random_fully": True, "persistent": True},
        ),
    ],
)
def test_every_statement(statement: str, does: str, action: str, keys: dict[str, object]) -> None:
    found = entry(statement)
    assert (found.problem, found.does, found.action, found.keys) == ("", does, action, keys)


@pytest.mark.parametrize(
    ("statement", "keys"),
    [
        ("udp dport 53 notrack", {"notrack": True}),
        ("udp dport 53 notrack accept", {"notrack": True}),
        ("ct zone set 5", {"zone": 5}),
        ("ct original zone set 5", {"zone_orig": 5}),
        ("ct reply zone set 0x6", {"zone_reply": 6}),
    ],
)
def test_rules_before_tracking(statement: str, keys: dict[str, object]) -> None:
    found = entry(statement, RAW_TABLE)
    assert (found.problem, found.does, found.keys) == ("", RAW, keys)


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("ip saddr @inside accept", "the named set @inside"),
        ("tcp dport vmap { 80 : accept }", "vmap has no counterpart"),
        ("ip saddr . tcp dport { 10.0.0.1 . 80 } accept", ". has no counterpart"),
        ("dnat ip to numgen random mod 2 map { 0 : 10.0.0.1, 1 : 10.0.0.2 }", "a target by numgen"),
        ("dnat ip prefix to 10.0.0.0/8", "write it as NETMAP"),
        ("ip ttl 5 accept", "ip ttl has no counterpart"),
        ("tcp flags syn accept", "tcp flags has no counterpart"),
        ("limit rate 5/second accept", "limit has no counterpart"),
        ("counter", "no verdict"),
        ("tcp dport < 1024 accept", "< has no counterpart"),
        ("meta mark set 1", "sets the packet mark"),
        ("meta mark { 1, 2 } accept", "a set of marks"),
        ("meta nfproto { ipv4, ipv6 } accept", "a set of families"),
        ("fib daddr type broadcast accept", "only local"),
        ("fib saddr type local accept", "expected daddr"),
        ("ct mark set 1 accept", "ct mark set has no counterpart"),
        ("tcp dport 80 udp dport 80 accept", "contradict each other"),
        ("ip protocol nothing accept", "no such protocol"),
        ("iifname $wan accept", "$wan is a variable"),
        ("dnat ip to $server", "$server is a variable"),
        ("meta l4proto tcp xt match recent accept", "xt has no counterpart"),
    ],
)
def test_what_has_no_counterpart(rule: str, why: str) -> None:
    assert why in entry(rule).problem


def test_which_chains_are_read() -> None:
    bases, strays, _ = read(rulesets.NFT)
    assert [(one.kind, one.hook, one.priority, len(one.entries)) for one in bases] == [
        (RAW, "prerouting", -300, 1),
        (NAT, "prerouting", -100, 1),
        (NAT, "postrouting", 100, 2),
    ]
    assert strays == []


def test_the_lines_of_a_ruleset_and_helpers_elsewhere() -> None:
    (base,), strays, _ = read(rulesets.FIREWALLD)
    assert [(one.line, one.text) for one in base.entries] == [(41, 'oifname "wan0" goto nat_POST_external')]
    assert [one.text for one in strays] == ['udp dport 137 ct helper set "helper-netbios-ns-udp"']
    assert set(base.chains) >= {"nat_POST_external"}


def test_the_steering_rules_are_not_read() -> None:
    text = RAW_TABLE.replace("table ip t", "table ip conntrackd_py").format("notrack")
    assert read(text) == ([], [], set())


def test_a_set_on_several_lines_with_comments() -> None:
    found = entry("tcp dport { 80, # web\n443 } accept")
    assert (found.problem, found.when["dport"]) == ("", Value(("80", "443")))
    assert found.text == "tcp dport { 80, # web 443 } accept"


def test_a_jump_after_a_statement() -> None:
    assert "jump after another statement" in entry("notrack jump other", RAW_TABLE).problem


def test_a_target_of_iptables_in_the_table_raw() -> None:
    assert entry("meta l4proto tcp xt target CT", RAW_TABLE).problem == "xt has no counterpart"


def test_a_policy_that_drops() -> None:
    _, strays, _ = read(TABLE.format("accept").replace("policy accept", "policy drop"))
    assert [(one.text, one.problem) for one in strays] == [("chain pre { policy drop; }", POLICY)]
