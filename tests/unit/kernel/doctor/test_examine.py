"""What the doctor says about single rules and about whole rulesets of iptables; nft's are in tests/e2e."""

import tomllib

import pytest

from conntrackd_py.kernel.doctor import iptables_save, nft_json
from conntrackd_py.kernel.doctor.examine import examine
from conntrackd_py.kernel.doctor.findings import Context
from conntrackd_py.kernel.doctor.ruleset import Chain, Rule, Ruleset
from conntrackd_py.settings.load import parse
from tests.support.rulesets import BY_MARK, DOCKER, IPTABLES, ROUTER, UFW

Said = set[tuple[str, str, str]]
TOML = {"nat": [{"out_interface": "wan0", "source": "192.168.1.0/24", "action": "MASQUERADE"}]}
JUMP = "-j CONNTRACKD_PY_POST"


def said(text: str, data: dict[str, object] | None = None) -> Said:
    """(severity, code, rule) of the findings about iptables-save text."""
    chains, unread = iptables_save.read(text, "iptables", "ip")
    assert unread == 0
    found = examine(Context(parse(data or {}, "FILE")), Ruleset(chains))
    return {(finding.severity, finding.code, finding.rule) for finding in found}


def rules(*lines: str, table: str = "filter", chain: str = "FORWARD", policy: str = "DROP") -> str:
    chains = f":{chain} {policy} [0:0]\n:CONNTRACKD_PY_POST - [0:0]\n:USER - [0:0]\n"
    return f"*{table}\n{chains}" + "".join(f"-A {chain} {line}\n" for line in lines) + "COMMIT\n"


def one(line: str, data: dict[str, object] | None = None, **where: str) -> set[tuple[str, str]]:
    return {(severity, code) for severity, code, _ in said(rules(line, **where), data)}


@pytest.mark.parametrize(
    ("line", "policy", "found"),
    [
        ("-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "DROP", {("error", "ct-match")}),
        ("-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "ACCEPT", {("warning", "ct-match")}),
        ("-m conntrack --ctstate INVALID -j DROP", "DROP", {("warning", "ct-match")}),
        ("-m conntrack --ctstate INVALID -j LOG", "DROP", {("warning", "ct-match")}),
        ("-m conntrack --ctstatus ASSURED -j ACCEPT", "DROP", {("error", "ct-match")}),
        ("-m connmark --mark 0x1 -j ACCEPT", "DROP", {("error", "ct-match")}),
        ("-m conntrack ! --ctstate NEW -j DROP", "ACCEPT", {("error", "ct-match")}),
        ("-m conntrack --ctstate INVALID,UNTRACKED -j DROP", "ACCEPT", {("error", "ct-match")}),
        ("-m conntrack --ctstate ESTABLISHED,UNTRACKED -j ACCEPT", "DROP", {("error", "ct-match")}),
        ("-p tcp -m conntrack --ctstate NEW,UNTRACKED -j ACCEPT", "DROP", set()),
        ("-m conntrack --ctstate UNTRACKED -j LOG", "DROP", set()),
        ("-i lo -m conntrack --ctstate NEW -j ACCEPT", "DROP", set()),
    ],
)
def test_matches_of_the_kernels_connection(line: str, policy: str, found: set[tuple[str, str]]) -> None:
    assert one(line, policy=policy) == found
    assert one(line, {"mode": "observe"}, policy=policy) == set()


def remedy(line: str, chain: str = "FORWARD", **steering: object) -> str:
    chains, _ = iptables_save.read(rules(line, chain=chain), "iptables", "ip")
    (finding,) = examine(Context(parse({"steering": steering}, "FILE")), Ruleset(chains))
    return finding.remedy


def test_the_remedy_names_the_marks_of_the_state() -> None:
    line = "-m conntrack --ctstate ESTABLISHED -j ACCEPT"
    assert remedy(line).endswith("one rule each: `-m mark --mark 0x800/0xf00`, `-m mark --mark 0xb00/0xf00`.")
    assert remedy(line, mark_mask=0xFF0000).endswith(
        "`-m mark --mark 0x80000/0xf0000`, `-m mark --mark 0xb0000/0xf0000`."
    )
    assert "[[filter.rule]]" in remedy("-m conntrack --ctstate DNAT -j ACCEPT")
    assert remedy("-m conntrack --ctstate INVALID -j DROP").endswith("mark instead: `-m mark --mark 0xd00/0xf00`.")


@pytest.mark.parametrize(("chain", "mask"), [("OUTPUT", 0xFFFFFF00), ("FORWARD", 0)])
def test_no_mark_is_named_where_there_is_none(chain: str, mask: int) -> None:
    assert "[[filter.rule]]" in remedy("-m conntrack --ctstate NEW -j ACCEPT", chain, mark_mask=mask)


def test_a_last_rule_that_drops_everything_is_like_a_policy() -> None:
    accept = "-m conntrack --ctstate ESTABLISHED -j ACCEPT"
    by_port = said(rules(accept, "-p tcp -j DROP", policy="ACCEPT"))
    by_interface = said(rules(accept, "-i wan0 -j REJECT", policy="ACCEPT"))
    assert {severity for severity, _, _ in by_port} == {"warning"}
    assert {severity for severity, _, _ in by_interface} == {"error"}


def test_a_chain_without_a_jump_to_it_is_not_judged() -> None:
    assert said("*filter\n:USER - [0:0]\n-A USER -m conntrack --ctstate NEW -j ACCEPT\nCOMMIT\n") == set()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("-s 192.168.1.0/25 -o wan0 -j MASQUERADE", {("warning", "kernel-nat")}),
        ("-j MASQUERADE", {("warning", "kernel-nat")}),
        ("-s 172.17.0.0/16 ! -o docker0 -j MASQUERADE", {("error", "kernel-nat")}),
        ("-s 192.168.1.0/24 -o wan1 -j SNAT --to-source 192.0.2.1", {("error", "kernel-nat")}),
        ("-s 192.168.1.0/24 -o lo -j MASQUERADE", set()),
        ("-s 192.168.1.0/24 -d 224.0.0.0/24 -j RETURN", set()),
    ],
)
def test_nat_of_the_kernel(line: str, found: set[tuple[str, str]]) -> None:
    assert one(line, dict(TOML), table="nat", chain="POSTROUTING", policy="ACCEPT") == found
    assert one(line, {"mode": "observe"}, table="nat", chain="POSTROUTING", policy="ACCEPT") == set()


def test_a_chain_of_nat_does_nothing_else_either() -> None:
    """So what it does to marks or matches of ct does not matter."""
    assert one("-j MARK --set-xmark 0x4000/0x4000", table="nat", chain="PREROUTING") == set()
    found = one("-m conntrack --ctstate NEW -j REDIRECT", table="nat", chain="PREROUTING")
    assert found == {("error", "kernel-nat")}


def test_mode_track_translates_nothing_so_no_rule_is_doubled() -> None:
    where = {"table": "nat", "chain": "POSTROUTING", "policy": "ACCEPT"}
    assert one("-j MASQUERADE", {**TOML, "mode": "track"}, **where) == {("error", "kernel-nat")}


@pytest.mark.parametrize(
    ("table", "chain", "line", "found"),
    [
        ("mangle", "PREROUTING", "-j MARK --set-xmark 0x5/0xffffffff", {("error", "mark-write")}),
        ("mangle", "FORWARD", "-j MARK --set-xmark 0x5/0xff", set()),
        ("mangle", "OUTPUT", "-j MARK --set-xmark 0x5/0xffffffff", {("warning", "mark-write")}),
        ("raw", "PREROUTING", "-j MARK --set-xmark 0x5/0xffffffff", set()),
        ("mangle", "FORWARD", "-j CONNMARK --restore-mark", {("error", "ct-write")}),
        ("mangle", "FORWARD", "-j CONNMARK --save-mark", {("warning", "ct-write")}),
        ("mangle", "FORWARD", "-m connmark --mark 0x1 -j CONNMARK --save-mark", {("warning", "ct-write")}),
        ("mangle", "PREROUTING", "-p tcp -j TPROXY --on-port 1 --tproxy-mark 0x1/0x1", {("info", "tproxy")}),
        ("filter", "FORWARD", "-m mark --mark 0x5 -j DROP", {("warning", "mark-match")}),
        ("filter", "FORWARD", "-m mark --mark 0x4000/0x4000 -j DROP", {("warning", "mark-match")}),
        ("filter", "FORWARD", "-m mark --mark 0x5/0xff -j DROP", set()),
        ("filter", "FORWARD", "-m mark --mark 0xd00/0xf00 -j DROP", set()),
        ("filter", "OUTPUT", "-m mark --mark 0x5 -j DROP", set()),
        ("raw", "PREROUTING", "-j CT --zone 3", {("error", "ct-template")}),
        ("raw", "PREROUTING", "-p udp -j CT --notrack", {("warning", "notrack")}),
        ("filter", "FORWARD", "-j NFQUEUE --queue-num 7", {("info", "queue")}),
        ("filter", "FORWARD", "-j NFQUEUE --queue-num 1", {("error", "queue")}),
        ("filter", "FORWARD", "-p tcp -j FLOWOFFLOAD", {("warning", "offload")}),
    ],
)
def test_marks_queues_and_tracking(table: str, chain: str, line: str, found: set[tuple[str, str]]) -> None:
    assert one(line, table=table, chain=chain, policy="ACCEPT") == found


def test_in_mode_observe_the_kernel_tracks_and_marks_as_ever() -> None:
    observe: dict[str, object] = {"mode": "observe"}
    where = {"table": "mangle", "chain": "FORWARD", "policy": "ACCEPT"}
    assert one("-j CONNMARK --restore-mark", observe, **where) == set()
    assert one("-j MARK --set-xmark 0x5/0xffffffff", observe, **where) == set()
    assert one("-p tcp -j FLOWOFFLOAD", observe, **where) == {("error", "offload")}
    assert one("-j NOTRACK", observe, table="raw", chain="PREROUTING") == {("info", "notrack")}


@pytest.mark.parametrize(
    ("line", "mode", "found"),
    [
        ("-o wan1 -j ACCEPT", "nat", {("error", "before-jump")}),
        ("-o wan1 -j ACCEPT", "track", {("warning", "before-jump")}),
        ("-o wan1 -j RETURN", "nat", {("error", "before-jump")}),
        ("-o lo -j ACCEPT", "nat", set()),
        ("-o wan1 -j DROP", "nat", set()),
        ("-p tcp -j TCPMSS --clamp-mss-to-pmtu", "nat", set()),
        ("-j NFQUEUE --queue-num 7", "nat", {("error", "before-jump"), ("info", "queue")}),
    ],
)
def test_rules_before_the_daemons_jump(line: str, mode: str, found: set[tuple[str, str]]) -> None:
    text = rules(line, JUMP, table="mangle", chain="POSTROUTING", policy="ACCEPT")
    assert {(severity, code) for severity, code, _ in said(text, {"mode": mode})} == found


def test_a_chain_before_the_jump_may_accept_too() -> None:
    text = rules("-j USER", JUMP, table="mangle", chain="POSTROUTING", policy="ACCEPT").replace(
        "COMMIT", "-A USER -p udp -j ACCEPT\nCOMMIT"
    )
    assert said(text) == {("error", "before-jump", "-A POSTROUTING -j USER")}


def test_a_rule_behind_the_jump_is_named_once() -> None:
    text = rules(JUMP, "-j LOG", table="mangle", chain="POSTROUTING", policy="ACCEPT")
    assert said(text) == {("warning", "behind-jump", "-A POSTROUTING -j LOG")}


def test_a_rule_behind_a_jump_that_only_copies_sees_all_packets() -> None:
    text = rules(JUMP, "-j LOG", table="raw", chain="PREROUTING", policy="ACCEPT")
    assert said(text, {"mode": "observe"}) == set()
    assert len(said(text, {"mode": "observe", "observe": {"via": "nfqueue"}})) == 1


@pytest.mark.parametrize(("hook", "priority", "found"), [("postrouting", 200, ["late-drop"]), ("input", 0, [])])
def test_a_chain_that_drops_after_the_last_visit(hook: str, priority: int, found: list[str]) -> None:
    chain = Chain("nft", "inet", "t", "c", hook, priority, rules=[Rule("drop", does={"drop"})])
    assert [finding.code for finding in examine(Context(parse({}, "FILE")), Ruleset([chain]))] == found


def test_a_family_that_is_not_steered_is_not_judged() -> None:
    assert one("-m conntrack --ctstate NEW -j ACCEPT", {"steering": {"families": ["ipv6"]}}) == set()


def test_nft_gets_its_own_spelling() -> None:
    expr = '[{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "new"}}, {"accept": null}]'
    chain = '{"chain": {"family": "ip", "table": "t", "name": "c", "hook": "forward", "prio": 0, "policy": "drop"}}'
    rule = f'{{"rule": {{"family": "ip", "table": "t", "chain": "c", "handle": 4, "expr": {expr}}}}}'
    chains, _ = nft_json.read(f'{{"nftables": [{chain}, {rule}]}}', "", set())
    (finding,) = examine(Context(parse({}, "FILE")), Ruleset(chains))
    assert finding.remedy == "Match the packet mark instead: `meta mark and 0xf00 { 0xa00 }`."
    assert finding.where == "nft ip t c: # handle 4"


def codes(text: str, config: str = ROUTER) -> list[tuple[str, str, str]]:
    return sorted(said(text, tomllib.loads(config)))


def test_a_router_written_for_iptables() -> None:
    assert codes(IPTABLES) == [
        ("error", "ct-match", "-A FORWARD -i wan0 -m conntrack --ctstate DNAT -j ACCEPT"),
        ("error", "ct-match", "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
        ("error", "ct-match", "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
        ("error", "ct-write", "-A FORWARD -m connmark --mark 0x7 -j CONNMARK --restore-mark"),
        (
            "error",
            "kernel-nat",
            "-A PREROUTING -i wan0 -p tcp -m tcp --dport 2222 -j DNAT --to-destination 192.168.1.11:22",
        ),
        ("error", "mark-write", "-A PREROUTING -i lan1 -j MARK --set-xmark 0x2/0xffffffff"),
        ("warning", "ct-match", "-A FORWARD -m conntrack --ctstate INVALID -j DROP"),
        (
            "warning",
            "kernel-nat",
            "-A POSTROUTING -s 192.168.1.0/24 -o wan0 -j MASQUERADE",
        ),
        (
            "warning",
            "kernel-nat",
            "-A PREROUTING -i wan0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 192.168.1.10:80",
        ),
        ("warning", "mark-match", "-A FORWARD -m mark --mark 0x2 -j ACCEPT"),
    ]


def test_a_router_that_matches_the_packet_mark_has_nothing_wrong() -> None:
    assert codes(BY_MARK) == []


def test_ufw() -> None:
    assert codes(UFW) == [
        ("error", "ct-match", "-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
        ("error", "ct-match", "-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
        ("warning", "ct-match", "-A ufw-before-input -m conntrack --ctstate INVALID -j DROP"),
        ("warning", "ct-match", "-A ufw-before-input -m conntrack --ctstate INVALID -j ufw-logging-deny"),
        ("warning", "ct-match", "-A ufw-before-output -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
        ("warning", "ct-match", "-A ufw-track-output -p tcp -m conntrack --ctstate NEW -j ACCEPT"),
    ]


def test_docker_without_and_with_its_nat_rules_in_the_daemon() -> None:
    state = ("error", "ct-match", "-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
    masquerade = "-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE"
    port = "-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8081 -j DNAT --to-destination 172.17.0.2:80"
    assert codes(DOCKER) == [state, ("error", "kernel-nat", port), ("error", "kernel-nat", masquerade)]
    config = """
    [[nat]]
    out_interface = "!docker0"
    source = "172.17.0.0/16"
    action = "MASQUERADE"
    [[nat]]
    in_interface = "!docker0"
    proto = "tcp"
    dport = 8081
    action = "DNAT"
    to = "172.17.0.2:80"
    """
    assert codes(DOCKER, config) == [state, ("warning", "kernel-nat", port), ("warning", "kernel-nat", masquerade)]


KEEP: dict[str, object] = {"steering": {"kernel_conntrack": "keep"}}


@pytest.mark.parametrize(
    ("line", "policy", "found"),
    [
        ("-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "DROP", set()),
        ("-m conntrack --ctstate INVALID -j DROP", "DROP", set()),
        ("-j CONNMARK --save-mark", "DROP", set()),
        ("-m conntrack --ctstate DNAT -j ACCEPT", "DROP", {("warning", "ct-match")}),
        ("-m conntrack --ctstate DNAT -j ACCEPT", "ACCEPT", {("warning", "ct-match")}),
        ("-j FLOWOFFLOAD", "ACCEPT", {("error", "offload")}),
        ("-j CONNMARK --restore-mark", "ACCEPT", {("error", "mark-write")}),
    ],
)
def test_with_the_kernels_tracking(line: str, policy: str, found: set[tuple[str, str]]) -> None:
    assert one(line, {**TOML, **KEEP}, policy=policy) == found


@pytest.mark.parametrize(
    ("line", "severity"),
    [("-s 192.168.1.0/24 -o wan0 -j MASQUERADE", "error"), ("-s 172.17.0.0/16 -o wan0 -j MASQUERADE", "info")],
)
def test_kernel_nat_with_the_kernels_tracking(line: str, severity: str) -> None:
    assert one(line, {**TOML, **KEEP}, table="nat", chain="POSTROUTING", policy="ACCEPT") == {(severity, "kernel-nat")}
