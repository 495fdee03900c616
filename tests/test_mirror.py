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
    "service/components.py": "the parts of a real daemon: tests/e2e/test_lifecycle.py and others",
    "service/daemon.py": "a real daemon, its signals, its queue and systemd: tests/e2e/test_daemon.py, test_failure.py",
    "service/metrics/collector.py": "as Prometheus reads it: tests/unit/service/metrics/test_exporter.py",
    "service/metrics/families.py": "as Prometheus reads it: tests/unit/service/metrics/test_exporter.py",
    "service/notify.py": "with a real systemd: tests/systemd/test_service.py",
    "kernel/ctnetlink.py": "reads the real thing: every comparison of tests/oracle, and tests/e2e/test_observe.py",
    "kernel/inject.py": "sends packets through a raw socket, so real ones: tests/e2e/test_reject.py",
    "kernel/steering.py": "runs iptables, so with the real one: tests/e2e/test_rules.py",
    "settings/errors.py": "what the operator reads is the subject of tests/unit/settings/test_load.py",
    "settings/table.py": "every getter with its mistakes: tests/unit/settings/test_load.py",
    "settings/spelling.py": "every spelling as part of a rule: tests/unit/settings/test_natrule.py",
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


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_a_module_with_logic_has_its_unit_test(module: Path) -> None:
    name = name_of(module)
    mirror = TESTS / module.relative_to(PACKAGE).with_name(f"test_{module.name}")
    if name in TESTED_ELSEWHERE:
        assert not mirror.exists(), f"{name}: has tests/unit/{name_of(mirror)}; take it out of TESTED_ELSEWHERE"
        return
    logic = logic_in(module)
    if logic >= LEAST_LOGIC and not mirror.is_file():
        pytest.fail(f"conntrackd_py/{name}: {logic} statements and no tests/unit/{name_of(mirror)}", pytrace=False)


def test_the_exceptions_exist() -> None:
    for name in TESTED_ELSEWHERE:
        assert (PACKAGE / name).is_file(), f"TESTED_ELSEWHERE names {name}, which does not exist"
