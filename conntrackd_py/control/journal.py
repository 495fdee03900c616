"""What the daemon knows of its journal, for status and metrics. service/journal.py fills it."""

from typing import final

from conntrackd_py.conntrack.journal import Journal
from conntrackd_py.engine.takeover.restore import REASONS


@final
class JournalState:
    """enabled: by the configuration. error: why none is written; empty while one is, or none is wanted.

    side_unwritten: expectations and interfaces without a record now.
    restored, refused (by reason), damaged: connections and records at the start. aside: the file that was renamed.
    before: the last turn of a former process of this boot, ms of the daemon's clock; -1: unknown.
    pause: ms that packets waited in the queues of a former process; -1: there was none.
    away: ms from the last turn of the former process to the start; -1: no journal was read.
    """

    def __init__(self) -> None:
        self.enabled = False
        self.error = ""
        self.journal: Journal | None = None
        self.side_unwritten = 0
        self.restored = 0
        self.refused = dict.fromkeys(REASONS, 0)
        self.damaged = 0
        self.aside = ""
        self.before = -1
        self.away = -1
        self.pause = -1

    @property
    def written(self) -> int:
        return self.journal.written if self.journal is not None else 0

    @property
    def unwritten(self) -> int:
        return self.journal.unwritten if self.journal is not None else 0

    @property
    def shortened(self) -> int:
        return self.journal.shortened if self.journal is not None else 0

    def report(self) -> dict[str, object]:
        """For the answer to `status`."""
        return {
            "enabled": self.enabled,
            "error": self.error,
            "written": self.written,
            "unwritten": self.unwritten,
            "side_unwritten": self.side_unwritten,
            "shortened": self.shortened,
            "restored": self.restored,
            "refused": {reason: count for reason, count in self.refused.items() if count},
            "damaged": self.damaged,
            "aside": self.aside,
            "away": self.away / 1000 if self.away >= 0 else None,
            "pause": self.pause / 1000 if self.pause >= 0 else None,
        }
