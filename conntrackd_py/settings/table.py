"""Reading one TOML table: typed values within their ranges.

A getter returns the default when the key is absent or its value is wrong. A wrong value is reported and reading goes
on, so that the operator sees all mistakes at once.
"""

from collections.abc import Collection
from pathlib import Path

from conntrackd_py.settings.errors import ABSENT, ConfigErrors, Finding, did_you_mean


class Report:
    """The mistakes and warnings found so far. lines: by file, the line of a path."""

    def __init__(self) -> None:
        self.errors: list[Finding] = []
        self.warnings: list[Finding] = []
        self.lines: dict[str, dict[str, int]] = {}

    def in_order(self, findings: list[Finding]) -> list[Finding]:
        """By file and line."""
        files = {source: at for at, source in enumerate(self.lines)}
        return sorted(findings, key=lambda finding: (files.get(finding.source, 0), finding.line))

    def raise_if_any(self) -> None:
        if self.errors:
            raise ConfigErrors(self.in_order(self.errors))


class Table:
    """The keys of one table.

    `path` names it in messages, `path_in_file` finds its lines: rules are numbered over all files. `sources` says which
    file each key came from; that of "" is the file of an absent key.
    """

    def __init__(
        self, data: dict[str, object], path: str, sources: dict[str, str], report: Report, path_in_file: str = ""
    ) -> None:
        self.data = data
        self.path = path
        self.path_in_file = path_in_file or path
        self.sources = sources
        self.report = report
        self.known: set[str] = set()

    def wrong(self, key: str, why: str, *, quote: bool = True) -> None:
        """Report a mistake in the value of `key`, or in the table without a key. quote: show the value."""
        self.report.errors.append(self.finding(key, why, quote))

    def warn(self, key: str, why: str, *, quote: bool = True) -> None:
        self.report.warnings.append(self.finding(key, why, quote))

    def finding(self, key: str, why: str = "", quote: bool = True) -> Finding:
        """The line is that of the key or, if the file does not have it, of the table."""
        value = self.data.get(key, ABSENT)
        # A table as a value would fill the screen.
        shown = value if quote and not isinstance(value, dict) else ABSENT
        source = self.sources.get(key, self.sources.get("", ""))
        lines = self.report.lines.get(source, {})
        line = lines.get(_joined(self.path_in_file, key)) or lines.get(self.path_in_file, 0)
        return Finding(_joined(self.path, key), shown, why, source, line)

    def value(self, key: str) -> object:
        """The raw value, or ABSENT. Marks the key as known."""
        self.known.add(key)
        return self.data.get(key, ABSENT)

    def boolean(self, key: str, default: bool) -> bool:
        value = self.value(key)
        if value is ABSENT:
            return default
        if isinstance(value, bool):
            return value
        self.wrong(key, "must be true or false")
        return default

    def integer(self, key: str, default: int, low: int, high: int, why: str = "") -> int:
        """why: the reason for the range, if not obvious."""
        value = self.value(key)
        if value is ABSENT:
            return default
        if not isinstance(value, int) or isinstance(value, bool):
            self.wrong(key, "must be a whole number")
        elif not low <= value <= high:
            self.wrong(key, f"must be between {low} and {high}{why and ': '}{why}")
        else:
            return value
        return default

    def string(self, key: str, default: str) -> str:
        value = self.value(key)
        if value is ABSENT:
            return default
        if isinstance(value, str):
            return value
        self.wrong(key, "must be a string")
        return default

    def choice(self, key: str, default: str, choices: Collection[str]) -> str:
        value = self.string(key, default)
        if value in choices:
            return value
        self.wrong(key, f"must be one of {', '.join(choices)}{did_you_mean(value, choices)}")
        return default

    def strings(self, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """A list of different strings."""
        value = self.value(key)
        if value is ABSENT:
            return default
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.wrong(key, "must be a list of strings")
        elif len(set(value)) != len(value):
            self.wrong(key, "has a duplicate")
        else:
            return tuple(value)
        return default

    def reject_unknown(self) -> None:
        """Report every key that no getter has read. Call it last."""
        for key in self.data:
            if key not in self.known:
                self.wrong(key, f"unknown key{did_you_mean(key, self.known)}")


def _joined(path: str, key: str) -> str:
    return f"{path}.{key}" if path and key else path or key


def readable_file(table: Table, key: str) -> str:
    """The path of a readable file, relative to the configuration's directory; empty when absent."""
    name = table.string(key, "")
    if not name:
        return ""
    path = Path(table.sources.get(key, "")).parent / name
    try:
        path.read_bytes()
    except OSError as error:
        table.wrong(key, error.strerror or str(error))
    return str(path)
