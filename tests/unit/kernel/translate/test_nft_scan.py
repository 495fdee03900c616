"""The structure of nft text."""

import pytest

from conntrackd_py.kernel.translate.nft_scan import Scan
from tests.support.rulesets import FIREWALLD, NFT


def test_chains_have_their_hooks_and_rules() -> None:
    scan = Scan(NFT)
    assert {chain.name: (chain.hook, chain.priority, chain.policy, chain.nat) for chain in scan.chains.values()} == {
        "dispatch": ("", 0, "accept", False),
        "input": ("input", 0, "drop", False),
        "forward": ("forward", 0, "drop", False),
        "marks": ("prerouting", -150, "accept", False),
        "untrack": ("prerouting", -300, "accept", False),
        "late": ("postrouting", 200, "accept", False),
        "dstnat": ("prerouting", -100, "accept", True),
        "srcnat": ("postrouting", 100, "accept", True),
        "unused": ("", 0, "accept", False),
    }
    assert scan.chains["inet", "router", "input"].rules[1].jumps == {"dispatch"}


def test_objects_of_a_table_are_no_rules() -> None:
    assert [found.rule.text for found in Scan(FIREWALLD).found[:3]] == [
        "tcp dport 22 accept",
        'udp dport 137 ct helper set "helper-netbios-ns-udp"',
        'iifname "lan0" goto filter_IN_home',
    ]


@pytest.mark.parametrize(
    ("priority", "number"),
    [("filter + 10", 10), ("filter+10", 10), ("raw - 5", -305), ("-300", -300), ("- 300", -300), ("security", 50)],
)
def test_priorities(priority: str, number: int) -> None:
    scan = Scan(f"table t {{ chain c {{ type filter hook input priority {priority}; }} }}")
    assert scan.chains["ip", "t", "c"].priority == number


@pytest.mark.parametrize(
    "text",
    ["}", "{", "table", "table t {", "table t { chain c {", 'chain x { "', "add rule t", "}}{{", "\\", "add chain {"],
)
def test_any_text_comes_to_an_end(text: str) -> None:
    assert Scan(text).found == []


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        ('iifname "wan0" accept', "wan0"),
        ("iif == wan0 accept", "wan0"),
        ("iifname eth0.10 accept", "eth0.10"),
        ("iifname != wan0 accept", ""),
        ('iifname { "a", "b" } accept', ""),
        ("iifname @lans accept", ""),
        ("iifname $lan accept", ""),
        ("iifname vmap { a : accept }", ""),
        ("iifname . oifname { a . b } accept", ""),
    ],
)
def test_the_incoming_interface_of_a_rule(rule: str, name: str) -> None:
    assert Scan(f"table t {{ chain c {{ {rule} ; }} }}").found[0].rule.in_interface == name
