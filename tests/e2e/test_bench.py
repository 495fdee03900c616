"""The benchmark runs, as scripts/bench starts it: one round of the shortest."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = (ROOT / "scripts" / "bench").read_text()


@pytest.mark.parametrize(
    ("module", "options", "says"),
    [
        ("tests.bench", ["--only", "kernel,daemon", "--rounds", "1", "--seconds", "0.5"], r"conntrackd-py +[\d.]+"),
        ("tests.bench.listing", ["--help"], "usage: "),
    ],
)
def test_it_runs(module: str, options: list[str], says: str) -> None:
    run = re.search("^RUN='(.*)'$", SCRIPT, re.MULTILINE)
    assert run is not None
    done = subprocess.run(
        [sys.executable, "-P", "-c", run[1], str(ROOT), module, *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search(says, done.stdout)
