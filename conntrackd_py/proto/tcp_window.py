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

from typing import Final, final

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
# flags of the last ignored packet and of the connection
CHALLENGE_EXPECTED: Final = 0x40
SIMULTANEOUS_OPEN: Final = 0x80

# enum nf_ct_tcp_action
NFCT_TCP_ACCEPT: Final = 0
NFCT_TCP_IGNORE: Final = 1
NFCT_TCP_INVALID: Final = 2


def before(a: int, b: int) -> bool:
    """Whether sequence number a precedes b."""
    return (a - b) & 0x80000000 != 0 and (a - b) & M32 != 0


def after(a: int, b: int) -> bool:
    return before(b, a)


@final
class Side:
    """What one end has sent and may send (ip_ct_tcp_state)."""

    def __init__(self) -> None:
        self.end = 0
        self.maxend = 0
        self.maxwin = 0
        self.maxack = 0
        self.scale = 0
        self.flags = 0

    def reset(self) -> None:
        """Reset everything except BE_LIBERAL."""
        self.end = self.maxend = self.maxwin = self.maxack = self.scale = 0
        self.flags &= BE_LIBERAL


@final
class TcpInfo(ProtoInfo):
    """Both sides, and the previous packet (ip_ct_tcp)."""

    def __init__(self) -> None:
        self.sides = (Side(), Side())
        self.retrans = 0
        self.last_kind = KIND_NONE
        self.last_direction = ORIGINAL
        self.last_seq = 0
        self.last_ack = 0
        self.last_end = 0
        self.last_win = 0
        self.last_scale = 0
        self.last_flags = 0


@final
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
        seq = self.seq = u32(data, at + 4)
        self.ack = self.sack = u32(data, at + 8)
        self.window = u16(data, at + 14)
        self.at = at + tcp.HEADER
        stop = self.stop = at + tcp.data_offset(data, at)
        length = packet.length - stop
        if flags & tcp.SYN:
            length += 1
        if flags & tcp.FIN:
            length += 1
        self.end = (seq + length) & M32

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


def in_window(info: TcpInfo, segment: Segment, state: int, liberal: bool) -> int:
    """NFCT_TCP_ACCEPT, IGNORE or INVALID, the latter two with packet.reason set; updates info on ACCEPT.

    state: of the connection, before this segment.
    """
    direction = segment.direction
    sender = info.sides[direction]
    receiver = info.sides[1 - direction]
    flags = segment.flags
    if receiver.flags & SACK_PERM:
        segment.sack = tcp.highest_sack(segment.packet.data, segment.at, segment.stop, segment.ack)

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
        and info.last_win == segment.window
    ):
        info.retrans += 1
        return
    info.last_direction = direction
    info.last_seq = seq
    info.last_ack = ack
    info.last_end = end
    info.last_win = segment.window
    info.retrans = 0
