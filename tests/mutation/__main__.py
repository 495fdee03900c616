"""scripts/mutation: random changes of the packet path, one at a time, and whether a test notices each.

The changes are made in a copy of the checkout. A mutant that no test notices survives: either a test is missing, or
the change makes no difference. Tests that read the source (tests/test_layering.py and similar) are not run.
"""

import difflib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.mutation.mutants import Mutant, mutants
from tests.test_layering import CORE, PACKAGE

ROOT = PACKAGE.parent
NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv*", ".setup", ".hypothesis", ".*_cache", "__pycache__", "build", "dist"
)
OUTPUT = ".output"  # of the last run of pytest
KILLED, SURVIVED, TIMED_OUT = "killed", "survived", "timed out"


def packet_path() -> list[Path]:
    """The modules to mutate: those of the rooms of the core. const.py and reasons.py only have names and texts."""
    return [path for room in CORE for path in sorted((PACKAGE / room).rglob("*.py"))]


class Copy:
    """A copy of the checkout, and the tests in stages, the fastest to fail first."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / ROOT.name
        shutil.copytree(ROOT, self.root, ignore=NOT_COPIED)
        units = sorted(path.name for path in (ROOT / "tests/unit").iterdir() if path.name != "__pycache__")
        self.stages = [
            ["tests/conversations", *[f"tests/unit/{name}" for name in units if name in CORE]],
            ["tests/property"],
            [*[f"tests/unit/{name}" for name in units if name not in CORE], "tests/test_docs.py"],
        ]
        self.limits = [0.0] * len(self.stages)  # s
        self.written = int(time.time())

    def measure(self) -> None:
        """Run every stage without a mutation: it must pass, and a mutant may take five times as long."""
        for number, stage in enumerate(self.stages):
            began = time.monotonic()
            if self.run(stage, None) != SURVIVED:
                print((self.root / OUTPUT).read_text()[-4000:])
                sys.exit(f"scripts/mutation: the tests fail without a mutation: {' '.join(stage)}")
            self.limits[number] = 20 + 5 * (time.monotonic() - began)

    def judge(self, mutant: Mutant) -> str:
        """Run the tests of the mutated module first, then the stages, until one fails."""
        path = self.root / mutant.path.relative_to(ROOT)
        source = path.read_bytes()
        unit = Path("tests/unit") / mutant.path.relative_to(PACKAGE).with_name(f"test_{mutant.path.name}")
        mirror = [str(unit)] if (ROOT / unit).is_file() else []
        self.write(path, mutant.apply(source))
        try:
            for stage, limit in zip([mirror, *self.stages], [self.limits[0], *self.limits], strict=True):
                outcome = self.run(stage, limit) if stage else SURVIVED
                if outcome != SURVIVED:
                    return outcome
            return SURVIVED
        finally:
            self.write(path, source)

    def write(self, path: Path, source: bytes) -> None:
        """Each time with another date: Python compares it to see whether its compiled file is old."""
        self.written += 2
        path.write_bytes(source)
        os.utime(path, (self.written, self.written))

    def run(self, tests: list[str], limit: float | None) -> str:
        shutil.rmtree(self.root / ".hypothesis", ignore_errors=True)  # an example of one mutant must not help the next
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
        environment = os.environ | {"PYTHONPATH": str(self.root)}
        with (self.root / OUTPUT).open("w") as output:
            pytest = subprocess.Popen(
                [*command, "-m", "not root", *tests],
                cwd=self.root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            return KILLED if pytest.wait(limit) else SURVIVED
        except subprocess.TimeoutExpired:
            return TIMED_OUT
        finally:
            if pytest.poll() is None:
                os.killpg(pytest.pid, signal.SIGKILL)
                pytest.wait()


def show(mutant: Mutant) -> str:
    source = mutant.path.read_bytes()
    before, after = source.decode().splitlines(), mutant.apply(source).decode().splitlines()
    changed = [
        line for line in difflib.unified_diff(before, after, n=0, lineterm="") if line[:2] not in ("--", "++", "@@")
    ]
    return "\n".join([f"{mutant.path.relative_to(ROOT)}:{mutant.line}", *changed])


def main() -> None:
    size, seed = int(sys.argv[1]), int(sys.argv[2])
    known = [mutant for path in packet_path() for mutant in mutants(path)]
    sample = random.Random(seed).sample(known, min(size, len(known)))
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        copy = Copy(Path(folder))
        copy.measure()
        for mutant in sample:
            outcome = copy.judge(mutant)
            outcomes[outcome] += 1
            if outcome == SURVIVED:
                print(f"{show(mutant)}\n", flush=True)
    figures = ", ".join(f"{outcomes[name]} {name}" for name in (KILLED, TIMED_OUT, SURVIVED))
    print(f"{len(sample)} of {len(known)} mutations, seed {seed}: {figures}")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background, and then in the tests too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    main()
