"""Findings in the configuration: file, line, key, value and reason."""

import difflib
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Final


class Absent:
    """The value of an absent key."""


ABSENT: Final = Absent()


@dataclass(frozen=True)
class Finding:
    """A mistake or a warning. path: the key, as `nat[2].to`, or empty for the whole file. line: 0 if not known."""

    path: str
    value: object
    why: str
    source: str = ""
    line: int = 0

    @property
    def place(self) -> str:
        """`file:line`, `file`, or empty."""
        return f"{self.source}:{self.line}" if self.line else self.source

    def text(self, severity: str = "") -> str:
        """`file:line: severity: key = value: why`, without what is empty."""
        where = self.path if isinstance(self.value, Absent) else f"{self.path} = {toml(self.value)}"
        return ": ".join(part for part in (self.place, severity, where, self.why) if part)


class ConfigError(Exception):
    """A configuration with one mistake; see Finding. `findings` has every mistake, by file and line."""

    def __init__(self, path: str, value: object, why: str, source: str = "", line: int = 0) -> None:
        super().__init__(path, value, why, source, line)
        self.findings: tuple[Finding, ...] = (Finding(path, value, why, source, line),)

    def text(self, severity: str = "") -> str:
        """One line a mistake."""
        return "\n".join(finding.text(severity) for finding in self.findings)

    def __str__(self) -> str:
        return self.text()


class ConfigErrors(ConfigError):  # noqa: N818  a plural reads better than a suffix
    """Several mistakes."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        everything = tuple(findings)
        super().__init__(*astuple(everything[0]))
        self.findings = everything


def toml(value: object) -> str:
    """The value in TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, list):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    return str(value)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`, did you mean X?` when a known word is close, otherwise nothing."""
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), list(by_lower), n=1)
    return f", did you mean {by_lower[close[0]]}?" if close else ""
