"""`conntrackd-py rules check` with the real programs: rulesets of routers, each in a network namespace of its own."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.rulesets import BY_MARK, DOCKER, FIREWALLD, IPTABLES, NFT, ROUTER, UFW

Run = Callable[..., subprocess.CompletedProcess[str]]
Check = Callable[..., list[dict[str, str]]]
DESCRIBED = "program: nft (steering.program is auto)\nkernel tracking: off (steering.kernel_conntrack is off)\n"
STATUS = f"{DESCRIBED}ipv4: installed\nipv6: installed\n"
CT_STATE = "ct state { established, related } accept"


@pytest.fixture
def steering() -> dict[str, str]:
    """Most rulesets here would turn the kernel's tracking on."""
    return {"kernel_conntrack": "off"}


@pytest.fixture
def check(rules: Run) -> Check:
    """The findings about the rules in force, without those of the namespace itself."""

    def run_check(config: str = ROUTER, status: int = 3) -> list[dict[str, str]]:
        lines = rules("check", config, "--json", status=status).stdout.splitlines()
        return [json.loads(line) for line in lines]

    return run_check


@pytest.fixture
def router(run: Run, rules: Run) -> None:
    """A machine that forwards, with the steering rules of ROUTER."""
    run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
    rules("install", ROUTER)


def lines(findings: list[dict[str, str]]) -> list[str]:
    """`severity code rule`, without handles, sorted."""
    return sorted(f"{item['severity']} {item['code']} {item['rule'].split(' # ')[0]}" for item in findings)


def test_a_machine_without_rules_has_no_steering(check: Check, run: Run) -> None:
    run("sysctl", "-q", "-w", "net.ipv4.ip_forward=0")
    assert [(item["severity"], item["code"], item["family"]) for item in check()] == [
        ("error", "steering", "ipv4"),
        ("error", "steering", "ipv6"),
        ("warning", "forwarding", ""),
    ]


@pytest.mark.usefixtures("router")
def test_steering_rules_alone_are_in_order(rules: Run, check: Check) -> None:
    assert check(status=0) == []
    assert rules("check", ROUTER).stdout == "0 errors, 0 warnings, 0 infos\n"
    assert rules("status", ROUTER).stdout == STATUS


@pytest.mark.usefixtures("router")
def test_a_router_written_for_iptables(run: Run, check: Check) -> None:
    run("iptables-restore", "--noflush", text=IPTABLES)
    assert lines(check()) == [
        "error ct-match -A FORWARD -i wan0 -m conntrack --ctstate DNAT -j ACCEPT",
        "error ct-match -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "error ct-match -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "error ct-write -A FORWARD -m connmark --mark 0x7 -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask "
        "0xffffffff",
        "error kernel-nat -A PREROUTING -i wan0 -p tcp -m tcp --dport 2222 -j DNAT --to-destination 192.168.1.11:22",
        "error mark-write -A PREROUTING -i lan1 -j MARK --set-xmark 0x2/0xffffffff",
        "warning ct-match -A FORWARD -m conntrack --ctstate INVALID -j DROP",
        "warning kernel-nat -A POSTROUTING -s 192.168.1.0/24 -o wan0 -j MASQUERADE",
        "warning kernel-nat -A PREROUTING -i wan0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 192.168.1.10:80",
        "warning mark-match -A FORWARD -m mark --mark 0x2 -j ACCEPT",
    ]


@pytest.mark.parametrize("steering", [{"kernel_conntrack": "off", "program": "iptables"}])
@pytest.mark.usefixtures("router")
def test_the_same_rules_in_legacy_tables(run: Run, check: Check) -> None:
    run("iptables-legacy-restore", text=BY_MARK)
    run("iptables-legacy", "-A", "INPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT")
    assert lines(check()) == [
        "error ct-match -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT",
        "info two-backends ",
    ]


@pytest.mark.usefixtures("router")
def test_a_router_that_matches_the_packet_mark(run: Run, check: Check) -> None:
    run("iptables-restore", "--noflush", text=BY_MARK)
    assert check(status=0) == []


@pytest.mark.usefixtures("router")
def test_a_router_written_for_nft(run: Run, check: Check) -> None:
    run("nft", "-f", "-", text=NFT)
    assert lines(check()) == [
        "error ct-match ct state vmap { invalid : drop, established : accept, related : accept }",
        'error ct-match iifname "wan0" ct status dnat accept',
        "error ct-write meta mark set ct mark",
        'error kernel-nat oifname "wan0" ip saddr 10.9.0.0/16 masquerade',
        'error mark-write iifname "lan1" meta mark set 0x00000002',
        "info late-drop ",
        'warning kernel-nat iifname "wan0" tcp dport 8080 dnat ip to 192.168.1.10:80',
        'warning kernel-nat oifname "wan0" ip saddr 192.168.1.0/24 masquerade',
        "warning notrack udp dport 4789 notrack",
    ]


@pytest.mark.usefixtures("router")
def test_the_rules_of_ufw(run: Run, check: Check) -> None:
    run("iptables-restore", "--noflush", text=UFW)
    found = lines(check())
    assert [line for line in found if line.startswith("error")] == [
        f"error ct-match -A ufw-before-{chain} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
        for chain in ("forward", "input")
    ]
    assert {line.split()[1] for line in found} == {"ct-match"}


@pytest.mark.usefixtures("router")
def test_the_rules_of_firewalld(run: Run, check: Check) -> None:
    run("nft", "-f", "-", text=FIREWALLD)
    assert lines(check()) == [
        f"error ct-match {CT_STATE}",
        f"error ct-match {CT_STATE}",
        "error ct-match ct status dnat accept",
        "warning ct-match ct state invalid drop",
        "warning ct-match ct state invalid drop",
        f"warning ct-match {CT_STATE}",
        'warning ct-write udp dport 137 ct helper set "helper-netbios-ns-udp"',
        'warning kernel-nat meta nfproto ipv4 oifname != "lo" masquerade',
    ]


@pytest.mark.usefixtures("router")
def test_the_rules_of_docker(run: Run, check: Check) -> None:
    run("iptables-restore", "--noflush", text=DOCKER)
    assert lines(check()) == [
        "error ct-match -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "error kernel-nat -A DOCKER ! -i docker0 -p tcp -m tcp --dport 8081 -j DNAT --to-destination 172.17.0.2:80",
        "error kernel-nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",
    ]


@pytest.mark.usefixtures("router")
def test_in_mode_observe_none_of_them_is_an_error(run: Run, rules: Run, check: Check) -> None:
    observe = 'mode = "observe"'
    rules("install", observe)
    for text in (IPTABLES, UFW, DOCKER):
        run("iptables-restore", "--noflush", text=text)
    run("nft", "-f", "-", text=FIREWALLD)
    assert check(observe, status=0) == []


@pytest.mark.usefixtures("router")
def test_a_bridge_and_policy_routing(run: Run, check: Check) -> None:
    run("ip", "link", "add", "br0", "type", "bridge")
    run("sysctl", "-q", "-w", "net.ipv4.conf.all.rp_filter=1")
    run("ip", "rule", "add", "fwmark", "0x1", "table", "101")
    run("ip", "rule", "add", "fwmark", "0x1/0xff", "table", "102")
    found = lines(check(status=1))
    assert "info rp-filter" in {line.rpartition(" net")[0] for line in found}
    assert [line for line in found if "fwmark" in line and "warning" in line] == [
        "warning fwmark ip rule 32765: fwmark 0x1 table 101"
    ]
    assert "info fwmark ip rule 32764: fwmark 0x1/0xff table 102" in found
    assert "warning bridge net.bridge.bridge-nf-call-iptables = 1" in found


@pytest.mark.usefixtures("router")
def test_the_named_mark_is_understood_by_nft(run: Run, check: Check) -> None:
    run("nft", "-f", "-", text=FIREWALLD)
    remedies = {item["remedy"] for item in check() if item["code"] == "ct-match" and "`" in item["remedy"]}
    assert len(remedies) == 2
    for remedy in remedies:
        run("nft", f"add rule inet firewalld filter_FORWARD {remedy.split('`')[1]} accept")
        assert "meta mark & 0x00000f00" in run("nft", "list", "chain", "inet", "firewalld", "filter_FORWARD").stdout


@pytest.mark.parametrize("steering", [{"kernel_conntrack": "off", "program": "iptables"}])
@pytest.mark.usefixtures("router")
def test_text_for_people_escapes_what_rules_hold(run: Run, rules: Run) -> None:
    comment = ["-m", "comment", "--comment", "\x1b[31m"]
    run("iptables", "-t", "mangle", "-A", "POSTROUTING", *comment, "-j", "ACCEPT")
    text = rules("check", ROUTER, status=1).stdout
    assert text.startswith("warning: behind-jump: This rule comes after the daemon's queue rule.")
    assert r'    iptables ipv4 mangle POSTROUTING: -A POSTROUTING -m comment --comment "\x1b[31m" -j ACCEPT' in text
    assert text.endswith("\n\n0 errors, 1 warning, 0 infos\n")


@pytest.mark.usefixtures("router")
def test_install_and_status_count_and_lead_to_check(run: Run, rules: Run) -> None:
    run("iptables-restore", "--noflush", text=UFW)
    hint = "firewall: 2 errors, 4 warnings; see conntrackd-py rules check\n"
    assert rules("install", ROUTER).stdout == DESCRIBED + hint
    assert rules("status", ROUTER).stdout == f"{STATUS}{hint}"


KEPT = pytest.mark.parametrize("steering", [{"kernel_conntrack": "auto"}, {"kernel_conntrack": "keep"}])


@KEPT
@pytest.mark.parametrize("firewall", [UFW, FIREWALLD.replace('oifname != "lo" masquerade', "accept"), DOCKER])
def test_with_the_kernels_tracking_other_firewalls_are_no_errors(
    run: Run, rules: Run, check: Check, firewall: str
) -> None:
    run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
    command = ("nft", "-f", "-") if "table inet" in firewall else ("iptables-restore", "--noflush")
    run(*command, text=firewall)
    rules("install", ROUTER)
    assert "kernel tracking: on (" in rules("status", ROUTER).stdout
    found = check(status=1 if command[0] == "nft" else 0)
    allowed = {("info", "kernel-nat"): "docker0", ("warning", "ct-match"): "translated address"}
    assert all(allowed[item["severity"], item["code"]] in item["remedy"] for item in found)
    assert [item["rule"].split(" # ")[0] for item in found if item["severity"] == "warning"] == (
        ["ct status dnat accept"] if command[0] == "nft" else []
    )


@KEPT
def test_with_the_kernels_tracking_its_nat_must_not_translate_the_same(run: Run, rules: Run, check: Check) -> None:
    run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
    run("iptables-restore", "--noflush", text=IPTABLES)
    rules("install", ROUTER)
    assert lines(check()) == [
        "error kernel-nat -A POSTROUTING -s 192.168.1.0/24 -o wan0 -j MASQUERADE",
        "error kernel-nat -A PREROUTING -i wan0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 192.168.1.10:80",
        "error mark-write -A FORWARD -m connmark --mark 0x7 -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask "
        "0xffffffff",
        "error mark-write -A PREROUTING -i lan1 -j MARK --set-xmark 0x2/0xffffffff",
        "info kernel-nat -A PREROUTING -i wan0 -p tcp -m tcp --dport 2222 -j DNAT --to-destination 192.168.1.11:22",
        "warning ct-match -A FORWARD -i wan0 -m conntrack --ctstate DNAT -j ACCEPT",
        "warning mark-match -A FORWARD -m mark --mark 0x2 -j ACCEPT",
    ]


@pytest.mark.parametrize("steering", [{}])
def test_a_firewall_that_comes_later_needs_another_installation(run: Run, rules: Run) -> None:
    rules("install", ROUTER)
    assert "kernel tracking: off (no rule needs it)" in rules("status", ROUTER).stdout
    run("iptables-restore", "--noflush", text=UFW)
    said = rules("status", ROUTER, status=3).stdout
    assert "kernel tracking: on (needed by iptables ipv4 filter ufw-before-forward: " in said
    assert "ipv4: partly installed: output, postrouting, prerouting not as the configuration says" in said
    rules("install", ROUTER)
    assert "ipv4: installed" in rules("status", ROUTER).stdout


def test_a_wrong_configuration_is_no_warning(rules: Run, tmp_path: Path) -> None:
    assert "mode" in rules("check", 'mode = "odd"', status=3).stderr


SEEN_WITHOUT_TRACKING = (
    ("-m conntrack --ctstate NEW,ESTABLISHED,RELATED,INVALID", 0),
    ("-m conntrack --ctstate UNTRACKED", 1),
    ("-m conntrack ! --ctstate NEW", 1),
    ("-m conntrack ! --ctstatus ASSURED", 0),
    ("-m connmark ! --mark 0x5", 0),
)


def counted(run: Run, table: str) -> list[int]:
    """Packets that each rule of OUTPUT matched."""
    saved = run("iptables-save", "-c", "-t", table).stdout.splitlines()
    return [int(line[1:].partition(":")[0]) for line in saved if "-A OUTPUT" in line]


def test_the_kernel_matches_untracked_packets_as_the_doctor_says(run: Run) -> None:
    run("ip", "link", "set", "lo", "up")
    run("iptables", "-t", "raw", "-A", "OUTPUT", "-j", "CT", "--notrack")
    run("iptables", "-t", "nat", "-A", "OUTPUT", "-j", "ACCEPT")
    for match, _ in SEEN_WITHOUT_TRACKING:
        run("iptables", "-A", "OUTPUT", "-p", "icmp", "--icmp-type", "echo-request", *match.split())
    run("ping", "-c", "1", "-W", "1", "127.0.0.1")
    assert counted(run, "filter") == [seen for _, seen in SEEN_WITHOUT_TRACKING]
    assert counted(run, "nat") == [0]


def test_the_kernel_tracks_a_packet_with_a_template_in_spite_of_notrack(run: Run) -> None:
    run("ip", "link", "set", "lo", "up")
    run("iptables", "-t", "raw", "-A", "OUTPUT", "-j", "CT", "--zone", "3")
    run("iptables", "-t", "raw", "-A", "OUTPUT", "-j", "CT", "--notrack")
    run("iptables", "-A", "OUTPUT", "-p", "icmp", "-m", "conntrack", "--ctstate", "NEW")
    run("ping", "-c", "1", "-W", "1", "127.0.0.1")
    assert counted(run, "filter") == [1]
