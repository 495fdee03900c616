"""The transcript of a conversation, and the check that a test has asserted each one it began."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

BAD: Final = "!!"

_unasserted: list[Transcript] = []


class Transcript:
    """Lines of what was wanted; below a line that differs, what was seen."""

    def __init__(self) -> None:
        self._lines: list[tuple[str, str]] = []
        self._question = ""

    def ask(self, step: str) -> None:
        """A step that needs an answer."""
        self.note("")
        self._question = f">> {step}"

    def note(self, step: str) -> None:
        """A step that needs none; empty: only closes the one before it."""
        self._must_be_asserted()
        if self._question:
            self._lines.append((self._question, f"{BAD} no answer wanted: add << after the step"))
            self._question = ""
        if step:
            self._lines.append((f">> {step}", ""))

    def answer(self, wanted: str, seen: str) -> None:
        """seen: empty if everything is as wanted."""
        self._must_be_asserted()
        self._lines.append((f"{self._question} << {wanted}".lstrip(), f"{BAD} {seen}" if seen else ""))
        self._question = ""

    def check(self) -> None:
        """The transcript counts as asserted. Fails with both sides of it unless everything went as wanted."""
        self.note("")
        if self in _unasserted:
            _unasserted.remove(self)
        if any(seen for _, seen in self._lines):
            raise AssertionError(f"the conversation went otherwise:\n{self}")

    def _must_be_asserted(self) -> None:
        if self not in _unasserted:
            _unasserted.append(self)

    def __str__(self) -> str:
        lines = [*self._lines, (self._question, "")] if self._question else self._lines
        return "\n".join(f"  {line}" + (f"\n      {seen}" if seen else "") for line, seen in lines)


@contextmanager
def all_asserted() -> Iterator[None]:
    """Fails when a conversation began in this block, or went on after its last assert, and was not asserted."""
    before = _unasserted[:]
    _unasserted.clear()
    try:
        yield
        left = _unasserted[:]
    finally:
        _unasserted[:] = before
    if left:
        texts = "\n\n".join(str(transcript) for transcript in left)
        raise AssertionError(f"a conversation without assert (write `assert play >> ... << ...`):\n{texts}")
