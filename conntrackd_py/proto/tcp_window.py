"""TCP window tracking: does this segment fit between what was sent and what the peer allowed?

"Real Stateful TCP Packet Filtering in IP Filter", Guido van Rooij, 2000. Per direction: the highest
sequence end sent (`end`), the highest right edge the peer allows (`maxend`), the largest window
announced (`maxwin`), the highest acknowledgement sent (`maxack`). For a segment of a sender:

    I    it must begin inside the receiver's window           seq  <  sender.maxend + 1
    II   it must not lie wholly in what was acknowledged      end  >  sender.end - receiver.maxwin - 1
    III  it must not acknowledge what was never sent          sack <  receiver.end + 1
    IV   nor something absurdly old                           sack >  receiver.end - MAXACKWINDOW - 1

All sequence arithmetic is modulo 2**32 and compares as signed distance. Source: tcp_in_window.
"""

from typing import Final, final

from conntrackd_py.conntrack.conn import ProtoInfo
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import ORIGINAL, REPLY
from conntrackd_py.proto.tcp_states import KIND_ACK, KIND_NONE, TCP_CONNTRACK_SYN_RECV, TCP_CONNTRACK_SYN_SENT
from conntrackd_py.reasons import OK, TCP_ACK_OVER, TCP_ACK_UNDER, TCP_MORE_THAN_WINDOW, TCP_SEQ_OVER, TCP_SEQ_UNDER
from conntrackd_py.wire import tcp
from conntrackd_py.wire.packet import u16, u32

M32: Final = 0xFFFFFFFF
LEAST_ACK_WINDOW: Final = 66000

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

WITHIN: Final = 0
IGNORED: Final = 1
REFUSED: Final = 2


def before(a: int, b: int) -> bool:
    """a precedes b on the circle of sequence numbers."""
    return (a - b) & 0x80000000 != 0 and (a - b) & M32 != 0


def after(a: int, b: int) -> bool:
    return before(b, a)


@final
class Side:
    """What one end has sent and may send."""

    def __init__(self) -> None:
        self.end = 0
        self.maxend = 0
        self.maxwin = 0
        self.maxack = 0
        self.scale = 0
        self.flags = 0

    def forget(self) -> None:
        """Begin afresh; only that this side is not judged stays."""
        self.end = self.maxend = self.maxwin = self.maxack = self.scale = 0
        self.flags &= BE_LIBERAL


@final
class TcpInfo(ProtoInfo):
    """Both sides, and the packet before this one (ip_ct_tcp)."""

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
    """The header fields that matter, read once. `at` and `stop` delimit the options."""

    def __init__(self, skb: Skb) -> None:
        data = skb.data
        at = skb.dataoff
        self.data = data
        self.flags = data[at + 13]
        self.seq = u32(data, at + 4)
        self.ack = u32(data, at + 8)
        self.window = u16(data, at + 14)
        self.at = at + tcp.HEADER
        self.stop = at + tcp.data_offset(data, at)
        length = skb.end - self.stop
        if self.flags & tcp.SYN:
            length += 1
        if self.flags & tcp.FIN:
            length += 1
        self.end = (self.seq + length) & M32

    def read_options(self, side: Side) -> None:
        """Window scale and SACK permission of a SYN (tcp_options)."""
        if self.at == self.stop:
            return
        scale, sack_permitted = tcp.syn_options(self.data, self.at, self.stop)
        side.flags &= BE_LIBERAL
        side.scale = 0
        if scale >= 0:
            side.scale = scale
            side.flags |= WINDOW_SCALE
        if sack_permitted:
            side.flags |= SACK_PERM


def open_side(side: Side, segment: Segment) -> None:
    """A SYN or SYN+ACK tells where its sender begins."""
    side.end = side.maxend = segment.end
    side.maxwin = segment.window or 1
    segment.read_options(side)


def _open_sender(sender: Side, receiver: Side, segment: Segment, direction: int) -> None:
    open_side(sender, segment)
    if direction == REPLY and not sender.flags & receiver.flags & WINDOW_SCALE:
        sender.scale = receiver.scale = 0  # RFC 7323 2.2: only if both ends asked for it


def _pick_up(sender: Side, receiver: Side, segment: Segment, sack: int) -> None:
    """First sight of a sender in mid-stream: believe the packet."""
    sender.end = segment.end
    sender.maxwin = segment.window << sender.scale or 1
    sender.maxend = (segment.end + sender.maxwin) & M32
    if receiver.maxwin == 0:
        receiver.end = receiver.maxend = sack
    elif sack == (receiver.end + 1) & M32:
        receiver.end = sack  # the answer to a keepalive, which repeats one old byte


def in_window(info: TcpInfo, state: int, segment: Segment, direction: int, kind: int, liberal: bool, skb: Skb) -> int:
    """WITHIN, IGNORED or REFUSED, with skb.reason set for the latter two; updates info when WITHIN."""
    sender = info.sides[direction]
    receiver = info.sides[1 - direction]
    flags = segment.flags
    seq = segment.seq
    end = segment.end
    ack = segment.ack
    sack = ack
    if receiver.flags & SACK_PERM:
        sack = tcp.highest_sack(segment.data, segment.at, segment.stop, ack)

    if sender.maxwin == 0:
        if flags & tcp.SYN:
            _open_sender(sender, receiver, segment, direction)
            if not flags & tcp.ACK:
                return WITHIN  # simultaneous open
        else:
            _pick_up(sender, receiver, segment, sack)
    elif flags & tcp.SYN and (state in (TCP_CONNTRACK_SYN_SENT, TCP_CONNTRACK_SYN_RECV)) and after(end, sender.end):
        _open_sender(sender, receiver, segment, direction)
        if direction == REPLY and not flags & tcp.ACK:
            return WITHIN

    if not flags & tcp.ACK or (flags & tcp.RST and ack == 0):
        ack = sack = receiver.end  # nothing acknowledged: pretend it is right
    if flags & tcp.RST and seq == 0 and state == TCP_CONNTRACK_SYN_SENT:
        seq = end = sender.end  # a RST that answers a SYN has no sequence of its own

    reason = _judge(sender, receiver, seq, end, sack)
    if reason:
        if liberal or sender.flags & BE_LIBERAL:
            return WITHIN
        skb.reason = reason
        skb.numbers = _bounds(reason, sender, receiver, seq, end, sack)
        return REFUSED if reason in (TCP_SEQ_OVER, TCP_ACK_OVER) else IGNORED
    _learn(sender, receiver, segment, end, ack, sack)
    if kind == KIND_ACK:
        _count_retransmission(info, direction, seq, ack, end, segment.window)
    return WITHIN


def _judge(sender: Side, receiver: Side, seq: int, end: int, sack: int) -> int:
    """Rules I to IV; OK or the reason."""
    ack_not_old = after(sack, receiver.end - max(sender.maxwin, LEAST_ACK_WINDOW) - 1)
    ack_not_early = before(sack, receiver.end + 1)
    end_not_old = after(end, sender.end - receiver.maxwin - 1)
    if not before(seq, sender.maxend + 1):
        overshoot = (end - sender.maxend + 1) & M32
        if receiver.maxwin and end_not_old and ack_not_old and ack_not_early and overshoot <= receiver.maxwin:
            sender.end = end  # the peer may well acknowledge it
            sender.flags |= UNACKNOWLEDGED
            return TCP_MORE_THAN_WINDOW
        return TCP_SEQ_OVER
    if not ack_not_early:
        return TCP_ACK_OVER
    if receiver.maxwin and not end_not_old:
        return TCP_SEQ_UNDER
    return OK if ack_not_old else TCP_ACK_UNDER


def _bounds(reason: int, sender: Side, receiver: Side, seq: int, end: int, sack: int) -> tuple[int, ...]:
    """The number that broke a rule, the last one that would have kept it, and the window behind that bound."""
    if reason == TCP_SEQ_OVER:
        return (seq, sender.maxend, receiver.maxwin)
    if reason == TCP_MORE_THAN_WINDOW:
        return (end, sender.maxend, receiver.maxwin)
    if reason == TCP_ACK_OVER:
        return (sack, receiver.end, sender.maxwin)
    if reason == TCP_SEQ_UNDER:
        return (end, (sender.end - receiver.maxwin) & M32, receiver.maxwin)
    window = max(sender.maxwin, LEAST_ACK_WINDOW)
    return (sack, (receiver.end - window) & M32, window)


def _learn(sender: Side, receiver: Side, segment: Segment, end: int, ack: int, sack: int) -> None:
    """Widen both sides' bounds by what this segment says."""
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


def _count_retransmission(info: TcpInfo, direction: int, seq: int, ack: int, end: int, window: int) -> None:
    if (
        info.last_direction == direction
        and info.last_seq == seq
        and info.last_ack == ack
        and info.last_end == end
        and info.last_win == window
    ):
        info.retrans += 1
        return
    info.last_direction = direction
    info.last_seq = seq
    info.last_ack = ack
    info.last_end = end
    info.last_win = window
    info.retrans = 0
