"""Gc: finds expired connections, in bounded steps.

A calendar of one-second pages. A connection is on the page of its timeout, or on one at most HORIZON ahead; when that
page is due, its timeout is checked again. A refresh costs nothing: only a timeout *before* the page adds a second mark.
A stale mark is harmless, and no page is later than HORIZON.
A lookup sees expiry exactly; this sweep is at most one page late.
"""

from heapq import heappop, heappush
from typing import Final, final

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.const import IPS_DYING

PAGE: Final = 1000  # ms
HORIZON: Final = 128_000  # ms
NEVER: Final = 1 << 62


@final
class Gc:
    def __init__(self) -> None:
        self.pages: dict[int, list[NfConn]] = {}
        self.order: list[int] = []  # heap of the page numbers in `pages`

    def schedule(self, ct: NfConn, now: int) -> None:
        """Put a confirmed connection on the page of its timeout."""
        horizon = now + HORIZON
        page: int = (ct.timeout if ct.timeout < horizon else horizon) // PAGE
        ct.due = (page + 1) * PAGE
        marks = self.pages.get(page)
        if marks is None:
            marks = []
            self.pages[page] = marks
            heappush(self.order, page)
        marks.append(ct)

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
                ct = marks.pop()
                if ct.status & IPS_DYING or ct.due != (page + 1) * PAGE:
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
