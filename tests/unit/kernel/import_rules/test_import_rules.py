"""Whole rulesets -> TOML that loads, with comments and problems."""

import tomllib

import pytest

from conntrackd_py.kernel.import_rules.import_rules import import_rules
from conntrackd_py.settings.load import parse
from tests.support import rulesets


def tables(text: str, form: str = "iptables") -> list[dict[str, object]]:
    done = import_rules(text, form, "FILE")
    assert done.problems == []
    parse(tomllib.loads(done.text), "FILE")
    found: list[dict[str, object]] = tomllib.loads(done.text).get("nat", [])
    return found


def nat(*rules: str) -> str:
    return "\n".join(["*nat", *rules, "COMMIT"])


def test_docker() -> None:
    """Its rule for the router's own packets too, where `! -i docker0` matches every packet."""
    assert tables(rulesets.DOCKER) == [
        {"action": "ACCEPT", "in_interface": "docker0", "destination_type": "local"},
        {
            "action": "DNAT",
            "in_interface": "!docker0",
            "destination_type": "local",
            "proto": "tcp",
            "dport": 8081,
            "to": "172.17.0.2:80",
        },
        {
            "action": "DNAT",
            "hooks": ["output"],
            "destination_type": "local",
            "destination": "!127.0.0.0/8",
            "proto": "tcp",
            "dport": 8081,
            "to": "172.17.0.2:80",
        },
        {"action": "MASQUERADE", "out_interface": "!docker0", "source": "172.17.0.0/16"},
    ]


def test_ufw_has_no_nat() -> None:
    assert tables(rulesets.UFW) == []


def test_firewalld() -> None:
    done = import_rules(rulesets.FIREWALLD, "nft", "FILE")
    assert tomllib.loads(done.text) == {"nat": [{"action": "MASQUERADE", "out_interface": "wan0"}]}
    assert [(line, rule) for line, _, rule in done.problems] == [
        (9, 'udp dport 137 ct helper set "helper-netbios-ns-udp"')
    ]


def test_a_router_with_iptables_and_with_nft() -> None:
    assert [one["action"] for one in tables(rulesets.IPTABLES)] == ["DNAT", "DNAT", "MASQUERADE"]
    assert [one["action"] for one in tables(rulesets.NFT, "nft")] == ["DNAT", "MASQUERADE", "MASQUERADE"]


def test_the_comments_name_the_rule_and_the_jumps_to_it() -> None:
    done = import_rules(
        nat(":U - [0:0]", "-A PREROUTING -i a -j U", "-A U -j DNAT --to-destination 10.0.0.1"), "iptables", "F\n"
    )
    assert done.text.splitlines()[:3] == [
        "# F\\n:3: -A PREROUTING -i a -j U",
        "# F\\n:4: -A U -j DNAT --to-destination 10.0.0.1",
        "[[nat]]",
    ]


@pytest.mark.parametrize(
    ("rule", "hooks"),
    [
        ("-A PREROUTING -j REDIRECT", None),
        ("-A PREROUTING -j DNAT --to-destination 10.0.0.1", ["prerouting"]),
        ("-A PREROUTING -i a -j DNAT --to-destination 10.0.0.1", None),
        ("-A OUTPUT -j DNAT --to-destination 10.0.0.1", ["output"]),
        ("-A OUTPUT -j NETMAP --to 10.0.0.0/8", ["output"]),
        ("-A INPUT -i a -j SNAT --to-source 10.0.0.1", ["input"]),
        ("-A POSTROUTING -j SNAT --to-source 10.0.0.1", None),
        ("-A POSTROUTING -j NETMAP --to 10.0.0.0/8", ["postrouting"]),
        ("-A POSTROUTING -o a -j NETMAP --to 10.0.0.0/8", None),
    ],
)
def test_hooks_are_written_where_they_are_not_the_usual_ones(rule: str, hooks: list[str] | None) -> None:
    (found,) = tables(nat(rule))
    assert found.get("hooks") == hooks


@pytest.mark.parametrize(
    ("form", "rule", "family"),
    [
        ("iptables", "-A POSTROUTING -j MASQUERADE", None),
        ("ip6tables", "-A POSTROUTING -j MASQUERADE", "ipv6"),
        ("ip6tables", "-A POSTROUTING -s fd00::/8 -j MASQUERADE", None),
        ("ip6tables", "-A PREROUTING -i a -p tcp -j DNAT --to-destination [fd00::1]:80", None),
        ("ip6tables", "-A PREROUTING -i a -p tcp -j DNAT --to-destination :80", "ipv6"),
    ],
)
def test_the_family_is_written_where_nothing_else_says_it(form: str, rule: str, family: str | None) -> None:
    (found,) = tables(nat(rule), form)
    assert found.get("family") == family


def test_rules_of_inet_are_for_both_families() -> None:
    text = 'table inet t {\nchain c {\ntype nat hook postrouting priority 100;\noifname "a" masquerade\n}\n}\n'
    assert tables(text, "nft") == [{"action": "MASQUERADE", "family": "any", "out_interface": "a"}]


def test_what_the_configuration_refuses_is_not_translated() -> None:
    done = import_rules(
        nat("-A PREROUTING ! -p tcp -i a -j REDIRECT", "-A OUTPUT -j REDIRECT", '-A PREROUTING -i "a\x7f" -j REDIRECT'),
        "iptables",
        "FILE",
    )
    assert done.rules == 0
    assert [(line, why) for line, why, _ in done.problems] == [
        (2, "proto cannot be inverted in a NAT rule"),
        (3, 'hooks REDIRECT at output leads to lo: remove "lo" from steering.exclude_interfaces'),
        (4, "has a character that TOML does not allow"),
    ]


def test_raw_rules() -> None:
    text = "*raw\n-A PREROUTING -i a -j ACCEPT\n-A PREROUTING -p udp --dport 53 -j CT --notrack\n"
    text += "-A PREROUTING -i b -p tcp --dport 21 -j CT --helper ftp\n-A OUTPUT -j CT --zone 3\nCOMMIT\n"
    done = import_rules(text, "iptables", "FILE")
    assert done.problems == []
    assert tomllib.loads(done.text)["raw"] == [
        {"family": "ipv4", "in_interface": "!a", "proto": "udp", "dport": 53, "notrack": True},
        {"family": "ipv4", "in_interface": "b", "proto": "tcp", "dport": 21, "helper": "ftp"},
        {"hooks": ["output"], "family": "ipv4", "zone": 3},
    ]
