"""Refused packets in the log: at most `rate` lines a second for each reason; each counts those left out before it."""

from collections.abc import Callable
from typing import Final, final

import structlog

from conntrackd_py.control.view import refused_packet
from conntrackd_py.explain.refusals import RecentRefusals, Refusal

LINES_A_SECOND: Final = 1  # of each reason

log = structlog.get_logger()


@final
class RefusalLog:
    """Reads the engine's ring. clock: ms. Refusals overwritten before they are read count as not logged."""

    def __init__(self, recent: RecentRefusals, clock: Callable[[], int], rate: int = LINES_A_SECOND) -> None:
        self.recent = recent
        self.clock = clock
        self.rate = rate
        self.not_logged = 0  # ever
        self._read = recent.total
        self._second = -1
        self._lines: dict[int, int] = {}  # of this second, by reason
        self._left_out: dict[int, int] = {}  # since the last line of the reason

    def publish(self) -> None:
        """Log new refusals. Costs one comparison when there are none."""
        if self._read == self.recent.total:
            return
        notes = self.recent.since(self._read)
        self.not_logged += self.recent.total - self._read - len(notes)
        self._read = self.recent.total
        second = self.clock() // 1000
        if second != self._second:
            self._second = second
            self._lines.clear()
        for note in notes:
            self._sample(note)

    def _sample(self, note: Refusal) -> None:
        lines = self._lines.get(note.reason, 0)
        if lines >= self.rate:
            self.not_logged += 1
            self._left_out[note.reason] = self._left_out.get(note.reason, 0) + 1
            return
        self._lines[note.reason] = lines + 1
        described = refused_packet(note, 0.0)
        log.info(
            "packet",
            outcome=described["outcome"],
            reason=described["reason"],
            why=described["why"],
            hook=described["hook"],
            packet=described["text"],
            numbers=described["numbers"],
            state=note.state,
            not_logged=self._left_out.pop(note.reason, 0),
        )
