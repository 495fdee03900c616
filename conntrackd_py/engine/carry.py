"""Carry: the connection of a packet between its two visits, in the packet mark (the twin of skb->_nfct).

Within the configured mask, from its lowest bit:

    bit 0..2   ctinfo: 0 ESTABLISHED, 1 RELATED, 2 NEW, 3 ESTABLISHED_REPLY, 4 RELATED_REPLY, 5 INVALID, 7 UNTRACKED
    bit 3      1: these bits are ours
    bit 4..    slot of the connection in the table plus one; 0 when it has none or does not fit

A mark is a hint, never a proof: the connection in the slot is believed only if the packet looks as this
connection's packets look between the two visits (`between`). Otherwise the tuple is looked up again.
"""

from typing import Final, final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.core import Conntrack
from conntrackd_py.conntrack.icmp_error import INNER_TRACKED, inner_tuple
from conntrackd_py.conntrack.skb import Skb, direction_of
from conntrackd_py.const import INVALID, IPPROTO_ICMP, IPPROTO_ICMPV6, RELATED, RELATED_REPLY, UNTRACKED
from conntrackd_py.wire.ip import addresses

OURS: Final = 8
CTINFO: Final = 7
LEAST_BITS: Final = 8  # a mask narrower than this cannot hold a slot worth having

UNKNOWN: Final = 0  # the mark says nothing: the packet was not seen before
RESUMED: Final = 1
LOST: Final = 2  # it had a connection, which cannot be found any more


@final
class Carry:
    """mask: contiguous bits of the packet mark that are ours; 0: nothing is carried."""

    def __init__(self, core: Conntrack, mask: int) -> None:
        self.core = core
        self.mask = mask
        self.shift = (mask & -mask).bit_length() - 1 if mask else 0
        self.slots = (mask >> self.shift >> 4) + 1 if mask else 0

    def save(self, skb: Skb) -> None:
        """Write what skb is attached to into its mark."""
        if not self.mask:
            return
        field = OURS | skb.ctinfo
        ct = skb.ct
        if ct is not None and ct.slot + 1 < self.slots:
            field |= ct.slot + 1 << 4
        skb.mark = (skb.mark & ~self.mask & 0xFFFFFFFF) | field << self.shift

    def resume(self, skb: Skb, now: int) -> int:
        """Attach skb, parsed, to what its mark and its tuple say; UNKNOWN, RESUMED or LOST."""
        field = (skb.mark & self.mask) >> self.shift
        if not field & OURS:
            return UNKNOWN
        ctinfo = field & CTINFO
        if ctinfo in (UNTRACKED, INVALID):
            skb.ctinfo = ctinfo
            return RESUMED
        t = self._seen_tuple(skb, ctinfo)
        if not t:
            return LOST
        ct = self.core.table.at((field >> 4) - 1)
        if ct is None or not between(ct, direction_of(ctinfo), t):
            ct = self._find(t, direction_of(ctinfo), now)
            if ct is None:
                return LOST
        skb.attach(ct, ctinfo)
        return RESUMED

    def _seen_tuple(self, skb: Skb, ctinfo: int) -> bytes:
        """The packet's tuple as it is now; for an ICMP error the one its quoted packet answers to."""
        l4proto = self.core.protos[skb.protonum]
        if ctinfo in (RELATED, RELATED_REPLY):
            if l4proto.check(skb, False):
                return b""
            at = l4proto.quotes(skb)
            if at > INNER_TRACKED:
                return inner_tuple(self.core.protos, skb, at)
        l4 = l4proto.l4(skb)
        return tuples.make(addresses(skb), l4, skb.protonum) if l4 else b""

    def _find(self, t: bytes, direction: int, now: int) -> NfConn | None:
        """By tuple, when the slot did not help: as it came, or as the answer to the other direction."""
        ct = self.core.lookup(t, now)
        if ct is not None and between(ct, direction, t):
            return ct
        answer = self.core.protos[tuples.protonum(t)].invert(tuples.l4(t))
        if not answer:
            return None
        ct = self.core.lookup(tuples.swapped(t, answer), now)
        return ct if ct is not None and between(ct, direction, t) else None


def between(ct: NfConn, direction: int, t: bytes) -> bool:
    """Whether t is what ct's packets look like after PREROUTING and before POSTROUTING.

    The destination is translated already, the source not yet: source of this direction's tuple,
    destination the source of the other's. An ICMP id may already be translated.
    """
    mine = ct.tuple(direction)
    if t == mine:
        return True
    if len(t) != len(mine) or t[len(t) - 1] != mine[len(t) - 1]:
        return False
    other = ct.tuple(1 - direction)
    n = tuples.address_length(t)
    if t[:n] != mine[:n] or t[n : 2 * n] != other[:n]:
        return False
    if ct.l4proto.ports:
        return t[2 * n : 2 * n + 2] == mine[2 * n : 2 * n + 2] and t[2 * n + 2 : 2 * n + 4] == other[2 * n : 2 * n + 2]
    protonum = t[len(t) - 1]
    if protonum in (IPPROTO_ICMP, IPPROTO_ICMPV6):
        ident = t[2 * n : 2 * n + 2]
        return ident == mine[2 * n : 2 * n + 2] or ident == other[2 * n : 2 * n + 2]
    return True
