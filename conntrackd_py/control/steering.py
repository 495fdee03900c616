"""What the daemon knows of its steering rules, and the hold of a command that is about to change them.

service/steering_guard.py fills it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Final, final

NETWORK: Final = Path("/proc/self/ns/net")


class Hold(ABC):
    """Around the work of a command that changes the rules: they are neither restored nor compared meanwhile."""

    @abstractmethod
    async def begin(self) -> None: ...

    @abstractmethod
    async def trial(self) -> None:
        """New rules are installed, perhaps for a time."""

    @abstractmethod
    async def end(self, done: bool) -> None:
        """done: the command came to its end, and what is installed now is meant."""


@final
class Steering:
    """installed: None until the rules were seen as the daemon's configuration wants them, and after `rules remove`.

    missing: what differs from the configuration.
    error: of the last attempt to compare or restore them, empty after success.
    leak_table: "in place", "" (not needed) or why there is none. untranslated: reads its counter.
    held: commands that change the rules now, or a reload. hold: None in a daemon without a guard.
    """

    def __init__(self) -> None:
        self.guard = ""
        self.installed: bool | None = None
        self.missing = ""
        self.restored = 0
        self.error = ""
        self.leak_table = ""
        self.held = 0
        self.untranslated: Callable[[], int] = _none
        self.hold: Hold | None = None

    def report(self) -> dict[str, object]:
        """For the answers to `status` and `steering`."""
        return {
            "guard": self.guard,
            "installed": self.installed,
            "missing": self.missing,
            "restored": self.restored,
            "error": self.error,
            "held": self.held,
            "leak_table": self.leak_table,
            "untranslated": self.untranslated(),
        }


def network() -> int:
    """A number of this process's network namespace: rules of another one are not the daemon's."""
    return NETWORK.stat().st_ino


def _none() -> int:
    return 0
