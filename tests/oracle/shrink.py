"""A conversation about which the kernel and we differ, made shorter until every packet left in it is needed.

Each attempt replays the conversation with packets left out in a clean state, an empty kernel table and a fresh
engine, and ends at the first difference. Large pieces are left out first, then single packets, then pairs;
attempts and time are bounded. Any difference counts, so the shortest may differ in another way than the first.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations

import pytest

from tests.oracle.twin import Step, Twin, tunables_of

ATTEMPTS = 300
SECONDS = 20.0


@dataclass
class Tally:
    conversations: int = 0
    packets: int = 0


COMPARED: dict[str, Tally] = {}
"""What this run compared, by kind of conversation; printed at its end (tests/oracle/conftest.py)."""


def converse(
    twin: Twin, steps: Iterable[Step], what: str, seed: str, before: Collection[Step] = (), pause: float = 0.0
) -> list[Step]:
    """Both hear the steps; what was said in all. before: the same conversation until `pause` seconds ago.

    A difference fails the test with the shortest conversation that shows one.
    """
    said = list(before)
    tally = COMPARED.setdefault(what, Tally())
    tally.conversations += 0 if before else 1
    twin.start()
    for step in steps:
        said.append(replace(step, pause=pause) if before and len(said) == len(before) else step)
        packets = twin.packets
        same = twin.step(step)
        tally.packets += twin.packets - packets
        if not same:
            pytest.fail(report(twin, said, what, seed), pytrace=False)
    return said


@dataclass
class Shrinker:
    """`run` once; then `steps` are what is left (none when the conversation, said alone, does not differ)."""

    twin: Twin
    attempts: int = ATTEMPTS
    seconds: float = SECONDS
    steps: list[Step] = field(default_factory=list)
    transcript: str = ""
    tried: int = 0

    def run(self, steps: list[Step]) -> None:
        self.until = time.monotonic() + self.seconds
        if not self._try(steps):
            return
        self._try([replace(step, pause=0.0) for step in self.steps])
        self._try([step for step, line in zip(self.steps, self.twin.lines, strict=False) if line.seen])
        size = len(self.steps) // 2
        while size > 1:
            self._pieces(size)
            size //= 2
        self._singles()
        while not self.spent and self._pair():
            self._singles()

    @property
    def spent(self) -> bool:
        return self.tried >= self.attempts or time.monotonic() > self.until

    def _pieces(self, size: int) -> bool:
        """Leave out `size` neighbours at a time, from the end; whether that went well anywhere."""
        shorter = False
        at = len(self.steps) - size
        while at > -size and not self.spent:
            shorter |= self._leave_out(range(max(at, 0), at + size))
            at = min(at, len(self.steps)) - size
        return shorter

    def _singles(self) -> None:
        while not self.spent and self._pieces(1):
            pass

    def _pair(self) -> bool:
        return any(self._leave_out(pair) for pair in combinations(range(len(self.steps)), 2))

    def _leave_out(self, gone: Collection[int]) -> bool:
        return self._try(without(self.steps, gone))

    def _try(self, steps: list[Step]) -> bool:
        """Replay; when it differs, what was said up to there is the conversation from now on."""
        if self.spent or not steps or steps == self.steps:
            return False
        self.tried += 1
        said = replay(self.twin, steps)
        if not said:
            return False
        self.steps, self.transcript = steps[:said], self.twin.transcript()
        return True


def without(steps: list[Step], gone: Collection[int]) -> list[Step]:
    """A pause before a packet that is left out is made before the next."""
    left = []
    pause = 0.0
    for at, step in enumerate(steps):
        pause += step.pause
        if at not in gone:
            left.append(replace(step, pause=pause))
            pause = 0.0
    return left


def replay(twin: Twin, steps: list[Step]) -> int:
    """From a clean state; how many packets it takes to differ, 0 when they never do."""
    twin.forget()
    for said, step in enumerate(steps, 1):
        time.sleep(step.pause)
        if not twin.step(step):
            return said
    return 0


def report(twin: Twin, steps: list[Step], what: str, seed: str) -> str:
    original = twin.transcript()
    shrinker = Shrinker(twin)
    shrinker.run(steps)
    if shrinker.steps:
        bound = ", as far as the bound of attempts or time let it" if shrinker.spent else ""
        length = f"{len(shrinker.steps)} of {len(steps)} packets after {shrinker.tried} attempts{bound}"
        shown = shrinker.transcript
    else:
        length = f"{len(steps)} packets; said again alone they do not differ, so it takes time or others before them"
        shown = original
    number = int(seed.partition("/")[2]) + 1
    test = os.environ.get("PYTEST_CURRENT_TEST", "").removesuffix(" (call)")
    return "\n".join(
        [
            f"{what}, conversation {seed}, sysctls {twin.kernel.sysctls}{_ours(twin)}",
            f"again: CONNTRACKD_PY_ORACLE={number} CONNTRACKD_PY_ORACLE_SEED={seed.partition('/')[0]} pytest '{test}'",
            f"{length}:",
            shown,
        ]
    )


def _ours(twin: Twin) -> str:
    if twin.tunables is None:
        return ""
    same = asdict(tunables_of(twin.kernel.sysctls))
    return f", ours { {key: value for key, value in asdict(twin.tunables).items() if value != same[key]} }"
