"""Ghosts: connections that timed out while both ends may still believe in them.

A packet that turns up in mid-stream for such a tuple shows that the timeout was too short for it, or that nobody
sent keepalives: the connection expired in use. At most `limit` ghosts are remembered, the oldest goes first, and none
longer than LIFETIME after its end. Nothing here decides about a packet.
"""

from collections import OrderedDict
from typing import Final, final

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.core import Extension
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import IPS_ASSURED, IPS_CONFIRMED
from conntrackd_py.reasons import END_TIMEOUT

EXPIRED_LIMIT: Final = 4096
LIFETIME: Final = 3_600_000  # ms


@final
class ExpiredConnection:
    """lifetime: the ms without a packet after which it died; ended: when that was, in ms."""

    def __init__(self, ct: NfConn) -> None:
        self.original = ct.original
        self.reply = ct.reply
        self.id = ct.id
        self.l4proto = ct.l4proto
        self.proto = ct.l4proto.name
        self.assured = ct.status & IPS_ASSURED != 0
        self.lifetime = ct.l4proto.lifetime(ct)
        self.ended = ct.timeout

    def keepalive(self) -> int:
        """The longest interval in ms at which one lost keepalive would not have killed it."""
        return self.lifetime // 2


@final
class ExpiredConnections(Extension):
    def __init__(self, limit: int = EXPIRED_LIMIT) -> None:
        self.limit = limit
        self.expired_in_use = 0
        self.count = 0
        self.by_tuple: OrderedDict[bytes, ExpiredConnection] = OrderedDict()  # both tuples of each, oldest first

    def destroyed(self, ct: NfConn) -> None:
        """Remember ct if it timed out, and not because its work was done."""
        if ct.end_reason != END_TIMEOUT or not ct.status & IPS_CONFIRMED or not ct.l4proto.in_use(ct):
            return
        for t in (ct.original, ct.reply):
            older = self.by_tuple.get(t)
            if older is not None:
                self._forget(older)
        expired = ExpiredConnection(ct)
        self.by_tuple[ct.original] = expired
        self.by_tuple[ct.reply] = expired
        self.count += 1
        if self.count > self.limit:
            self._forget(self.by_tuple[next(iter(self.by_tuple))])

    def disturbed(self, t: bytes, skb: Skb, now: int) -> ExpiredConnection | None:
        """The ghost this packet with tuple t is meant for, if that expired in use. It is told only once."""
        expired = self.by_tuple.get(t)
        if expired is None:
            return None
        self._forget(expired)
        if now - expired.ended > LIFETIME or expired.l4proto.starts_or_ends(skb):
            return None
        if not expired.l4proto.shows_state and not expired.assured and t == expired.original:
            return None  # another query, as good as the first
        self.expired_in_use += 1
        return expired

    def _forget(self, expired: ExpiredConnection) -> None:
        del self.by_tuple[expired.original]
        if expired.reply != expired.original:
            del self.by_tuple[expired.reply]
        self.count -= 1
