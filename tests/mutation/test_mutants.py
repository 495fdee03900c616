"""The changes that scripts/mutation makes to a module."""

from pathlib import Path

from tests.mutation.mutants import mutants

SOURCE = '''"""A module."""

from flags import FLAG_A, FLAG_B

OPEN: Final = 0
CLOSED: Final = 1
LIMIT: Final = 300


def judge(a: int, b: bool) -> int:
    """Docstrings stay."""
    if not b and a <= LIMIT:
        count(FLAG_A)
    a |= FLAG_B
    return a + 1
'''


def changed(path: Path, source: str) -> list[str]:
    path.write_text(source)
    before = source.splitlines()
    found = []
    for mutant in mutants(path):
        after = mutant.apply(source.encode()).decode().splitlines()
        assert [new for old, new in zip(before, after, strict=True) if old != new] == [after[mutant.line - 1]]
        found.append(after[mutant.line - 1].strip())
    return found


def test_every_change_of_a_module(tmp_path: Path) -> None:
    """OPEN and CLOSED only identify something. Imports, annotations and docstrings are not changed."""
    assert changed(tmp_path / "module.py", SOURCE) == [
        "LIMIT: Final = 301",
        "LIMIT: Final = 299",
        "if not b or a <= LIMIT:",
        "if (b) and a <= LIMIT:",
        "if not b and a < LIMIT:",
        "if not b and a <= OPEN:",
        "pass",
        "count(FLAG_B)",
        "pass",
        "a &= FLAG_B",
        "a |= FLAG_A",
        "return (a + 1) + 1",
        "return a - 1",
        "return a + 2",
        "return a + 0",
    ]


def test_a_change_that_does_not_compile_is_left_out(tmp_path: Path) -> None:
    assert changed(tmp_path / "module.py", "def f() -> None:\n    x: int = 1\n    global y\n    y = x\n")
