"""Reading one TOML table: typed values within their ranges.

A getter returns the default when the key is absent or its value is wrong. A wrong value is reported and reading goes
on, so that the operator sees all mistakes at once.
"""

from collections.abc import Collection

from conntrackd_py.settings.errors import ABSENT, ConfigError, ConfigErrors, did_you_mean


class Report:
    """The mistakes found so far."""

    def __init__(self) -> None:
        self.errors: list[ConfigError] = []

    def add(self, path: str, value: object, why: str, source: str) -> None:
        self.errors.append(ConfigError(path, value, why, source))

    def raise_if_any(self) -> None:
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            raise ConfigErrors(self.errors)


class Table:
    """The keys of one table. `path` names it in messages; `sources` says which file each key came from."""

    def __init__(self, data: dict[str, object], path: str, sources: dict[str, str], report: Report) -> None:
        self.data = data
        self.path = path
        self.sources = sources
        self.report = report
        self.known: set[str] = set()

    def wrong(self, key: str, why: str) -> None:
        """Report a mistake in the value of `key`."""
        path = f"{self.path}.{key}" if self.path else key
        value = self.data.get(key, ABSENT)
        # A table as a value would fill the screen.
        shown = ABSENT if isinstance(value, dict) else value
        self.report.add(path, shown, why, self.sources.get(key, self.sources.get("", "")))

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
