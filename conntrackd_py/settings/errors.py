"""Configuration errors: file, key, value and reason."""

import difflib
from collections.abc import Iterable
from typing import Final


class Absent:
    """The value of an absent key."""


ABSENT: Final = Absent()


class ConfigError(Exception):
    """One mistake. `path` is the key, as `nat[2].to`, or empty for the whole file.

    `errors` holds every mistake of the same configuration; see ConfigErrors.
    """

    def __init__(self, path: str, value: object, why: str, source: str = "") -> None:
        super().__init__(path, value, why, source)
        self.path = path
        self.value = value
        self.why = why
        self.source = source
        self.errors: tuple[ConfigError, ...] = (self,)

    def __str__(self) -> str:
        where = self.path if isinstance(self.value, Absent) else f"{self.path} = {toml(self.value)}"
        return ": ".join(part for part in (self.source, where, self.why) if part)


class ConfigErrors(ConfigError):  # noqa: N818  a plural reads better than a suffix
    """Several mistakes in the order of discovery; its text has one line each."""

    def __init__(self, errors: Iterable[ConfigError]) -> None:
        everything = tuple(errors)
        first = everything[0]
        super().__init__(first.path, first.value, first.why, first.source)
        self.errors = everything

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


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
