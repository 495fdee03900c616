"""Packets of which the daemon sees only the headers: which of them it can judge, and need not change.

A large packet (mostly a super-packet) is queued by its first bytes. The daemon can accept, mark or drop it, not rewrite
it. It goes to the queue for whole packets, before anything is decided, unless

- its headers are there, and its checksum needs no check: it is partial, or the kernel has checked it;
- it belongs to an established TCP or UDP connection, and is no SYN;
- it has no helper, which reads the payload;
- none of its bytes change, or the kernel rewrites it by its mark (mark_maps).
"""

from typing import final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.core import Conntrack
from conntrackd_py.conntrack.skb import Skb, direction_of, forwarded
from conntrackd_py.const import (
    IP_CT_ESTABLISHED,
    IP_CT_ESTABLISHED_REPLY,
    IPPROTO_TCP,
    IPS_CONFIRMED,
    IPS_HELPER,
    IPS_NAT_MASK,
    IPS_SEEN_REPLY,
    MANIP_SRC,
    POST_ROUTING,
    PRE_ROUTING,
)
from conntrackd_py.engine.mark_codec import MarkCodec, between
from conntrackd_py.engine.mark_maps import MarkMaps, rewritable
from conntrackd_py.nat.binding import status_bit
from conntrackd_py.wire import ip, tcp

FLAGS_AT = 13  # of TCP


@final
class HeaderOnly:
    def __init__(self, core: Conntrack, codec: MarkCodec, maps: MarkMaps) -> None:
        self.core = core
        self.codec = codec
        self.maps = maps
        self.requeued = 0  # packets that went to the queue for whole packets

    def judgeable(self, skb: Skb, hook: int, now: int) -> bool:
        """Whether the visit of this packet, of which skb.data may be the beginning, changes none of its bytes."""
        if ip.parse(skb) or not rewritable(skb):
            return False
        if self.core.checksum and not (skb.checksum_partial or skb.checksum_verified):
            return False
        if skb.protonum == IPPROTO_TCP and skb.data[skb.dataoff + FLAGS_AT] & (tcp.SYN | tcp.ACK) != tcp.ACK:
            return False
        l4proto = self.core.protos[skb.protonum]
        if l4proto.check(skb, False):
            return False
        t = tuples.make(ip.addresses(skb), l4proto.l4(skb), skb.protonum)
        if hook == PRE_ROUTING:
            ct = self.core.table.find(t)
            return ct is not None and ct.timeout > now and self._unchanged(ct, now)
        return hook == POST_ROUTING and forwarded(skb) and self._unchanged_last(skb, t, now)

    def _unchanged_last(self, skb: Skb, t: bytes, now: int) -> bool:
        """The mark must be the one that the first visit wrote."""
        done = skb.mark & self.codec.done
        for ctinfo in (IP_CT_ESTABLISHED, IP_CT_ESTABLISHED_REPLY):
            ct = self.core.table.at(self.codec.slot(skb.mark))
            if ct is not None and skb.mark & self.codec.mask & ~done == self.codec.field(ct.slot, ctinfo):
                direction = direction_of(ctinfo)
                if done and ct.status & status_bit(MANIP_SRC, direction):
                    return False  # the mark of an earlier pass through the router
                return between(ct, direction, t) and self._unchanged(ct, now)
        return False

    def _unchanged(self, ct: NfConn, now: int) -> bool:
        if not ct.status & IPS_SEEN_REPLY or not ct.status & IPS_CONFIRMED or ct.source_early or ct.status & IPS_HELPER:
            return False
        return not ct.status & IPS_NAT_MASK or self.maps.put(ct, now)
