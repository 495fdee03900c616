"""The most recent packets that were INVALID, ignored or dropped, each with its reason and numbers.

A refusal is a copy of the state at that moment, in integers and bytes; sentences are made on request (sentences.py).
The ring holds `limit` refusals and overwrites the oldest. Gaps in the sequence numbers count what was overwritten.
"""

from typing import Final, final

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.explain.expired import ExpiredConnection

REFUSALS_LIMIT: Final = 1024  # refusals kept
HEADER_KEPT: Final = 128  # bytes of the packet: both headers, and those of a packet quoted in an ICMP error


@final
class Refusal:
    """What happened to one packet at one visit.

    at: ms. cause: why the packet was INVALID before it was dropped; `numbers` then belong to the cause. rule: the
    filter rule or default that dropped it. original: the original tuple of the connection with this tuple; empty if
    there is none, and then `id`, `state`, `status` and `timeout` (ms left) have no meaning. expired: the connection
    that expired in use and that the packet was for. overwritten: another rule overwrote the packet mark between the
    two visits. lacks: the helper that no rule assigns to this control connection.
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
        self.rule = skb.rule
        self.ctinfo = skb.ctinfo
        self.header = skb.data[:HEADER_KEPT]
        self.length = max(len(skb.data), skb.length)
        self.indev = skb.indev
        self.outdev = skb.outdev
        self.expired = expired
        self.overwritten = False
        self.lacks = ""
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
        self.total = 0  # refusals ever; the sequence number of the newest
        self.ring: list[Refusal] = []

    def add(self, refusal: Refusal) -> None:
        if len(self.ring) < self.limit:
            self.ring.append(refusal)
        else:
            self.ring[self.total % self.limit] = refusal
        self.total += 1
        refusal.sequence = self.total

    def since(self, sequence: int) -> list[Refusal]:
        """The refusals kept with a greater sequence number, oldest first."""
        first = max(sequence, self.total - len(self.ring))
        return [self.ring[at % self.limit] for at in range(first, self.total)]

    def last(self, count: int) -> list[Refusal]:
        """The newest `count` refusals, oldest first."""
        return self.since(max(self.total - count, 0))
