"""A test runs to its end and asserts in every case: what it leaves out under a condition, it would not notice."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
CLOCKS = {"monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time", "thread_time"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions_of(text: str) -> Iterator[Function]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, Function) and node.name.startswith("test_"):
            yield node


def below(node: ast.AST, *, conditional: bool = False, nested: bool = False) -> Iterator[tuple[ast.AST, bool, bool]]:
    """(node, whether under `if` or `except`, whether in a function of its own) for all below a node."""
    for child in ast.iter_child_nodes(node):
        yield child, conditional, nested
        yield from below(
            child,
            conditional=conditional or isinstance(child, ast.If | ast.IfExp | ast.ExceptHandler | ast.match_case),
            nested=nested or isinstance(child, Function | ast.Lambda),
        )


def reads_a_clock(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Attribute) and part.attr in CLOCKS for part in ast.walk(node))


def faults(text: str) -> list[str]:
    found = []
    for test in functions_of(text):
        waits = {id(inner) for loop in ast.walk(test) if isinstance(loop, ast.While) for inner in ast.walk(loop)}
        for node, conditional, nested in below(test):
            if isinstance(node, ast.Return) and not nested:
                found.append(f"{node.lineno}: {test.name} returns: what follows is not tested")
            elif isinstance(node, ast.Assert) and conditional:
                found.append(f"{node.lineno}: {test.name} asserts under a condition: make two tests of it")
            elif isinstance(node, ast.Assert) and reads_a_clock(node) and id(node) not in waits:
                found.append(
                    f"{node.lineno}: {test.name} asserts elapsed time: only a deadline of a wait may read a clock"
                )
    return found


@pytest.mark.parametrize("path", sorted(TESTS.rglob("test_*.py")), ids=lambda path: str(path.relative_to(TESTS)))
def test_every_test_asserts_in_every_case(path: Path) -> None:
    assert faults(path.read_text()) == []


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("if x:\n        return\n    assert y", "returns"),
        ("return None", "returns"),
        ("if x:\n        assert y", "asserts under a condition"),
        ("if x:\n        pass\n    else:\n        assert y", "asserts under a condition"),
        ("def scene():\n        if x:\n            assert y", "asserts under a condition"),
        ("try:\n        x()\n    except OSError:\n        assert y", "asserts under a condition"),
        ("assert time.monotonic() - began < 3", "asserts elapsed time"),
    ],
)
def test_it_finds(body: str, fault: str) -> None:
    (found,) = faults(f"def test_a():\n    {body}\n")
    assert f"test_a {fault}" in found


@pytest.mark.parametrize(
    "body",
    [
        "def f():\n        return 1\n    assert f()",
        "for x in (1, 2):\n        assert x",
        "while not x():\n        assert time.monotonic() < until",
    ],
)
def test_it_lets_pass(body: str) -> None:
    assert faults(f"def test_a():\n    {body}\n") == []
