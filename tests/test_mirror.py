"""tests/unit mirrors conntrackd_py: the tests of a module are found without searching."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent / "unit"
PACKAGE = Path(__file__).parent.parent / "conntrackd_py"

# A module with fewer statements inside its functions is read, not tested, on its own.
LEAST_LOGIC = 10

# Modules with logic whose tests live elsewhere, each with the reason and the place.
TESTED_ELSEWHERE = {
    "cli/conntrack/commands.py": "each command as a process with a daemon: tests/unit/cli/conntrack/test_main.py",
    "cli/conntrack/output.py": "chooses the form of -o, each seen in tests/unit/cli/conntrack/test_main.py",
    "cli/conntrackd/rules_hold.py": "tells a real daemon what happens to real rules: tests/e2e/test_steering_guard.py",
    "cli/conntrackd/upgrade.py": "from one real daemon to another: tests/e2e/test_upgrade.py",
    "cli/conntrackd/explain/hints.py": "hints about captures: tests/unit/cli/conntrackd/explain/test_main.py",
    "cli/conntrackd/explain/replay.py": "captures step by step: tests/unit/cli/conntrackd/explain/test_main.py",
    "cli/conntrackd/explain/show.py": "the output of captures: tests/unit/cli/conntrackd/explain/test_main.py",
    "cli/conntrackd/top/screen.py": "drawn in a real terminal: tests/unit/cli/conntrackd/top/test_main.py",
    "cli/conntrackd/top/terminal.py": "keys and signals of a real one: tests/unit/cli/conntrackd/top/test_main.py",
    "nat/carrier/block_choice.py": "conversations: tests/conversations/test_blocks.py, tests/property/test_blocks.py",
    "nat/mapping.py": "conversations: tests/conversations/test_mapping.py, tests/property/test_mapping.py",
    "nat/mapping_restore.py": "restarts: tests/conversations/test_mapping.py",
    "explain/blocks.py": "as conntrackd-py blocks prints it: tests/unit/cli/conntrackd/test_blocks.py",
    "explain/mappings.py": "as conntrackd-py mappings prints it: tests/unit/cli/conntrackd/test_mappings.py",
    "service/components.py": "the parts of a real daemon: tests/e2e/test_lifecycle.py and others",
    "service/metrics/collector.py": "as Prometheus reads it: tests/unit/service/metrics/test_exporter.py",
    "service/metrics/families.py": "as Prometheus reads it: tests/unit/service/metrics/test_exporter.py",
    "service/queues.py": "queues and copies of a real daemon: tests/e2e/test_daemon.py, test_observe.py",
    "service/fd_store.py": "stored and passed on by a service manager: tests/e2e/test_fd_store.py",
    "service/handover.py": "two real daemons: tests/e2e/test_upgrade.py",
    "service/notify.py": "with a real systemd: tests/systemd/test_service.py",
    "helpers/amanda.py": "conversations: tests/conversations/test_small_helpers.py",
    "helpers/irc.py": "conversations: tests/conversations/test_irc.py",
    "helpers/netbios.py": "conversations: tests/conversations/test_netbios.py",
    "helpers/pptp.py": "conversations: tests/conversations/test_pptp.py",
    "helpers/sane.py": "conversations: tests/conversations/test_small_helpers.py",
    "helpers/sip/sdp.py": "conversations: tests/conversations/test_sip.py",
    "helpers/sip/sip.py": "conversations: tests/conversations/test_sip.py",
    "helpers/sip/translate.py": "conversations: tests/conversations/test_sip.py",
    "kernel/ctnetlink.py": "reads the real thing: every comparison of tests/oracle, and tests/e2e/test_observe.py",
    "kernel/doctor/machine.py": "reads the real rulesets and sysctls: tests/e2e/test_rules_check.py",
    "kernel/inject.py": "sends packets through a raw socket, so real ones: tests/e2e/test_reject.py",
    "kernel/steering/nft_queue.py": "the kernel checks every byte of its messages: tests/e2e/test_rules.py",
    "kernel/steering/programs.py": "runs the real programs: tests/e2e/test_rules.py",
    "kernel/steering/steering.py": "with the real nft and iptables: tests/e2e/test_rules.py",
    "kernel/steering/iptables.py": "with the real iptables: tests/e2e/test_rules.py",
    "kernel/steering/nft.py": "with the real nft: tests/e2e/test_rules.py",
    "kernel/steering/nftables.py": "calls the real library: tests/e2e/test_steering_guard.py",
    "kernel/steering/ruleset_watch.py": "messages of the real kernel: tests/e2e/test_ruleset_watch.py",
    "kernel/maps/listing.py": "lists what the real kernel holds: tests/e2e/test_maps_outlive.py",
    "kernel/queues/nfqueue.py": "binds a real queue: tests/e2e/test_nfqueue.py",
    "kernel/queues/takeover.py": "takes over a real queue: tests/e2e/test_takeover.py",
    "kernel/queues/nflog.py": "a real group: tests/e2e/test_observe.py; its messages: tests/unit/wire/test_nflog.py",
    "kernel/translated.py": "the kernel's own NAT: tests/e2e/test_observe.py",
    "lab/namespaces.py": "creates namespaces, so needs root: tests/e2e/test_lab.py, used by all of tests/e2e",
    "lab/router.py": "the real daemon in a namespace: every test of tests/e2e uses it",
    "lab/run.py": "run as a process with real traffic: tests/e2e/test_lab.py",
    "lab/screen.py": "the output of the real lab: tests/e2e/test_lab.py",
    "lab/steps.py": "each step sends real traffic: tests/e2e/test_lab.py",
    "lab/traffic.py": "servers and clients in namespaces: tests/e2e/test_integrity.py",
    "settings/errors.py": "what the operator reads is the subject of tests/unit/settings/test_load.py",
    "settings/table.py": "every getter with its mistakes: tests/unit/settings/test_load.py",
    "settings/match.py": "every key as part of a rule: tests/unit/settings/test_natrule.py and test_filterrule.py",
}

UNIT_TESTS = sorted(TESTS.rglob("test_*.py"))
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE if PACKAGE in path.parents else TESTS))


def logic_in(module: Path) -> int:
    """Statements inside functions, docstrings not counted."""
    functions = [
        node
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    statements = {
        inner
        for function in functions
        for inner in ast.walk(function)
        if isinstance(inner, ast.stmt) and inner is not function and not _is_docstring(inner)
    }
    return len(statements)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


@pytest.mark.parametrize("test", UNIT_TESTS, ids=name_of)
def test_a_unit_test_stands_where_its_module_stands(test: Path) -> None:
    module = test.relative_to(TESTS).with_name(test.name.removeprefix("test_"))
    assert (PACKAGE / module).is_file(), f"tests/unit/{name_of(test)}: there is no conntrackd_py/{module}"


def mirror_of(module: Path) -> Path:
    return TESTS / module.relative_to(PACKAGE).with_name(f"test_{module.name}")


@pytest.mark.parametrize(
    "module", [module for module in MODULES if name_of(module) not in TESTED_ELSEWHERE], ids=name_of
)
def test_a_module_with_logic_has_its_unit_test(module: Path) -> None:
    logic = logic_in(module)
    mirror = mirror_of(module)
    assert logic < LEAST_LOGIC or mirror.is_file(), f"{logic} statements and no tests/unit/{name_of(mirror)}"


@pytest.mark.parametrize("name", TESTED_ELSEWHERE)
def test_an_exception_exists_and_has_no_unit_test(name: str) -> None:
    assert (PACKAGE / name).is_file(), f"TESTED_ELSEWHERE names {name}, which does not exist"
    mirror = mirror_of(PACKAGE / name)
    assert not mirror.exists(), f"{name}: has tests/unit/{name_of(mirror)}; take it out of TESTED_ELSEWHERE"
