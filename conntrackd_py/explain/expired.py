"""Connections that expired while their ends may still use them.

A mid-stream packet with the tuple of such a connection shows that it expired in use: the timeout was too short, or
no end sent keepalives. At most `limit` expired connections are kept, the oldest is evicted first, and none is used
later than KEPT after its end. Nothing here decides about a packet.
"""

from collections import OrderedDict
from typing import Final, final

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.core import Extension
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import IPS_ASSURED, IPS_CONFIRMED
from conntrackd_py.reasons import END_TIMEOUT

EXPIRED_LIMIT: Final = 4096
KEPT: Final = 3_600_000  # ms


@final
class ExpiredConnection:
    """lifetime: its timeout in ms; ended: when it expired, in ms."""

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
        """A keepalive interval in ms that survives the loss of one keepalive."""
        return self.lifetime // 2


@final
class ExpiredConnections(Extension):
    def __init__(self, limit: int = EXPIRED_LIMIT) -> None:
        self.limit = limit
        self.expired_in_use = 0
        self.count = 0
        self.by_tuple: OrderedDict[bytes, ExpiredConnection] = OrderedDict()  # both tuples of each, oldest first

    def destroyed(self, ct: NfConn) -> None:
        """Keep ct if it expired while it may have been in use."""
        if ct.end_reason != END_TIMEOUT or not ct.status & IPS_CONFIRMED or not ct.l4proto.in_use(ct):
            return
        for t in (ct.original, ct.reply):
            older = self.by_tuple.get(t)
            if older is not None:
                self._remove(older)
        expired = ExpiredConnection(ct)
        self.by_tuple[ct.original] = expired
        self.by_tuple[ct.reply] = expired
        self.count += 1
        if self.count > self.limit:
            self._remove(self.by_tuple[next(iter(self.by_tuple))])

    def hit(self, t: bytes, skb: Skb, now: int) -> ExpiredConnection | None:
        """The connection that expired in use and that skb, with tuple t, was sent for; each is returned once."""
        expired = self.by_tuple.get(t)
        if expired is None:
            return None
        self._remove(expired)
        if now - expired.ended > KEPT or expired.l4proto.starts_or_ends(skb):
            return None
        if not expired.l4proto.shows_state and not expired.assured and t == expired.original:
            return None  # a new query; for this protocol it does not matter
        self.expired_in_use += 1
        return expired

    def _remove(self, expired: ExpiredConnection) -> None:
        del self.by_tuple[expired.original]
        if expired.reply != expired.original:
            del self.by_tuple[expired.reply]
        self.count -= 1
