"""The committed completion and manual pages are up to date, and an installation has them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from generators import __main__ as generate

import conntrackd_py

ROOT = Path(__file__).parents[2]
COMMAND = "scripts/generate"
ORDINARY = Path(conntrackd_py.__file__).parent != ROOT / "conntrackd_py"


def test_the_files_are_up_to_date() -> None:
    files = generate.files()
    stale = [name for name, text in files.items() if not (ROOT / name).is_file() or (ROOT / name).read_text() != text]
    if stale:
        pytest.fail(f"not what the tables give: {', '.join(stale)}; write them again: {COMMAND}", pytrace=False)
    there = {str(path.relative_to(ROOT)) for path in (ROOT / "share").rglob("*") if path.is_file()}
    assert there == set(files), "share/ holds what nothing writes"


@pytest.mark.skipif(
    not ORDINARY, reason="an editable installation runs the source, and has files from when it was made"
)
def test_an_installation_has_the_files() -> None:
    for name, text in generate.files().items():
        assert (Path(sys.prefix) / name).read_text() == text, name


def test_the_command_writes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main([str(tmp_path)]) == 0
    assert (tmp_path / "share/man/man8/conntrack-py.8").read_text().startswith('.\\" Written by')
    for arguments in ([], ["--help"], ["a", "b"]):
        assert generate.main(arguments) == 2
        assert capsys.readouterr().err == f"{generate.USAGE}\n"


def test_neither_command_imports_any_of_it() -> None:
    script = (
        "import sys, conntrackd_py.cli.conntrack.commands, conntrackd_py.cli.conntrackd.main\n"
        "print(*(name for name in sys.modules if name.startswith('generators')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
