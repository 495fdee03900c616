"""TCP window tracking: whether a segment fits what its sender sent before and what the receiver allowed.

"Real Stateful TCP Packet Filtering in IP Filter", Guido van Rooij, 2000. Per direction: the highest sequence end sent
(`end`), the highest right edge the peer allows (`maxend`), the largest window announced (`maxwin`), the highest
acknowledgement sent (`maxack`). A segment must

    I    begin inside the receiver's window                 seq  <  sender.maxend + 1
    II   have bytes that were not acknowledged long ago     end  >  sender.end - receiver.maxwin - 1
    III  acknowledge only what was sent                     sack <  receiver.end + 1
    IV   acknowledge nothing too old                        sack >  receiver.end - MAXACKWINDOW - 1

Sequence arithmetic is modulo 2**32 and compares as signed distance. Source: tcp_in_window.
"""

from struct import Struct
from typing import Final, final

from mypy_extensions import i16, i32, i64, mypyc_attr, u8

from conntrackd_py.conntrack.conn import ProtoInfo
from conntrackd_py.const import ORIGINAL, REPLY
from conntrackd_py.proto.tcp_states import KIND_ACK, KIND_NONE, TCP_CONNTRACK_SYN_RECV, TCP_CONNTRACK_SYN_SENT, kind_of
from conntrackd_py.reasons import OK, TCP_ACK_OVER, TCP_ACK_UNDER, TCP_MORE_THAN_WINDOW, TCP_SEQ_OVER, TCP_SEQ_UNDER
from conntrackd_py.wire import tcp
from conntrackd_py.wire.packet import Packet, u16, u32

M32: Final = 0xFFFFFFFF
MAXACKWINCONST: Final = 66000  # MAXACKWINDOW is this, or the sender's window if larger

# flags of one side (IP_CT_TCP_FLAG_*)
WINDOW_SCALE: Final = 0x01
SACK_PERM: Final = 0x02
CLOSE_INIT: Final = 0x04
BE_LIBERAL: Final = 0x08
UNACKNOWLEDGED: Final = 0x10
MAXACK_SET: Final = 0x20
KEPT_FLAGS: Final = WINDOW_SCALE | SACK_PERM | CLOSE_INIT  # the windows do not matter for these
# flags of the last ignored packet and of the connection
CHALLENGE_EXPECTED: Final = 0x40
SIMULTANEOUS_OPEN: Final = 0x80

# enum nf_ct_tcp_action
NFCT_TCP_ACCEPT: Final = 0
NFCT_TCP_IGNORE: Final = 1
NFCT_TCP_INVALID: Final = 2


def before(a: i64, b: i64) -> bool:
    """Whether sequence number a precedes b."""
    return (a - b) & 0x80000000 != 0 and (a - b) & M32 != 0


def after(a: i64, b: i64) -> bool:
    return before(b, a)


# Of a TcpInfo: both sides, then seq, ack, end, last_win, last_flags, last_kind, last_direction, last_scale, retrans.
PACKED: Final = Struct("<IIIIBBIIIIBBIIIiHBBBH")
MOST_RETRANS: Final = 0xFFFF  # in a record; max_retrans is far below

# A Side as TcpInfo keeps it: end, maxend, maxwin, maxack, scale, flags. Compiled, i32 keeps the lower 32 bits of an i64
# and `& M32` makes them unsigned again.
SavedSide = tuple[i32, i32, i32, i32, u8, u8]


@final
@mypyc_attr(acyclic=True)
class Side:
    """What one end has sent and may send (ip_ct_tcp_state), loaded from a TcpInfo."""

    def __init__(self) -> None:
        self.end: i64 = 0
        self.maxend: i64 = 0
        self.maxwin: i64 = 0
        self.maxack: i64 = 0
        self.scale: i64 = 0
        self.flags: i64 = 0

    def reset(self) -> None:
        """Reset everything except BE_LIBERAL."""
        self.end = self.maxend = self.maxwin = self.maxack = self.scale = 0
        self.flags &= BE_LIBERAL

    def load(self, saved: SavedSide) -> None:
        self.end = i64(saved[0]) & M32
        self.maxend = i64(saved[1]) & M32
        self.maxwin = i64(saved[2]) & M32
        self.maxack = i64(saved[3]) & M32
        self.scale = i64(saved[4])
        self.flags = i64(saved[5])

    def saved(self) -> SavedSide:
        return i32(self.end), i32(self.maxend), i32(self.maxwin), i32(self.maxack), u8(self.scale), u8(self.flags)


@final
@mypyc_attr(acyclic=True)
class TcpInfo(ProtoInfo):
    """Both sides, and the previous packet (ip_ct_tcp). It is small: loading and saving a Side costs 10 ns."""

    def __init__(self) -> None:
        self.original: SavedSide = (0, 0, 0, 0, 0, 0)
        self.reply: SavedSide = (0, 0, 0, 0, 0, 0)
        self.seq: i32 = 0  # 32 bits of last_seq, last_ack and last_end
        self.ack: i32 = 0
        self.end: i32 = 0
        self.last_win: i32 = 0
        self.last_flags: i16 = 0
        self.last_kind: u8 = KIND_NONE
        self.last_direction: u8 = ORIGINAL
        self.last_scale: u8 = 0
        self.retrans: i64 = 0

    @property
    def last_seq(self) -> i64:
        return i64(self.seq) & M32

    @property
    def last_ack(self) -> i64:
        return i64(self.ack) & M32

    @property
    def last_end(self) -> i64:
        return i64(self.end) & M32

    def load(self, direction: int, sender: Side, receiver: Side) -> None:
        """Copy both sides into sender and receiver of a packet in this direction."""
        sender.load(self.original if direction == ORIGINAL else self.reply)
        receiver.load(self.reply if direction == ORIGINAL else self.original)

    def save(self, direction: int, sender: Side, receiver: Side) -> None:
        self.original = sender.saved() if direction == ORIGINAL else receiver.saved()
        self.reply = receiver.saved() if direction == ORIGINAL else sender.saved()

    def flags(self) -> i64:
        """The flags of either side."""
        return i64(self.original[5] | self.reply[5])

    def packed(self) -> bytes:
        one, other = self.original, self.reply
        retrans = self.retrans if self.retrans < MOST_RETRANS else MOST_RETRANS
        return PACKED.pack(
            i64(one[0]) & M32,
            i64(one[1]) & M32,
            i64(one[2]) & M32,
            i64(one[3]) & M32,
            one[4],
            one[5],
            i64(other[0]) & M32,
            i64(other[1]) & M32,
            i64(other[2]) & M32,
            i64(other[3]) & M32,
            other[4],
            other[5],
            self.last_seq,
            self.last_ack,
            self.last_end,
            self.last_win,
            self.last_flags,
            self.last_kind,
            self.last_direction,
            self.last_scale,
            retrans,
        )

    def unpack(self, data: bytes) -> bool:
        """Restore what `packed` returned; False if it is something else."""
        if len(data) != PACKED.size:
            return False
        values = PACKED.unpack(data)
        self.original = _saved_side(values, 0)
        self.reply = _saved_side(values, 6)
        self.seq, self.ack, self.end = i32(i64(values[12])), i32(i64(values[13])), i32(i64(values[14]))
        self.last_win, self.last_flags, self.last_kind = values[15], values[16], values[17]
        self.last_direction, self.last_scale, self.retrans = values[18], values[19], values[20]
        return True

    def forget_windows(self) -> None:
        """Both ends sent since: take their windows from their next packets, and be liberal (as for a pick-up)."""
        for direction in (ORIGINAL, REPLY):
            scale, flags = (self.original if direction == ORIGINAL else self.reply)[4:]
            side: SavedSide = (0, 0, 0, 0, scale, u8(i64(flags) & KEPT_FLAGS | BE_LIBERAL))
            if direction == ORIGINAL:
                self.original = side
            else:
                self.reply = side


def _saved_side(values: tuple[int, ...], at: int) -> SavedSide:
    end, maxend, maxwin, maxack = i64(values[at]), i64(values[at + 1]), i64(values[at + 2]), i64(values[at + 3])
    return i32(end), i32(maxend), i32(maxwin), i32(maxack), u8(values[at + 4]), u8(values[at + 5])


@final
@mypyc_attr(acyclic=True)
class Segment:
    """A TCP packet, its header read once. kind: KIND_*; at, stop: start and end of the options.

    in_window() replaces the numbers that the segment does not really carry.
    """

    def __init__(self, packet: Packet, direction: int) -> None:
        data = packet.data
        at = packet.dataoff
        self.packet = packet
        self.direction = direction
        flags = self.flags = data[at + 13]
        self.kind = kind_of(flags)
        seq: i64 = u32(data, at + 4)
        ack: i64 = u32(data, at + 8)
        self.seq: i64 = seq
        self.ack: i64 = ack
        self.sack: i64 = ack
        self.window: i64 = u16(data, at + 14)
        self.at = at + tcp.HEADER
        stop = self.stop = at + tcp.data_offset(data, at)
        length = packet.length - stop
        if flags & tcp.SYN:
            length += 1
        if flags & tcp.FIN:
            length += 1
        self.end: i64 = (seq + length) & M32

    def read_options(self, side: Side) -> None:
        """Set window scale and SACK permission of a SYN's sender (tcp_options)."""
        if self.at == self.stop:
            return
        scale, sack_permitted = tcp.syn_options(self.packet.data, self.at, self.stop)
        side.flags &= BE_LIBERAL
        side.scale = 0
        if scale >= 0:
            side.scale = scale
            side.flags |= WINDOW_SCALE
        if sack_permitted:
            side.flags |= SACK_PERM


def open_side(side: Side, segment: Segment) -> None:
    """Initialise a side from its SYN or SYN+ACK."""
    side.end = side.maxend = segment.end
    side.maxwin = segment.window or 1
    segment.read_options(side)


def _open_sender(sender: Side, receiver: Side, segment: Segment) -> None:
    open_side(sender, segment)
    if segment.direction == REPLY and not sender.flags & receiver.flags & WINDOW_SCALE:
        sender.scale = receiver.scale = 0  # RFC 7323 2.2: only if both ends offer it


def _pick_up(sender: Side, receiver: Side, segment: Segment) -> None:
    """Initialise a side from its first packet in mid-stream."""
    sender.end = segment.end
    sender.maxwin = segment.window << sender.scale or 1
    sender.maxend = (segment.end + sender.maxwin) & M32
    if receiver.maxwin == 0:
        receiver.end = receiver.maxend = segment.sack
    elif segment.sack == (receiver.end + 1) & M32:
        receiver.end = segment.sack  # the answer to a keepalive, which repeats one old byte


def in_window(info: TcpInfo, sender: Side, receiver: Side, segment: Segment, state: int, liberal: bool) -> int:
    """NFCT_TCP_ACCEPT, IGNORE or INVALID, the latter two with packet.reason set; updates info and sides on ACCEPT.

    sender, receiver: the sides, as loaded from info. state: of the connection, before this segment.
    """
    flags = segment.flags
    if receiver.flags & SACK_PERM:
        segment.sack = tcp.highest_sack(segment.packet.data, segment.at, segment.stop, segment.ack)

    if segment.packet.ack_offset:  # the receiver's numbers, without what NAT of the payload added
        segment.ack = (segment.ack - segment.packet.ack_offset) & M32
        segment.sack = (segment.sack - segment.packet.ack_offset) & M32

    if _opens(sender, receiver, segment, state):
        return NFCT_TCP_ACCEPT
    if not flags & tcp.ACK or (flags & tcp.RST and segment.ack == 0):
        segment.ack = segment.sack = receiver.end  # no acknowledgement: assume a correct one
    if flags & tcp.RST and segment.seq == 0 and state == TCP_CONNTRACK_SYN_SENT:
        segment.seq = segment.end = sender.end  # a RST that answers a SYN has no sequence number of its own

    reason = _judge(sender, receiver, segment)
    if reason:
        if liberal or sender.flags & BE_LIBERAL:
            return NFCT_TCP_ACCEPT
        segment.packet.reason = reason
        segment.packet.numbers = _bounds(reason, sender, receiver, segment)
        return NFCT_TCP_INVALID if reason in (TCP_SEQ_OVER, TCP_ACK_OVER) else NFCT_TCP_IGNORE
    _learn(sender, receiver, segment)
    if segment.kind == KIND_ACK:
        _count_retransmission(info, segment)
    return NFCT_TCP_ACCEPT


def _opens(sender: Side, receiver: Side, segment: Segment, state: int) -> bool:
    """Take over the numbers of a sender seen for the first time; True for a SYN without ACK: there is no window yet."""
    syn = segment.flags & tcp.SYN
    if sender.maxwin == 0:
        if not syn:
            _pick_up(sender, receiver, segment)
            return False
        _open_sender(sender, receiver, segment)
        return not segment.flags & tcp.ACK  # simultaneous open
    if syn and state in (TCP_CONNTRACK_SYN_SENT, TCP_CONNTRACK_SYN_RECV) and after(segment.end, sender.end):
        _open_sender(sender, receiver, segment)
        return segment.direction == REPLY and not segment.flags & tcp.ACK
    return False


def _judge(sender: Side, receiver: Side, segment: Segment) -> int:
    """Rules I to IV; OK or the reason."""
    end, sack = segment.end, segment.sack
    ack_not_old = after(sack, receiver.end - max(sender.maxwin, MAXACKWINCONST) - 1)
    ack_not_early = before(sack, receiver.end + 1)
    end_not_old = after(end, sender.end - receiver.maxwin - 1)
    if not before(segment.seq, sender.maxend + 1):
        overshoot = (end - sender.maxend + 1) & M32
        if receiver.maxwin and end_not_old and ack_not_old and ack_not_early and overshoot <= receiver.maxwin:
            sender.end = end  # the peer may acknowledge it
            sender.flags |= UNACKNOWLEDGED
            return TCP_MORE_THAN_WINDOW
        return TCP_SEQ_OVER
    if not ack_not_early:
        return TCP_ACK_OVER
    if receiver.maxwin and not end_not_old:
        return TCP_SEQ_UNDER
    return OK if ack_not_old else TCP_ACK_UNDER


def _bounds(reason: int, sender: Side, receiver: Side, segment: Segment) -> tuple[int, ...]:
    """The number that broke a rule, the nearest one that would not have, and the window of that bound."""
    if reason == TCP_SEQ_OVER:
        return (segment.seq, sender.maxend, receiver.maxwin)
    if reason == TCP_MORE_THAN_WINDOW:
        return (segment.end, sender.maxend, receiver.maxwin)
    if reason == TCP_ACK_OVER:
        return (segment.sack, receiver.end, sender.maxwin)
    if reason == TCP_SEQ_UNDER:
        return (segment.end, (sender.end - receiver.maxwin) & M32, receiver.maxwin)
    window = max(sender.maxwin, MAXACKWINCONST)
    return (segment.sack, (receiver.end - window) & M32, window)


def _learn(sender: Side, receiver: Side, segment: Segment) -> None:
    """Update both sides from an accepted segment."""
    end, ack, sack = segment.end, segment.ack, segment.sack
    window = segment.window
    if not segment.flags & tcp.SYN:
        window <<= sender.scale
    announced = window + ((sack - ack) & M32)
    sender.maxwin = max(sender.maxwin, announced & M32)
    if after(end, sender.end):
        sender.end = end
        sender.flags |= UNACKNOWLEDGED
    if segment.flags & tcp.ACK:
        if not sender.flags & MAXACK_SET:
            sender.maxack = ack
            sender.flags |= MAXACK_SET
        elif after(ack, sender.maxack):
            sender.maxack = ack
    if receiver.maxwin and after(end, sender.maxend):
        receiver.maxwin = (receiver.maxwin + end - sender.maxend) & M32
    if after(sack + window, receiver.maxend - 1):
        receiver.maxend = (sack + window + (1 if window == 0 else 0)) & M32
    if ack == receiver.end:
        receiver.flags &= ~UNACKNOWLEDGED


def _count_retransmission(info: TcpInfo, segment: Segment) -> None:
    direction, seq, ack, end = segment.direction, segment.seq, segment.ack, segment.end
    if (
        info.last_direction == direction
        and info.last_seq == seq
        and info.last_ack == ack
        and info.last_end == end
        and i64(info.last_win) == segment.window
    ):
        info.retrans += 1
        return
    info.last_direction = direction
    info.seq = i32(seq)
    info.ack = i32(ack)
    info.end = i32(end)
    info.last_win = i32(segment.window)
    info.retrans = 0
