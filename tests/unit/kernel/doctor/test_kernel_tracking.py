"""Which rules in force make `steering.kernel_conntrack = "auto"` keep the kernel's tracking."""

import pytest

from conntrackd_py.kernel.doctor import iptables_save
from conntrackd_py.kernel.doctor.kernel_tracking import decided
from conntrackd_py.kernel.doctor.ruleset import Chain, Rule, Ruleset
from conntrackd_py.settings.load import parse
from tests.support.rulesets import BY_MARK, DOCKER, IPTABLES, UFW

TOML: dict[str, object] = {"nat": [{"out_interface": "wan0", "source": "192.168.1.0/24", "action": "MASQUERADE"}]}


def decision(text: str, data: dict[str, object] | None = None) -> tuple[bool, str]:
    chains, unread = iptables_save.read(text, "iptables", "ip")
    return decided(parse(data or {}, "FILE"), Ruleset(chains, unread))


def one(line: str, table: str = "filter", chain: str = "FORWARD") -> bool:
    return decision(f"*{table}\n:{chain} ACCEPT [0:0]\n:USER - [0:0]\n-A {chain} {line}\nCOMMIT\n", TOML)[0]


@pytest.mark.parametrize(
    ("line", "keep"),
    [
        ("-m conntrack --ctstate ESTABLISHED -j ACCEPT", True),
        ("-m state --state NEW -j ACCEPT", True),
        ("-m conntrack ! --ctstate UNTRACKED -j ACCEPT", True),
        ("-m conntrack --ctstatus DNAT -j ACCEPT", True),
        ("-m connmark --mark 0x1 -j ACCEPT", True),
        ("-m connlimit --connlimit-above 5 -j DROP", True),
        ("-j CONNMARK --save-mark", True),
        ("-j CONNMARK --restore-mark", True),
        ("-j CT --zone 3", True),
        ("-j CT --helper ftp", True),
        ("-j CT --notrack", False),
        ("-m conntrack --ctstate NEW,UNTRACKED -j ACCEPT", False),
        ("-i lo -m conntrack --ctstate NEW -j ACCEPT", False),
        ("-o lo -m conntrack --ctstate NEW -j ACCEPT", False),
        ("-p tcp --dport 22 -j ACCEPT", False),
        ("-m mark --mark 0x800/0xf00 -j ACCEPT", False),
    ],
)
def test_single_rules(line: str, keep: bool) -> None:
    assert one(line) is keep


def test_kernel_nat_that_a_rule_of_the_daemon_covers_needs_nothing() -> None:
    assert not one("-s 192.168.1.0/24 -o wan0 -j MASQUERADE", "nat", "POSTROUTING")
    assert one("-s 172.17.0.0/16 ! -o docker0 -j MASQUERADE -o wan1", "nat", "POSTROUTING")
    assert one("-i wan0 -p tcp --dport 80 -j DNAT --to-destination 10.0.0.1", "nat", "PREROUTING")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (UFW, "needed by iptables ip filter ufw-before-input: -A ufw-before-input -m conntrack"),
        (DOCKER, "needed by iptables ip filter FORWARD: -A FORWARD -o docker0 -m conntrack"),
        (IPTABLES, "needed by iptables ip mangle FORWARD: -A FORWARD -m connmark"),
    ],
)
def test_the_first_rule_is_named(text: str, reason: str) -> None:
    keep, why = decision(text)
    assert keep
    assert why.replace("ipv4", "ip").startswith(reason)


def test_nothing_needs_it() -> None:
    assert decision(BY_MARK) == (False, "no rule needs it")
    assert decision("") == (False, "no rule needs it")


def test_rules_of_another_family_and_chains_never_reached_do_not_count() -> None:
    established = "*filter\n:USER - [0:0]\n-A USER -m conntrack --ctstate ESTABLISHED -j ACCEPT\nCOMMIT\n"
    assert decision(established) == (False, "no rule needs it")
    assert not decision(UFW, {"steering": {"families": ["ipv6"]}})[0]


def test_the_daemons_own_rules_do_not_count() -> None:
    own = "*mangle\n:POSTROUTING ACCEPT [0:0]\n:CONNTRACKD_PY_POST - [0:0]\n-A POSTROUTING -j CONNTRACKD_PY_POST\n"
    own += "-A CONNTRACKD_PY_POST -m conntrack --ctstate RELATED -j RETURN\nCOMMIT\n"
    assert decision(own) == (False, "no rule needs it")


def test_rules_that_are_not_understood_may_need_it() -> None:
    assert decided(parse({}, "FILE"), Ruleset([], unread=2)) == (True, "rules not understood: 2")


def test_with_a_flowtable_it_is_switched_off() -> None:
    """A flowtable would forward packets past the daemon, untranslated."""
    rules = [Rule("ct state established", ct=True), Rule("flow add @ft", does={"offload"})]
    chain = Chain("nft", "inet", "firewall", "forward", "forward", rules=rules)
    keep, why = decided(parse({}, "FILE"), Ruleset([chain]))
    assert not keep
    assert why.endswith("flow add @ft")
