"""The output of `rules check`; its findings with real rulesets: tests/e2e/test_rules_check.py."""

from conntrackd_py.cli.conntrackd.rules_check import amounts, grouped
from conntrackd_py.kernel.doctor.findings import Finding


def finding(severity: str = "error", rule: str = "-A INPUT", what: str = "It is wrong.") -> Finding:
    return Finding(severity, "code", what, "Mend it.", "iptables", "ipv4", "filter", "INPUT", rule)


def test_rules_with_the_same_finding_stand_together() -> None:
    assert grouped([finding(), finding(rule="-A OUTPUT \x1b[31m"), finding(what="It is late.")]) == [
        "error: code: It is wrong.",
        "    iptables ipv4 filter INPUT: -A INPUT",
        "    iptables ipv4 filter INPUT: -A OUTPUT \\x1b[31m",
        "  Remedy: Mend it.",
        "",
        "error: code: It is late.",
        "    iptables ipv4 filter INPUT: -A INPUT",
        "  Remedy: Mend it.",
        "",
    ]


def test_a_finding_without_a_place() -> None:
    assert grouped([Finding("info", "unread", "Not read.", "Read it.")]) == [
        "info: unread: Not read.",
        "  Remedy: Read it.",
        "",
    ]


def test_amounts() -> None:
    assert amounts([finding(), finding("warning"), finding("warning")]) == "1 error, 2 warnings, 0 infos"
