"""Which rule is named; with the real rulesets: tests/e2e/test_mark_overwritten.py."""

from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.engine.engine import Engine
from conntrackd_py.kernel.doctor.findings import Finding
from conntrackd_py.service.mark_watch import MarkWatch, probable


def finding(code: str, chain: str, rule: str) -> Finding:
    return Finding("error", code, "", "", "iptables", "ipv4", "mangle", chain, rule)


ACCEPT = finding("before-jump", "PREROUTING", "-A PREROUTING -j ACCEPT")
WRITE = finding("mark-write", "FORWARD", "-A FORWARD -j MARK --set-xmark 0x1/0xffffffff")


def test_a_rule_that_writes_the_mark_comes_first() -> None:
    assert probable([ACCEPT, WRITE]) == f"iptables ipv4 mangle FORWARD: {WRITE.rule}"


def test_else_a_rule_that_skips_the_first_visit() -> None:
    late = finding("before-jump", "POSTROUTING", "-A POSTROUTING -j ACCEPT")
    assert probable([late, ACCEPT]) == f"iptables ipv4 mangle PREROUTING: {ACCEPT.rule}"


def test_there_may_be_none() -> None:
    assert probable([finding("ct-match", "FORWARD", "")]) == ""


def test_rules_are_read_only_after_an_overwritten_mark_and_once() -> None:
    engine = Engine(Tunables(), Repeatable())
    watch = MarkWatch(engine.overwritten)
    assert not watch.due()
    engine.overwritten.count = 1
    assert watch.due()
    watch.looked = True
    assert not watch.due()
