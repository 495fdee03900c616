"""The last packets that were refused, ignored or dropped, each with its reason and numbers.

A note is a snapshot, because the connection goes on changing and the packet is gone; it is integers and bytes,
because words are only made when somebody asks. The ring is bounded: the oldest note goes when a new one comes, and
the sequence numbers tell how many went unread.
"""

from typing import Final, final

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.explain.expired import ExpiredConnection

REFUSALS_LIMIT: Final = 1024  # notes kept
HEADER_KEPT: Final = 128  # bytes of the packet: both headers, and those of a packet quoted in an ICMP error


@final
class Refusal:
    """What happened to one packet on one visit.

    at: ms. cause: why it had been refused before it was dropped; `numbers` are then of the cause. original: the
    tuple of the connection it belonged to, or would have; empty without one, and then `id`, `state`, `status` and
    `timeout` (ms left) mean nothing. ghost: the dead connection it was sent for, if that expired in use.
    """

    def __init__(
        self, skb: Skb, hook: int, verdict: int, ct: NfConn | None, expired: ExpiredConnection | None, now: int
    ) -> None:
        self.sequence = 0
        self.at = now
        self.hook = hook
        self.verdict = verdict
        self.reason = skb.reason
        self.cause = skb.cause
        self.numbers = skb.numbers
        self.ctinfo = skb.ctinfo
        self.header = skb.data[:HEADER_KEPT]
        self.length = len(skb.data)
        self.indev = skb.indev
        self.outdev = skb.outdev
        self.expired = expired
        self.original = b""
        self.id = self.status = self.timeout = 0
        self.state = ""
        if ct is not None:
            self.original = ct.original
            self.id = ct.id
            self.state = ct.l4proto.state_names[ct.state]
            self.status = ct.status
            self.timeout = ct.remaining(now)


@final
class RecentRefusals:
    def __init__(self, limit: int = REFUSALS_LIMIT) -> None:
        self.limit = limit
        self.total = 0  # notes ever made; the sequence number of the newest
        self.ring: list[Refusal] = []

    def note(self, note: Refusal) -> None:
        if len(self.ring) < self.limit:
            self.ring.append(note)
        else:
            self.ring[self.total % self.limit] = note
        self.total += 1
        note.sequence = self.total

    def since(self, sequence: int) -> list[Refusal]:
        """The notes kept whose sequence number is greater, oldest first."""
        first = max(sequence, self.total - len(self.ring))
        return [self.ring[at % self.limit] for at in range(first, self.total)]

    def last(self, count: int) -> list[Refusal]:
        """The newest `count` notes, oldest first."""
        return self.since(max(self.total - count, 0))
