"""Diagnostics: records why packets were refused, which connections expired in use, and which flows are one-sided.

The engine calls `record` after a visit, for packets with a reason and for NEW ones. Nothing here decides: no packet
and no connection is changed.
"""

from typing import Final, final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.core import Conntrack
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import IP_CT_NEW, LOCAL_OUT, NF_ACCEPT, PRE_ROUTING
from conntrackd_py.explain.expired import ExpiredConnections
from conntrackd_py.explain.one_sided import OneSided
from conntrackd_py.explain.refusals import RecentRefusals, Refusal
from conntrackd_py.explain.unhelped import Unhelped
from conntrackd_py.reasons import (
    COPY_TRUNCATED,
    IP_FRAGMENT,
    L4_CHECKSUM,
    L4_TRUNCATED,
    SCTP_NOT_NEW,
    TCP_NOT_SYN,
    TCP_STATE,
)
from conntrackd_py.wire.ip import addresses

ONE_EACH: Final = 1000  # ms


@final
class Diagnostics:
    def __init__(self, core: Conntrack) -> None:
        self.core = core
        self.recent = RecentRefusals()
        self.expired_connections = ExpiredConnections()
        self.one_sided = OneSided()
        self.unhelped = Unhelped()
        self.overwritten_at = -ONE_EACH  # ms: of the last recorded packet with an overwritten mark
        core.extensions.append(self.expired_connections)
        core.extensions.append(self.one_sided)

    def record(self, skb: Skb, hook: int, verdict: int, now: int) -> None:
        """Record a packet after its visit: one with a reason, or a NEW one."""
        if skb.reason:
            self._refused(skb, hook, verdict, now)
        elif skb.ctinfo == IP_CT_NEW and skb.ct is not None:
            self._new(skb, skb.ct, hook, verdict, now)

    def _new(self, skb: Skb, ct: NfConn, hook: int, verdict: int, now: int) -> None:
        if self.expired_connections.count:
            expired = self.expired_connections.hit(ct.original, skb, now)
            if expired is not None:
                self.recent.add(Refusal(skb, hook, verdict, ct, expired, now))
        if hook in (PRE_ROUTING, LOCAL_OUT):
            lacks = self.unhelped.hit(ct)
            if lacks:
                note = Refusal(skb, hook, verdict, ct, None, now)
                note.lacks = lacks
                self.recent.add(note)

    def overwritten(self, skb: Skb, hook: int, now: int) -> None:
        """Record a packet whose mark another rule overwrote, one a second: there may be one for every packet."""
        if now - self.overwritten_at >= ONE_EACH:
            self.overwritten_at = now
            note = Refusal(skb, hook, NF_ACCEPT, skb.ct, None, now)
            note.overwritten = True
            self.recent.add(note)

    def _refused(self, skb: Skb, hook: int, verdict: int, now: int) -> None:
        reason = skb.cause or skb.reason
        t = self._tuple(skb)
        ct = skb.ct or self._connection(skb, t)
        expired = None
        if reason in (TCP_STATE, TCP_NOT_SYN, SCTP_NOT_NEW):
            expired = self.expired_connections.hit(tuples.with_zone(t, skb.zone_original), skb, now)
        if reason == TCP_STATE and expired is None:
            self.one_sided.refused(t, skb.numbers, ct, now)
        self.recent.add(Refusal(skb, hook, verdict, ct, expired, now))

    def _tuple(self, skb: Skb) -> bytes:
        """The tuple of skb; empty when its headers cannot be read."""
        reason = skb.cause or skb.reason
        if reason <= IP_FRAGMENT or reason in (L4_TRUNCATED, L4_CHECKSUM, COPY_TRUNCATED):
            return b""
        l4 = self.core.protos[skb.protonum].l4(skb)
        return tuples.make(addresses(skb), l4, skb.protonum) if l4 else b""

    def _connection(self, skb: Skb, t: bytes) -> NfConn | None:
        if not t:
            return None
        ct = self.core.table.find(tuples.with_zone(t, skb.zone_original))
        return ct or self.core.table.find(tuples.with_zone(t, skb.zone_reply))
