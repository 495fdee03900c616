"""The packet-mark codec: a packet carries its connection and ctinfo in its mark between two visits, as skb->_nfct does.

Within the configured mask, from its lowest bit:

    bit 0..2   ctinfo: 0 ESTABLISHED, 1 RELATED, 2 NEW, 3 ESTABLISHED_REPLY, 4 RELATED_REPLY, 5 INVALID, 7 UNTRACKED
    bit 3      1: the daemon wrote this field
    bit 4      1: done. The packet made its last visit and was accepted; the leak table of the kernel lets it pass.
               The first visit sets it when a second would do nothing: the steering rules do not queue it again.
    bit 5..    slot of the connection in the table plus one; 0: no connection, or the slot does not fit

A mark is never believed alone. The connection in the slot is used only if the packet has the tuple that packets of
this connection have between the two visits (`between`). Otherwise the tuple is looked up again.

A packet with bit 4 is queued again if it leaves by an interface with a source rule. Other marks with this bit are from
an earlier pass through the router, for example before a tunnel: they count as no mark.

Before the first visit, bit 4 without bit 3 means KNOWN: the kernel has seen packets of this connection (kernel/maps).
It only chooses the queue; the first visit overwrites it.

Two tables hold what the mark cannot:
- `by_tuple` finds a connection by the tuple of its packets between the visits. With SNAT and DNAT together this is
  neither of the connection's own tuples. With a mask it holds only connections whose slot does not fit and that the
  table does not find: some unconfirmed ones, both ends translated, ended ones until their slot is released.
- `invalid` counts the INVALID packets between their visits, by header. It is used without a mask, and for the
  router's own packets that OUTPUT did not translate (the kernel routes a packet again when OUTPUT changes its mark).
  An INVALID packet must not be readmitted because its tuple matches a connection.

Without a mark these cannot be told apart: two connections whose packets are equal between the visits (one source
port, two destinations translated to the same one; or equal tuples in two zones); a packet first seen at POSTROUTING
and one seen before; an INVALID packet and a later valid one with the same header.
"""

from collections import OrderedDict
from typing import Final, final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NO_QUOTE, NfConn
from conntrackd_py.conntrack.core import Conntrack, Extension
from conntrackd_py.conntrack.icmp_error import inner_tuple
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

MARK_VALID: Final = 8  # the daemon wrote the field
MARK_CTINFO: Final = 7
MARK_DONE: Final = 16
DONE_EARLY: Final = MARK_DONE | MARK_VALID  # with ctinfo ESTABLISHED, NEW or ESTABLISHED_REPLY
EARLY_MASK: Final = DONE_EARLY | 4
UNTRACKED_EARLY: Final = DONE_EARLY | IP_CT_UNTRACKED  # slot 0
SLOT_AT: Final = 5  # lowest bit of the slot
BY_TUPLE_LIMIT: Final = 16_384  # entries of by_tuple and of invalid; the least recently used is evicted
INVALID_HEADER: Final = 16  # bytes of layer 4 in the key of an INVALID packet

NOT_SEEN: Final = 0  # no earlier visit: the mark holds no field
RESUMED: Final = 1
CONNECTION_GONE: Final = 2  # the packet had a connection at its first visit, which does not exist any more


def done_bit(mask: int) -> int:
    """The bit of a packet after its last visit; 0 if the mask has none."""
    return MARK_DONE * (mask & -mask) & mask


def valid_bit(mask: int) -> int:
    """The bit of every mark that the daemon wrote; 0 without a mask."""
    return MARK_VALID * (mask & -mask)


def not_a_field(mask: int) -> int:
    """The bits to clear in a mark from elsewhere, so that it counts as no mark."""
    return DONE_EARLY * (mask & -mask)


def known_mark(mask: int) -> tuple[int, int]:
    """The mark of a packet that the kernel knows, before its first visit, as (value, mask)."""
    return done_bit(mask), not_a_field(mask)


def established(mask: int) -> list[tuple[int, int]]:
    """The marks of packets of a connection with a reply, after their first visit, as (value, mask)."""
    lowest = mask & -mask
    bits = (MARK_VALID | MARK_CTINFO) * lowest
    return [((MARK_VALID | ctinfo) * lowest, bits) for ctinfo in (IP_CT_ESTABLISHED, IP_CT_ESTABLISHED_REPLY)]


def done_early(mask: int) -> list[tuple[int, int]]:
    """The marks of a packet whose first visit is its last, as (value, mask)."""
    if not done_bit(mask):
        return []
    lowest = mask & -mask
    return [(field * lowest, bits * lowest) for field, bits in ((DONE_EARLY, EARLY_MASK), (UNTRACKED_EARLY, 0x3F))]


@final
class MarkCodec(Extension):
    """mask: contiguous bits of the packet mark that the daemon may write; 0: the mark is not used."""

    def __init__(self, core: Conntrack, mask: int, limit: int = BY_TUPLE_LIMIT) -> None:
        self.core = core
        self.mask = mask
        self.shift = (mask & -mask).bit_length() - 1 if mask else 0
        self.slots = (mask >> self.shift >> SLOT_AT) + 1 if mask else 0
        self.done = done_bit(mask)
        self.limit = limit
        self.by_tuple: OrderedDict[bytes, NfConn] = OrderedDict()  # least recently used first
        self.invalid: OrderedDict[bytes, int] = OrderedDict()  # header -> INVALID packets between their visits
        self.tuples_of: dict[int, list[bytes]] = {}  # keys of by_tuple, by slot
        self.misnamed = 0  # packets whose mark named another connection
        core.extensions.append(self)

    def save(self, skb: Skb, own: bool = False, done: bool = False) -> None:
        """Write connection and ctinfo of skb into its mark; what does not fit goes into the tables.

        own: a packet of the router that OUTPUT did not translate. Its mark stays as it is.
        done: a second visit would do nothing.
        """
        ct = skb.ct
        if own or not self.mask:
            self._save_unmarked(skb, ct)
            return
        field = MARK_VALID | skb.ctinfo | (MARK_DONE if done and self.done else 0)
        if ct is not None:
            slot: int = ct.slot  # not i32, which the shift could overflow
            if slot + 1 < self.slots:
                field |= slot + 1 << SLOT_AT
            else:
                self._save_unfit(skb, ct)
        skb.mark = (skb.mark & ~self.mask & 0xFFFFFFFF) | field << self.shift

    def field(self, slot: int, ctinfo: int) -> int:
        """The masked mark between the visits of a packet whose connection has a slot that fits."""
        return (MARK_VALID | ctinfo | slot + 1 << SLOT_AT) << self.shift

    def slot(self, mark: int) -> int:
        """The slot in a mark; -1 without one."""
        return ((mark & self.mask) >> self.shift >> SLOT_AT) - 1

    def resume(self, skb: Skb, own: bool = False) -> int:
        """Attach a parsed skb to the connection its mark and tuple give: NOT_SEEN, RESUMED or CONNECTION_GONE.

        own: a packet of the router itself.
        """
        field = (skb.mark & self.mask) >> self.shift
        early = not own and field & EARLY_MASK == DONE_EARLY
        if field & MARK_DONE and not early:
            field = 0
        if own:
            return RESUMED if self._marked(skb, field) else self._resume_unmarked(skb)
        if not field & MARK_VALID:
            return NOT_SEEN if self.mask else self._resume_unmarked(skb)
        ctinfo = field & MARK_CTINFO
        if ctinfo > IP_CT_RELATED_REPLY:
            if field >> SLOT_AT or ctinfo not in (IP_CT_UNTRACKED, IP_CT_INVALID):
                return NOT_SEEN  # not a field that save() writes
            skb.ctinfo = ctinfo
            return RESUMED
        t = self._seen_tuple(skb, ctinfo)
        if not t:
            return CONNECTION_GONE
        ct = self.core.table.at((field >> SLOT_AT) - 1)
        if ct is None or not between(ct, direction_of(ctinfo), t):
            named = ct
            ct = self._find(t, direction_of(ctinfo))
            if ct is None:
                return NOT_SEEN if early else CONNECTION_GONE
            self.misnamed += named is not None
        if ctinfo == IP_CT_ESTABLISHED:
            if not ct.status & IPS_SEEN_REPLY:
                return NOT_SEEN  # the mark of another packet: this one may need a binding
        elif ctinfo in (IP_CT_RELATED, IP_CT_RELATED_REPLY) and not self._related(skb, ct):
            return NOT_SEEN
        skb.attach(ct, ctinfo)
        return RESUMED

    def _related(self, skb: Skb, ct: NfConn) -> bool:
        """Whether a packet of another host can be RELATED: it is an error, or its connection was expected."""
        return ct.status & IPS_EXPECTED != 0 or self.core.protos[skb.protonum].quotes(skb) > NO_QUOTE

    def _marked(self, skb: Skb, field: int) -> bool:
        """Attach a packet of the router by its mark, which OUTPUT has set if it translated the packet."""
        ctinfo = field & MARK_CTINFO
        ct = self.core.table.at((field >> SLOT_AT) - 1) if field & MARK_VALID else None
        if ct is None or ctinfo > IP_CT_RELATED_REPLY:
            return False
        t = self._seen_tuple(skb, ctinfo)
        direction = direction_of(ctinfo)
        if not t or t == ct.tuple(direction) or not between(ct, direction, t):
            return False  # the socket set the mark (SO_MARK)
        skb.attach(ct, ctinfo)
        return True

    def _seen_tuple(self, skb: Skb, ctinfo: int) -> bytes:
        """The packet's tuple between the visits; for an ICMP error the inverted tuple of the packet it quotes."""
        l4proto = self.core.protos[skb.protonum]
        if ctinfo in (IP_CT_RELATED, IP_CT_RELATED_REPLY):
            if l4proto.check(skb, False):
                return b""
            at = l4proto.quotes(skb)
            if at > NO_QUOTE:
                return inner_tuple(self.core.protos, skb, at)
        l4 = l4proto.l4(skb)
        return tuples.make(addresses(skb), l4, skb.protonum) if l4 else b""

    def _find(self, t: bytes, direction: int) -> NfConn | None:
        """Look up by tuple, when the slot gave no connection: in by_tuple, in the table, in the table inverted."""
        ct = self.by_tuple.get(t)
        if ct is not None and between(ct, direction, t):
            return ct
        ct = self._in_table(t)
        if ct is not None and between(ct, direction, t):
            return ct
        answer = self.core.protos[tuples.protonum(t)].invert(tuples.l4(t))
        if not answer:
            return None
        ct = self._in_table(tuples.swapped(t, answer))
        return ct if ct is not None and between(ct, direction, t) else None

    def _in_table(self, t: bytes) -> NfConn | None:
        """The confirmed connection with tuple t, or the unconfirmed one with this original tuple."""
        ct = self.core.table.find(t)
        if ct is not None:
            return ct
        ct = self.core.table.pending.get(t)
        return ct if ct is not None and ct.original == t else None

    def _save_unfit(self, skb: Skb, ct: NfConn) -> None:
        """Make sure that `resume` finds ct, whose slot does not fit."""
        t = self._seen_tuple(skb, skb.ctinfo)
        if t and self._find(t, direction_of(skb.ctinfo)) is not ct:
            self._save_tuple(t, ct)

    # --- without a mark ------------------------------------------------------------------------------

    def _save_unmarked(self, skb: Skb, ct: NfConn | None) -> None:
        """Leave the mark alone: keep the connection by tuple, or count the INVALID packet."""
        if skb.ctinfo == IP_CT_UNTRACKED or OK < skb.reason <= IP_FRAGMENT:
            return  # the next visit will come to the same result from the packet alone
        header = self._header(skb)
        if ct is not None:
            self.invalid.pop(header, None)  # the counted packets were dropped on the way
            self._save_tuple(self._seen_tuple(skb, skb.ctinfo), ct)
            return
        self.invalid[header] = self.invalid.get(header, 0) + 1
        self.invalid.move_to_end(header)
        if len(self.invalid) > self.limit:
            self.invalid.popitem(last=False)

    def _resume_unmarked(self, skb: Skb) -> int:
        """Attach skb by its tuple, without a mark."""
        if self.invalid and self._was_invalid(self._header(skb)):
            return RESUMED
        l4proto = self.core.protos[skb.protonum]
        error = l4proto.check(skb, False) == OK and l4proto.quotes(skb) > NO_QUOTE
        t = self._seen_tuple(skb, IP_CT_RELATED if error else IP_CT_NEW)
        ct = self.by_tuple.get(t)
        if ct is None:
            return NOT_SEEN
        direction = ORIGINAL if between(ct, ORIGINAL, t) else REPLY
        if not between(ct, direction, t):
            return NOT_SEEN
        skb.attach(ct, _ctinfo(ct, direction, error))
        return RESUMED

    def _was_invalid(self, header: bytes) -> bool:
        """Whether an INVALID packet with this header is between its visits; counts it out."""
        count = self.invalid.pop(header, 0)
        if count > 1:
            self.invalid[header] = count - 1
        return count > 0

    def _header(self, skb: Skb) -> bytes:
        """The key of an INVALID packet: addresses, protocol and the first bytes of layer 4. Nothing translates it."""
        at = skb.dataoff
        return tuples.make(addresses(skb), skb.data[at : min(at + INVALID_HEADER, skb.end)], skb.protonum)

    def _save_tuple(self, t: bytes, ct: NfConn) -> None:
        """Packets with tuple t belong to ct; t becomes the most recently used."""
        if not t:
            return
        known = self.by_tuple.get(t)
        self.by_tuple[t] = ct
        self.by_tuple.move_to_end(t)
        if known is ct:
            return
        if known is not None:
            self._forget(t, known)
        self.tuples_of.setdefault(ct.slot, []).append(t)
        if len(self.by_tuple) > self.limit:
            oldest, owner = self.by_tuple.popitem(last=False)
            self._forget(oldest, owner)

    def _forget(self, t: bytes, owner: NfConn) -> None:
        """t is no longer a tuple of its owner; an empty list is not kept, so `limit` bounds `tuples_of` too."""
        known = self.tuples_of[owner.slot]
        known.remove(t)
        if not known:
            del self.tuples_of[owner.slot]

    def destroyed(self, ct: NfConn) -> None:
        """Packets of ct may still be between their visits, and the table does not find it any more."""
        if self.mask and ct.slot + 1 >= self.slots:
            for mine, other in ((ct.original, ct.reply), (ct.reply, ct.original)):
                self._save_tuple(tuples.routed(mine, other), ct)

    def released(self, ct: NfConn) -> None:
        for t in self.tuples_of.pop(ct.slot, ()):
            del self.by_tuple[t]


def _ctinfo(ct: NfConn, direction: int, error: bool) -> int:
    """The ctinfo that conntrack_in gave the packet."""
    if error:
        return IP_CT_RELATED if direction == ORIGINAL else IP_CT_RELATED_REPLY
    if direction == REPLY:  # before confirmation a reply can only be the RST of a REJECT rule
        return IP_CT_ESTABLISHED_REPLY if ct.status & (IPS_CONFIRMED | IPS_DYING) else IP_CT_RELATED_REPLY
    if ct.status & IPS_SEEN_REPLY:
        return IP_CT_ESTABLISHED
    return IP_CT_RELATED if ct.status & IPS_EXPECTED else IP_CT_NEW


def between(ct: NfConn, direction: int, t: bytes) -> bool:
    """Whether t is the tuple of ct's packets after PREROUTING and before POSTROUTING.

    The destination is translated, the source not yet: the source of this direction's tuple and the source of the
    other's. An ICMP id may be translated already, and so may an early source.
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
