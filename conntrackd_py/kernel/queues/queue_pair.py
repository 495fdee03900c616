"""The ingress queues, for a packet's first visit, and the egress queues, for its last one.

In one queue, a flood of first visits leaves no room for the second visits, and packets are dropped after most of their
work is done (measured: two of three). With two queues, overload drops packets at their first visit. First visits of
known connections have a queue of their own (`known`): a flood of new ones fills the other.

A round serves the egress queues, then known connections, then first packets. If known packets waited, NEW_BESIDE_KNOWN
first packets are handled; with every round without known packets twice as many, up to NEW_A_ROUND. So a flood slows
established connections, but does not stop them, and some new connections get through. Less comes in in a round than
the egress queues give out, so these do not grow.
"""

import select
from typing import Final, final

from conntrackd_py.kernel.queues.queue import PacketQueue

EGRESS_A_ROUND: Final = 64
KNOWN_A_ROUND: Final = 48
NEW_A_ROUND: Final = 32
NEW_BESIDE_KNOWN: Final = 4
ROUNDS: Final = 4


@final
class QueuePair:
    """egress: None if packets make one visit only. known, established: first and last visits of known connections."""

    def __init__(
        self,
        ingress: PacketQueue,
        egress: PacketQueue | None = None,
        known: PacketQueue | None = None,
        established: PacketQueue | None = None,
    ) -> None:
        self.ingress = ingress
        self.known = [known] if known is not None else []
        self.egress = [queue for queue in (established, egress) if queue is not None]
        self.all = [*self.egress, *self.known, ingress]
        self.handled = 0
        self.share = NEW_A_ROUND  # first packets in a round
        self.handled_before = 0  # at the previous call of moving()

    def filenos(self) -> list[int]:
        return [queue.fileno() for queue in self.all]

    def drain(self) -> int:
        """Handle waiting packets, at most ROUNDS rounds, without blocking; returns how many."""
        handled = 0
        for _ in range(ROUNDS):
            got = self._round()
            if not got:
                break
            handled += got
        self.handled += handled
        return handled

    def _round(self) -> int:
        got = known = 0
        for queue in self.egress:
            got += queue.drain(EGRESS_A_ROUND)
        for queue in self.known:
            known += queue.drain(KNOWN_A_ROUND)
        self.share = NEW_BESIDE_KNOWN if known else min(2 * self.share, NEW_A_ROUND)
        return got + known + self.ingress.drain(self.share)

    def moving(self) -> bool:
        """Whether packets were handled since the previous call, or none waits. The watchdog depends on it."""
        before, self.handled_before = self.handled_before, self.handled
        return before != self.handled or not select.select(self.filenos(), [], [], 0)[0]

    def refuse(self) -> None:
        """Take no new packets. Waiting packets can be drained, also at their second visit."""
        for queue in (*self.known, self.ingress):
            queue.refuse()

    def close(self) -> None:
        for queue in self.all:
            queue.close()
