"""Findings about sysctls, routing rules, backends and the packet queue."""

from typing import Any

import pytest

from conntrackd_py.kernel.doctor.findings import Context
from conntrackd_py.kernel.doctor.machine import Machine
from conntrackd_py.kernel.doctor.ruleset import Chain, Rule, Ruleset
from conntrackd_py.kernel.doctor.surroundings import steering_findings, surroundings
from conntrackd_py.kernel.steering.backend import Status
from conntrackd_py.settings.load import parse

MASQUERADE = {"out_interface": "wan0", "action": "MASQUERADE"}
POLICY = {"priority": 100, "src": "all", "table": "101"}


def said(machine: Machine, ruleset: Ruleset | None = None, **data: Any) -> list[tuple[str, str, str]]:
    found = surroundings(Context(parse(data, "FILE")), machine, ruleset or Ruleset([]))
    return [(finding.severity, finding.code, finding.rule) for finding in found]


def test_nothing_to_say_about_nothing() -> None:
    assert said(Machine()) == []


@pytest.mark.parametrize(
    ("data", "rules"),
    [
        ({"nat": [MASQUERADE]}, ["net.ipv4.ip_forward = 0"]),
        ({"nat": [{**MASQUERADE, "family": "ipv6"}]}, ["net.ipv6.conf.all.forwarding = 0"]),
        ({"nat": [MASQUERADE], "mode": "observe"}, []),
        ({}, []),
    ],
)
def test_forwarding_that_is_off(data: dict[str, Any], rules: list[str]) -> None:
    off = {"net.ipv4.ip_forward": "0", "net.ipv6.conf.all.forwarding": "0"}
    assert said(Machine(sysctls=off), **data) == [("warning", "forwarding", rule) for rule in rules]
    assert said(Machine(sysctls=dict.fromkeys(off, "1")), **data) == []


def test_bridged_packets_that_are_queued() -> None:
    sysctls = {"net.bridge.bridge-nf-call-iptables": "1", "net.bridge.bridge-nf-call-ip6tables": "0"}
    assert said(Machine(sysctls=sysctls, bridges=True)) == [
        ("warning", "bridge", "net.bridge.bridge-nf-call-iptables = 1")
    ]
    assert said(Machine(sysctls=sysctls)) == []


def test_a_strict_reverse_path_filter_with_policy_routing() -> None:
    sysctls = {"net.ipv4.conf.all.rp_filter": "0", "net.ipv4.conf.wan1.rp_filter": "1"}
    main = {"priority": 32766, "src": "all", "table": "main"}
    assert said(Machine(sysctls=sysctls, ip_rules={"ipv4": [main]})) == []
    assert said(Machine(sysctls=sysctls, ip_rules={"ipv4": [main, POLICY]})) == [
        ("info", "rp-filter", "net.ipv4.conf.wan1.rp_filter = 1")
    ]


@pytest.mark.parametrize(
    ("rule", "severity", "text"),
    [
        ({"fwmark": "0x1", "fwmask": "0xff"}, "info", "ip rule 100: fwmark 0x1/0xff table 101"),
        ({"fwmark": "0x1"}, "warning", "ip rule 100: fwmark 0x1 table 101"),
        ({"fwmark": "0xca6c", "not": None}, "info", "ip rule 100: fwmark 0xca6c table 101"),
    ],
)
def test_routing_by_mark(rule: dict[str, Any], severity: str, text: str) -> None:
    assert said(Machine(ip_rules={"ipv4": [{**POLICY, **rule}]})) == [(severity, "fwmark", text)]


def test_a_kernel_without_queue() -> None:
    assert said(Machine(queue_missing=True)) == [("error", "module", "nfnetlink_queue")]
    assert said(Machine(queue_missing=True), mode="observe") == []


def test_two_backends_with_rules() -> None:
    both = [
        Chain(backend, "ip", "filter", "INPUT", "input", rules=[Rule("-A INPUT")])
        for backend in ("iptables", "iptables-legacy")
    ]
    assert said(Machine(), Ruleset(both)) == [("info", "two-backends", "")]
    assert said(Machine(), Ruleset(both[:1])) == []


def test_what_was_not_read_is_said() -> None:
    found = surroundings(Context(parse({}, "FILE")), Machine(notes=("nft is not installed",)), Ruleset([], unread=3))
    assert [finding.what for finding in found] == [
        "3 rules not understood and not judged.",
        "nft is not installed.",
    ]


def test_steering_rules_that_are_missing() -> None:
    (finding,) = steering_findings({"ipv4": Status(True, "installed", []), "ipv6": Status(False, "not installed", [])})
    assert (finding.severity, finding.where) == ("error", "ipv6")
    assert finding.what == "The steering rules are not installed. Packets bypass the daemon."
