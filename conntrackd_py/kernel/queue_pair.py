"""Two queues for one daemon: packets coming in, and packets on their way out, who go first.

With one queue for both, a flood fills it with packets that have just arrived, and those already accepted find no
place at their second visit: most of the work is thrown away half done, the more the harder the flood (measured:
two of three). So the second visit has a queue of its own, emptied before more is taken on; what is refused
under overload is refused at the door.
"""

import select
from typing import Final, final

from conntrackd_py.kernel.queue import PacketQueue

IN_A_ROUND: Final = 32
OUT_A_ROUND: Final = 64
ROUNDS: Final = 4


@final
class QueuePair:
    """out: the queue of the last hooks; None where packets make one visit only."""

    def __init__(self, entrance: PacketQueue, out: PacketQueue | None) -> None:
        self.entrance = entrance
        self.out = out
        self.all = [entrance] if out is None else [out, entrance]
        self.handled = 0
        self.seen = 0  # of those handled, at the last look

    def filenos(self) -> list[int]:
        return [queue.fileno() for queue in self.all]

    def drain(self) -> int:
        """Handle a bounded number of waiting packets, never blocking; how many there were."""
        handled = 0
        for _ in range(ROUNDS):
            got = self.entrance.drain(IN_A_ROUND)
            if self.out is not None:
                got += self.out.drain(OUT_A_ROUND)
            if not got:
                break
            handled += got
        self.handled += handled
        return handled

    def moving(self) -> bool:
        """Whether packets were handled since the last look, or none waits. The watchdog is fed only then."""
        before, self.seen = self.seen, self.handled
        return before != self.handled or not select.select(self.filenos(), [], [], 0)[0]

    def refuse(self) -> None:
        """Take nothing new in; what waits can still be drained, and what was begun still finds its way out."""
        self.entrance.refuse()

    def close(self) -> None:
        for queue in self.all:
            queue.close()
