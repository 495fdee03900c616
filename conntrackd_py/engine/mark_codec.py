"""Carry: the connection of a packet between its two visits, in the packet mark (the twin of skb->_nfct).

Within the configured mask, from its lowest bit:

    bit 0..2   ctinfo: 0 ESTABLISHED, 1 RELATED, 2 NEW, 3 ESTABLISHED_REPLY, 4 RELATED_REPLY, 5 INVALID, 7 UNTRACKED
    bit 3      1: these bits are ours
    bit 4..    slot of the connection in the table plus one; 0 when it has none or does not fit

A mark is a hint, never a proof: the connection in the slot is believed only if the packet looks as this
connection's packets look between the two visits (`between`). Otherwise the tuple is looked up again.

What the mark cannot hold is kept here instead: `under_way` finds a connection by the tuple its packets have
between the visits, which with both NATs is neither of its own. Without any mask, and for the router's own packets
that OUTPUT did not translate (the kernel routes them anew when their mark changes), `refused` counts the INVALID
packets between their visits by header: an INVALID packet must not be readmitted because its tuple matches a connection.
Limits of that: connections whose packets look the same between the visits (two destinations translated into one,
from one source port) need a mark to be told apart, and so do equal ones of two zones, a packet first seen at
POSTROUTING from one seen before, and INVALID packets from a good one that has the same header and comes after them.
"""

from collections import OrderedDict
from typing import Final, final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NO_QUOTE, NfConn
from conntrackd_py.conntrack.core import Conntrack, Extension
from conntrackd_py.conntrack.icmp_error import inner_tuple
from conntrackd_py.conntrack.lookup import lookup
from conntrackd_py.conntrack.skb import Skb, direction_of
from conntrackd_py.const import (
    IP_CT_ESTABLISHED,
    IP_CT_ESTABLISHED_REPLY,
    IP_CT_INVALID,
    IP_CT_NEW,
    IP_CT_RELATED,
    IP_CT_RELATED_REPLY,
    IP_CT_UNTRACKED,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPS_CONFIRMED,
    IPS_DYING,
    IPS_EXPECTED,
    IPS_SEEN_REPLY,
    ORIGINAL,
    REPLY,
)
from conntrackd_py.reasons import IP_FRAGMENT, OK
from conntrackd_py.wire.ip import addresses

MARK_VALID: Final = 8
MARK_CTINFO: Final = 7
LEAST_BITS: Final = 8  # a mask narrower than this cannot hold a slot worth having
UNDER_WAY_LIMIT: Final = 65536  # tuples remembered beside the mark; the least recently used goes first
HEADER_SHOWN: Final = 16  # bytes of layer 4 by which an INVALID packet is known again

NOT_SEEN: Final = 0  # the mark says nothing: the packet was not seen before
RESUMED: Final = 1
CONNECTION_GONE: Final = 2  # it had a connection, which cannot be found any more


@final
class MarkCodec(Extension):
    """mask: contiguous bits of the packet mark that are ours; 0: nothing is carried."""

    def __init__(self, core: Conntrack, mask: int, limit: int = UNDER_WAY_LIMIT) -> None:
        self.core = core
        self.mask = mask
        self.shift = (mask & -mask).bit_length() - 1 if mask else 0
        self.slots = (mask >> self.shift >> 4) + 1 if mask else 0
        self.limit = limit
        self.under_way: OrderedDict[bytes, NfConn] = OrderedDict()  # least recently used first
        self.refused: OrderedDict[bytes, int] = OrderedDict()  # header -> INVALID packets between their visits
        self.tuples_of: dict[int, list[bytes]] = {}  # keys of under_way, by slot
        core.extensions.append(self)

    def save(self, skb: Skb, own: bool = False) -> None:
        """Write what skb is attached to into its mark, and remember what does not fit.

        own: one of the router's own that OUTPUT did not change. Its mark stays: the kernel would route it anew.
        """
        ct = skb.ct
        if own or not self.mask:
            self._remember_all(skb, ct)
            return
        field = MARK_VALID | skb.ctinfo
        if ct is not None:
            if ct.slot + 1 < self.slots:
                field |= ct.slot + 1 << 4
            else:
                self._remember(self._seen_tuple(skb, skb.ctinfo), ct)
        skb.mark = (skb.mark & ~self.mask & 0xFFFFFFFF) | field << self.shift

    def resume(self, skb: Skb, now: int, own: bool = False) -> int:
        """Attach skb, parsed, to what its mark and its tuple say; UNKNOWN, RESUMED or LOST.

        own: one of the router's own.
        """
        field = (skb.mark & self.mask) >> self.shift
        if own:
            return RESUMED if self._marked(skb, field) else self._recall(skb)
        if not field & MARK_VALID:
            return NOT_SEEN if self.mask else self._recall(skb)
        ctinfo = field & MARK_CTINFO
        if ctinfo in (IP_CT_UNTRACKED, IP_CT_INVALID):
            skb.ctinfo = ctinfo
            return RESUMED
        t = self._seen_tuple(skb, ctinfo)
        if not t:
            return CONNECTION_GONE
        ct = self.core.table.at((field >> 4) - 1)
        if ct is None or not between(ct, direction_of(ctinfo), t):
            ct = self._find(t, direction_of(ctinfo), now)
            if ct is None:
                return CONNECTION_GONE
        skb.attach(ct, ctinfo)
        return RESUMED

    def _marked(self, skb: Skb, field: int) -> bool:
        """Attach one of the router's own by its mark, which is ours if OUTPUT translated the packet."""
        ctinfo = field & MARK_CTINFO
        ct = self.core.table.at((field >> 4) - 1) if field & MARK_VALID else None
        if ct is None or ctinfo > IP_CT_RELATED_REPLY:
            return False
        t = self._seen_tuple(skb, ctinfo)
        direction = direction_of(ctinfo)
        if not t or t == ct.tuple(direction) or not between(ct, direction, t):
            return False  # the mark is its socket's
        skb.attach(ct, ctinfo)
        return True

    def _seen_tuple(self, skb: Skb, ctinfo: int) -> bytes:
        """The packet's tuple as it is now; for an ICMP error the one its quoted packet answers to."""
        l4proto = self.core.protos[skb.protonum]
        if ctinfo in (IP_CT_RELATED, IP_CT_RELATED_REPLY):
            if l4proto.check(skb, False):
                return b""
            at = l4proto.quotes(skb)
            if at > NO_QUOTE:
                return inner_tuple(self.core.protos, skb, at)
        l4 = l4proto.l4(skb)
        return tuples.make(addresses(skb), l4, skb.protonum) if l4 else b""

    def _find(self, t: bytes, direction: int, now: int) -> NfConn | None:
        """By tuple, when the slot did not help: under way, as it came, or as the answer to the other direction."""
        ct = self.under_way.get(t)
        if ct is not None and between(ct, direction, t):
            return ct
        ct = lookup(self.core, t, now)
        if ct is not None and between(ct, direction, t):
            return ct
        answer = self.core.protos[tuples.protonum(t)].invert(tuples.l4(t))
        if not answer:
            return None
        ct = lookup(self.core, tuples.swapped(t, answer), now)
        return ct if ct is not None and between(ct, direction, t) else None

    # --- without a mark ------------------------------------------------------------------------------

    def _remember_all(self, skb: Skb, ct: NfConn | None) -> None:
        """The mark stays as it is: remember who has a connection, and who was refused one."""
        if skb.ctinfo == IP_CT_UNTRACKED or OK < skb.reason <= IP_FRAGMENT:
            return  # told by its looks alone: the next visit will see the same
        header = self._header(skb)
        if ct is not None:
            self.refused.pop(header, None)  # INVALID ones that look the same were lost on the way
            self._remember(self._seen_tuple(skb, skb.ctinfo), ct)
            return
        self.refused[header] = self.refused.get(header, 0) + 1
        self.refused.move_to_end(header)
        if len(self.refused) > self.limit:
            self.refused.popitem(last=False)

    def _recall(self, skb: Skb) -> int:
        """Attach skb by its looks alone."""
        if self.refused and self._was_refused(self._header(skb)):
            return RESUMED
        l4proto = self.core.protos[skb.protonum]
        error = l4proto.check(skb, False) == OK and l4proto.quotes(skb) > NO_QUOTE
        t = self._seen_tuple(skb, IP_CT_RELATED if error else IP_CT_NEW)
        ct = self.under_way.get(t)
        if ct is None:
            return NOT_SEEN
        direction = ORIGINAL if between(ct, ORIGINAL, t) else REPLY
        if not between(ct, direction, t):
            return NOT_SEEN
        skb.attach(ct, _ctinfo(ct, direction, error))
        return RESUMED

    def _was_refused(self, header: bytes) -> bool:
        """Whether an INVALID packet with this header is between its visits. It is not from now on."""
        count = self.refused.pop(header, 0)
        if count > 1:
            self.refused[header] = count - 1
        return count > 0

    def _header(self, skb: Skb) -> bytes:
        """By what an INVALID packet is known again: nothing translates it, and its tuple is not its alone."""
        at = skb.dataoff
        return tuples.make(addresses(skb), skb.data[at : min(at + HEADER_SHOWN, skb.end)], skb.protonum)

    def _remember(self, t: bytes, ct: NfConn) -> None:
        """Packets that look like t are ct's; of the tuples remembered t is now the most recent."""
        if not t:
            return
        known = self.under_way.get(t)
        self.under_way[t] = ct
        self.under_way.move_to_end(t)
        if known is ct:
            return
        if known is not None:
            self.tuples_of[known.slot].remove(t)
        self.tuples_of.setdefault(ct.slot, []).append(t)
        if len(self.under_way) > self.limit:
            oldest, owner = self.under_way.popitem(last=False)
            self.tuples_of[owner.slot].remove(oldest)

    def destroyed(self, ct: NfConn) -> None:
        """Its last packets may still be under way."""

    def released(self, ct: NfConn) -> None:
        for t in self.tuples_of.pop(ct.slot, ()):
            del self.under_way[t]


def _ctinfo(ct: NfConn, direction: int, error: bool) -> int:
    """What conntrack_in says of such a packet."""
    if error:
        return IP_CT_RELATED if direction == ORIGINAL else IP_CT_RELATED_REPLY
    if direction == REPLY:  # only a reset by a REJECT rule answers before the first packet has left
        return IP_CT_ESTABLISHED_REPLY if ct.status & (IPS_CONFIRMED | IPS_DYING) else IP_CT_RELATED_REPLY
    if ct.status & IPS_SEEN_REPLY:
        return IP_CT_ESTABLISHED
    return IP_CT_RELATED if ct.status & IPS_EXPECTED else IP_CT_NEW


def between(ct: NfConn, direction: int, t: bytes) -> bool:
    """Whether t is what ct's packets look like after PREROUTING and before POSTROUTING.

    The destination is translated already, the source not yet: source of this direction's tuple,
    destination the source of the other's. An ICMP id may already be translated, and so may an early source.
    """
    mine = ct.tuple(direction)
    if t == mine:
        return True
    other = ct.tuple(1 - direction)
    path = tuples.routed(mine, other)
    if t == path:
        return True
    if ct.l4proto.ports:
        early = ct.source_early and direction == ORIGINAL
        return early and t == tuples.with_src(path, tuples.src(path), tuples.l4dst(other))
    if tuples.protonum(path) in (IPPROTO_ICMP, IPPROTO_ICMPV6):
        return t == tuples.with_src(path, tuples.src(path), tuples.l4src(other))
    return path == tuples.with_dst(t, tuples.dst(t), tuples.l4(path))
