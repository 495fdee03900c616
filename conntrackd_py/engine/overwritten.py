"""Packets whose mark another rule overwrote between the two visits.

Nothing here runs for a packet with a good mark. Without the daemon's bits, a packet of a steered interface must have
made its first visit if its tuple is one that packets of a known connection have between the visits. A sender cannot
cause this: no field of a packet sets its mark.

The mark said whether the packet was INVALID. So the tracker judges the packet again: it is counted twice, but an
INVALID packet is not readmitted because its tuple matches a connection.
"""

from typing import final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NO_QUOTE, REPEAT, NfConn
from conntrackd_py.conntrack.core import Conntrack
from conntrackd_py.conntrack.lookup import judge
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import IPS_CONFIRMED, ORIGINAL, REPLY
from conntrackd_py.engine.mark_codec import CONNECTION_GONE, NOT_SEEN, RESUMED, MarkCodec, between
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.reasons import OK
from conntrackd_py.wire.ip import addresses


@final
class Overwritten:
    """unqueued: interfaces whose packets may lack the first visit."""

    def __init__(self, core: Conntrack, codec: MarkCodec) -> None:
        self.core = core
        self.codec = codec
        self.count = 0  # packets that the codec could not attach
        self.unqueued = InterfaceNames([])

    @property
    def total(self) -> int:
        """All packets whose mark another rule overwrote, as far as known."""
        return self.count + self.codec.misnamed

    def resume(self, skb: Skb, resumed: int, indev: str, now: int) -> int:
        """For a parsed packet that the codec could not attach (resumed): attach it by its tuple, if that is certain.

        indev: the name of the incoming interface.
        """
        if not self.codec.mask or not indev or (resumed == NOT_SEEN and self.unqueued.has(indev)):
            return resumed
        l4proto = self.core.protos[skb.protonum]
        if l4proto.check(skb, False) != OK:
            return resumed
        if l4proto.quotes(skb) > NO_QUOTE:
            return NOT_SEEN  # an error whose mark is of another packet: it is related again
        l4 = l4proto.l4(skb)
        t = tuples.make(addresses(skb), l4, skb.protonum) if l4 else b""
        ct = self._find(t, now)
        if ct is None:
            return resumed
        self.count += 1
        direction = ORIGINAL if between(ct, ORIGINAL, t) else REPLY
        if judge(self.core, skb, ct, direction, now, False) == REPEAT:
            return CONNECTION_GONE
        return RESUMED

    def _find(self, t: bytes, now: int) -> NfConn | None:
        """The living connection whose packets have tuple t after their first visit."""
        answer = self.core.protos[tuples.protonum(t)].invert(tuples.l4(t)) if t else b""
        if not answer:
            return None
        table = self.core.table
        back = tuples.swapped(t, answer)
        for key in (t, back):
            for known in (table.hash, table.pending, table.routed):
                ct = known.get(key)
                if ct is not None and _translated(ct, t) and not _expired(ct, now):
                    return ct
        return None


def _translated(ct: NfConn, t: bytes) -> bool:
    """Whether t is the tuple of packets of ct after the first visit: the destination is translated already."""
    if between(ct, ORIGINAL, t):
        return tuples.dst(t) == tuples.src(ct.reply)
    return between(ct, REPLY, t) and tuples.dst(t) == tuples.src(ct.original)


def _expired(ct: NfConn, now: int) -> bool:
    return ct.status & IPS_CONFIRMED != 0 and ct.timeout <= now
