"""Gc: finds expired connections, in bounded steps.

A calendar of one-second pages. A connection is on the page of its timeout, or on one at most HORIZON ahead; when that
page is due, its timeout is checked again. A refresh costs nothing: only a timeout *before* the page adds a second mark.
A stale mark is harmless, and no page is later than HORIZON. A mark is the slot, not the connection: four bytes, which
Python's garbage collector does not read, and an ended connection is freed at once.
A lookup sees expiry exactly; this sweep is at most one page late.
"""

from array import array
from heapq import heappop, heappush
from typing import Final, final

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.const import IPS_DYING

PAGE: Final = 1000  # ms
HORIZON: Final = 128_000  # ms
NEVER: Final = 1 << 62


@final
class Gc:
    """slots: those of the table."""

    def __init__(self, slots: list[NfConn | None]) -> None:
        self.slots = slots
        self.pages: dict[int, array[int]] = {}
        self.order: list[int] = []  # heap of the page numbers in `pages`

    def schedule(self, ct: NfConn, now: int) -> None:
        """Put a confirmed connection on the page of its timeout."""
        horizon = now + HORIZON
        page: int = (ct.timeout if ct.timeout < horizon else horizon) // PAGE
        ct.due = (page + 1) * PAGE
        marks = self.pages.get(page)
        if marks is None:
            marks = array("i")
            self.pages[page] = marks
            heappush(self.order, page)
        marks.append(ct.slot)

    def next_due(self) -> int:
        """When the next page is due, in ms; NEVER when there is none."""
        return (self.order[0] + 1) * PAGE if self.order else NEVER

    def due(self, now: int, budget: int) -> list[NfConn]:
        """The expired connections among at most budget that it checks; the others move to a later page."""
        expired: list[NfConn] = []
        while self.order and (self.order[0] + 1) * PAGE <= now and budget > 0:
            page = self.order[0]
            marks = self.pages[page]
            while marks and budget > 0:
                budget -= 1
                ct = self.slots[marks.pop()]
                if ct is None or ct.status & IPS_DYING or ct.due != (page + 1) * PAGE:
                    continue  # ended, or on another page by now
                if ct.timeout <= now:
                    ct.due = 0
                    expired.append(ct)
                else:
                    self.schedule(ct, now)
            if not marks:
                del self.pages[page]
                heappop(self.order)
        return expired
