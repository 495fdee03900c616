"""Which frames a standby applies, and whether it has every connection.

- The highest epoch counts: a frame of a lower one is ignored. A new epoch begins with a snapshot.
- Sequence numbers have no gaps. After a gap the standby applies what comes, and lacks something until the next
  snapshot is complete.
- The clocks of two machines differ. The smallest difference of the last WINDOW is taken for a frame without delay.
"""

from typing import Final, final

from conntrackd_py.service.sync.frames import BEGIN, END, Head

WINDOW: Final = 60_000  # ms
UNKNOWN: Final = 1 << 62


@final
class Reader:
    """node: the own one. The counters are those of SyncState."""

    def __init__(self, mode: str, node: bytes) -> None:
        self.mode = mode
        self.node = node
        self.epoch = 0
        self.sequence = -1
        self.synced = False
        self.snapshot = False  # the frames since its begin are complete
        self.gaps = self.older = self.foreign = 0
        self.offset = self.former = UNKNOWN  # smallest difference of the clocks: in this window, in the one before
        self.window = 0  # when it began, ms

    def accepts(self, head: Head, now: int) -> bool:
        """Whether to apply the frame."""
        if head.mode != self.mode:
            self.foreign += 1
            return False
        if head.node == self.node or head.epoch < self.epoch:
            self.older += 1
            return False
        if head.epoch > self.epoch:
            self._new_epoch(head.epoch)
        elif head.sequence <= self.sequence:
            return False  # repeated: the answer of the server was lost
        elif head.sequence != self.sequence + 1:
            self.gaps += 1
            self.synced = self.snapshot = False
        self.sequence = head.sequence
        self._compare_clocks(head.clock, now)
        if head.kind == BEGIN:
            self.snapshot = True
        return True

    def ended(self, head: Head) -> bool:
        """Whether the frame completes a snapshot; then the standby has every connection."""
        if head.kind != END or not self.snapshot:
            return False
        self.synced, self.snapshot = True, False
        return True

    def _new_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        self.synced = self.snapshot = False
        self.offset = self.former = UNKNOWN

    def _compare_clocks(self, clock: int, now: int) -> None:
        if now - self.window >= WINDOW:
            self.former, self.offset, self.window = self.offset, UNKNOWN, now
        self.offset = min(self.offset, now - clock)

    @property
    def shift(self) -> int:
        """ms to add to the times of the sender."""
        shift = min(self.offset, self.former)
        return 0 if shift == UNKNOWN else shift

    def lag(self, head: Head, now: int) -> int:
        """ms that the frame is behind the fastest one."""
        return max(now - head.clock - self.shift, 0)
