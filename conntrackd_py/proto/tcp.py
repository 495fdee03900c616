"""The TCP tracker (nf_conntrack_tcp_packet): transition table, special cases, window check.

Order: flags and checksum; the transition table; its exceptions (reopening, resynchronising, challenge ACKs, RST
validation); the window check; then the new state, its timeout and ASSURED.
"""

from typing import Final, cast, final

from mypy_extensions import i16, i32, i64, u8

from conntrackd_py.conntrack.conn import KILL, REFUSED, REPEAT, TRACKED, UNCOUNTED, NfConn
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import (
    IPCT_PROTOINFO,
    IPS_ASSURED,
    IPS_FIXED_TIMEOUT,
    IPS_OFFLOAD,
    IPS_SEEN_REPLY,
    ORIGINAL,
    REPLY,
)
from conntrackd_py.proto import tcp_window as window
from conntrackd_py.proto.tcp_header import TcpHeader
from conntrackd_py.proto.tcp_states import (
    IG,
    IV,
    KIND_ACK,
    KIND_FIN,
    KIND_NONE,
    KIND_RST,
    KIND_SYN,
    KIND_SYNACK,
    STATE_NAMES,
    TCP_CONNTRACK_CLOSE,
    TCP_CONNTRACK_ESTABLISHED,
    TCP_CONNTRACK_FIN_WAIT,
    TCP_CONNTRACK_LAST_ACK,
    TCP_CONNTRACK_NONE,
    TCP_CONNTRACK_SYN_RECV,
    TCP_CONNTRACK_SYN_SENT,
    TCP_CONNTRACK_SYN_SENT2,
    TCP_CONNTRACK_TIME_WAIT,
    next_state,
)
from conntrackd_py.proto.tcp_window import CLOSE_INIT, M32, MAXACK_SET, UNACKNOWLEDGED, Segment, TcpInfo, before
from conntrackd_py.reasons import (
    OK,
    TCP_CHALLENGE_ACK,
    TCP_FLAGS,
    TCP_IGNORED,
    TCP_NOT_SYN,
    TCP_RST,
    TCP_STATE,
)
from conntrackd_py.wire.packet import Packet
from conntrackd_py.wire.tcp import ACK, FIN, RST, SYN, URG

VALID_FLAGS: Final = frozenset(
    {SYN, SYN | URG, SYN | ACK, RST, RST | ACK, FIN | ACK, FIN | ACK | URG, ACK, ACK | URG}
)  # PSH, ECE and CWR do not count
JUDGED_FLAGS: Final = SYN | ACK | FIN | RST | URG
SYN_SENT2_TIMEOUT: Final = 120  # s; the kernel has no sysctl for it
LONG_ENOUGH: Final = 120_000  # ms: _shorten_timeout leaves a shorter timeout alone

TCP_LAYOUT: Final = 3

RST_ACCEPT: Final = 0  # closes without a window check, which its numbers do not allow
RST_CHECK: Final = 1  # closes if it is in the window
RST_SHORTEN: Final = 2  # if it is in the window, it only shortens the timeout
RST_REFUSE: Final = 3


@final
class Tcp(TcpHeader):
    """sender, receiver: the sides of the packet that is being judged, loaded from its TcpInfo."""

    state_names: tuple[str, ...] = STATE_NAMES
    layout = TCP_LAYOUT

    def __init__(self, tunables: Tunables) -> None:
        super().__init__(tunables)
        self.sender = window.Side()
        self.receiver = window.Side()

    def tune(self, tunables: Tunables) -> None:
        self.timeouts = [
            seconds * 1000
            for seconds in (
                tunables.nf_conntrack_tcp_timeout_syn_sent,  # NONE, which no packet leaves behind
                tunables.nf_conntrack_tcp_timeout_syn_sent,
                tunables.nf_conntrack_tcp_timeout_syn_recv,
                tunables.nf_conntrack_tcp_timeout_established,
                tunables.nf_conntrack_tcp_timeout_fin_wait,
                tunables.nf_conntrack_tcp_timeout_close_wait,
                tunables.nf_conntrack_tcp_timeout_last_ack,
                tunables.nf_conntrack_tcp_timeout_time_wait,
                tunables.nf_conntrack_tcp_timeout_close,
                SYN_SENT2_TIMEOUT,
            )
        ]
        self.retrans_timeout = tunables.nf_conntrack_tcp_timeout_max_retrans * 1000
        self.unacknowledged_timeout = tunables.nf_conntrack_tcp_timeout_unacknowledged * 1000
        self.loose = tunables.nf_conntrack_tcp_loose
        self.liberal = tunables.nf_conntrack_tcp_be_liberal
        self.ignore_invalid_rst = tunables.nf_conntrack_tcp_ignore_invalid_rst
        self.max_retrans = tunables.nf_conntrack_tcp_max_retrans

    def check(self, packet: Packet, verify: bool) -> int:
        reason = super().check(packet, verify)
        if reason:
            return reason
        flags = packet.data[packet.dataoff + 13]
        if flags & JUDGED_FLAGS not in VALID_FLAGS:
            packet.numbers = (flags,)
            return TCP_FLAGS
        return OK

    def closing(self, state: int) -> bool:
        return TCP_CONNTRACK_FIN_WAIT <= state <= TCP_CONNTRACK_CLOSE

    def adopt(self, ct: NfConn) -> None:
        info = TcpInfo()
        info.last_kind = KIND_SYN  # the kernel's zero
        ct.proto = info

    def set_state(self, ct: NfConn, state: int) -> None:
        """Its window is unknown, so BE_LIBERAL; a closed one may be reopened (as conntrack(8) requests)."""
        ct.state = state
        info, sides = cast(TcpInfo, ct.proto), (window.Side(), window.Side())
        info.load(ORIGINAL, *sides)
        for side in sides:
            side.flags |= window.SACK_PERM | window.BE_LIBERAL | (CLOSE_INIT if state >= TCP_CONNTRACK_TIME_WAIT else 0)
        info.save(ORIGINAL, *sides)

    def offloaded(self, ct: NfConn, on: bool) -> None:
        """BE_LIBERAL, also afterwards; both windows then begin anew with the next packets (flow_offload_fixup_tcp)."""
        info, sides = cast(TcpInfo, ct.proto), (window.Side(), window.Side())
        info.load(ORIGINAL, *sides)
        for side in sides:
            side.flags |= window.BE_LIBERAL
            side.maxwin = side.maxwin if on else 0
        info.save(ORIGINAL, *sides)

    def pack_info(self, ct: NfConn) -> bytes:
        return cast(TcpInfo, ct.proto).packed()

    def unpack_info(self, ct: NfConn, data: bytes) -> bool:
        info = TcpInfo()
        ct.proto = info
        return info.unpack(data)

    def resume(self, ct: NfConn) -> None:
        """As for a connection picked up in mid-stream: the next packets give the windows."""
        if TCP_CONNTRACK_ESTABLISHED <= ct.state <= TCP_CONNTRACK_CLOSE:
            cast(TcpInfo, ct.proto).forget_windows()

    def packet(self, ct: NfConn, packet: Packet, direction: int, now: int, new: bool) -> int:
        segment = Segment(packet, direction)
        info = TcpInfo() if new else cast(TcpInfo, ct.proto)
        info.load(direction, self.sender, self.receiver)
        outcome = self._judge(ct, info, segment, now, new)
        info.save(direction, self.sender, self.receiver)
        return outcome

    def _judge(self, ct: NfConn, info: TcpInfo, segment: Segment, now: int, new: bool) -> int:
        packet, direction, kind = segment.packet, segment.direction, segment.kind
        if new:
            ct.proto = info
            packet.reason = self._begin(info, segment)
            if packet.reason:
                packet.numbers = (direction, kind, TCP_CONNTRACK_NONE)
                return REFUSED
        old: int = ct.state
        proposed = next_state(direction, kind, old)
        if proposed == IV:
            packet.reason = TCP_STATE
            packet.numbers = (direction, kind, old)
            return REFUSED
        if proposed == IG or (proposed == TCP_CONNTRACK_SYN_SENT and old >= TCP_CONNTRACK_TIME_WAIT):
            if proposed == TCP_CONNTRACK_SYN_SENT and self._may_reopen(info, direction):
                return REPEAT
            if not self._resynchronises(info, segment):
                _save_ignored(info, segment, old)
                packet.reason = TCP_IGNORED
                packet.numbers = (direction, kind, old)
                return UNCOUNTED
            old = TCP_CONNTRACK_SYN_SENT
            proposed = TCP_CONNTRACK_SYN_RECV
        if proposed == TCP_CONNTRACK_TIME_WAIT and _is_challenge_ack(info, segment, old):
            info.last_flags &= ~window.CHALLENGE_EXPECTED
            packet.reason = TCP_CHALLENGE_ACK
            packet.numbers = (segment.ack, info.last_end)
            return UNCOUNTED
        if kind == KIND_RST:
            return self._rst(ct, info, segment, now)
        return self._within(ct, info, segment, old, _simultaneous(info, segment, proposed), now)

    def _begin(self, info: TcpInfo, segment: Segment) -> int:
        """Initialise info from the first packet (tcp_new); OK or why it cannot start a connection."""
        info.last_kind = KIND_NONE
        first = next_state(ORIGINAL, segment.kind, TCP_CONNTRACK_NONE)
        if first == IV:
            return TCP_STATE
        side = self.sender
        if first == TCP_CONNTRACK_SYN_SENT:
            window.open_side(side, segment)
            return OK
        if not self.loose:
            return TCP_NOT_SYN
        side.end = segment.end
        side.maxwin = segment.window or 1
        side.maxend = (side.end + side.maxwin) & M32
        side.flags = self.receiver.flags = window.SACK_PERM | window.BE_LIBERAL
        return OK

    def _rst(self, ct: NfConn, info: TcpInfo, segment: Segment, now: int) -> int:
        judgement = self._judge_rst(ct, info, segment)
        if judgement == RST_REFUSE:
            segment.packet.reason = TCP_RST
            segment.packet.numbers = (segment.seq, self.receiver.maxack)
            return REFUSED
        if judgement == RST_ACCEPT:
            return self._accept(ct, info, segment, ct.state, TCP_CONNTRACK_CLOSE, now)
        proposed = ct.state if judgement == RST_SHORTEN else TCP_CONNTRACK_CLOSE
        return self._within(ct, info, segment, ct.state, proposed, now)

    def _judge_rst(self, ct: NfConn, info: TcpInfo, segment: Segment) -> int:
        """RST_*. A forged RST must hit the window; the ends challenge a near miss (RFC 5961)."""
        direction = segment.direction
        if TCP_CONNTRACK_FIN_WAIT <= ct.state <= TCP_CONNTRACK_CLOSE:
            return RST_ACCEPT  # closing: the saved numbers may be from an earlier use of the ports
        peer = self.receiver
        if peer.flags & MAXACK_SET and info.last_kind != KIND_SYN:
            established = ct.state == TCP_CONNTRACK_ESTABLISHED and ct.status & IPS_ASSURED
            if segment.seq == 0 and not established:
                return RST_CHECK  # most likely answers a SYN that was let through
            if before(segment.seq, peer.maxack) and not self.ignore_invalid_rst:
                return RST_REFUSE
            if not established or segment.seq == peer.maxack:
                return RST_CHECK
            if info.last_kind == KIND_ACK and info.last_direction == direction and segment.seq == info.last_end:
                return RST_CHECK  # data and its RST in a row
            return RST_SHORTEN
        let_through = (
            ct.status & IPS_SEEN_REPLY and info.last_kind == KIND_SYN and info.last_direction != direction
        ) or (not ct.status & IPS_ASSURED and info.last_kind == KIND_ACK)
        if let_through and segment.ack == info.last_end:
            return RST_ACCEPT  # answers an ignored packet
        if ct.state == TCP_CONNTRACK_SYN_SENT and info.last_kind == KIND_ACK and info.last_direction == REPLY:
            return RST_ACCEPT if segment.seq == info.last_ack else RST_CHECK  # answers a challenge ACK
        return RST_CHECK

    def _within(self, ct: NfConn, info: TcpInfo, segment: Segment, old: int, proposed: int, now: int) -> int:
        """Check the window, then accept."""
        action = window.in_window(info, self.sender, self.receiver, segment, ct.state, self.liberal)
        if action == window.NFCT_TCP_IGNORE:
            return UNCOUNTED
        if action == window.NFCT_TCP_INVALID:
            self._shorten_timeout(ct, info, segment, now)
            return REFUSED
        return self._accept(ct, info, segment, old, proposed, now)

    def _shorten_timeout(self, ct: NfConn, info: TcpInfo, segment: Segment, now: int) -> None:
        """Shorten the timeout when an INVALID FIN or RST is answered by another: the ends probably closed."""
        kind, direction = segment.kind, segment.direction
        if not ct.status & IPS_ASSURED or ct.status & IPS_FIXED_TIMEOUT or kind not in (KIND_FIN, KIND_RST):
            return
        if info.last_direction != direction and info.last_kind in (KIND_FIN, KIND_RST):
            if ct.remaining(now) >= max(LONG_ENOUGH, self.unacknowledged_timeout + 1):
                ct.timeout = now + self.unacknowledged_timeout
            return
        info.last_kind = kind
        info.last_direction = direction

    def _accept(self, ct: NfConn, info: TcpInfo, segment: Segment, old: int, state: int, now: int) -> int:
        """Set state, ASSURED and timeout; returns the outcome."""
        kind = segment.kind
        info.last_kind = kind
        info.last_direction = segment.direction
        ct.state = state
        if state != old:
            ct.pending_events |= IPCT_PROTOINFO
            if state == TCP_CONNTRACK_FIN_WAIT:
                self.sender.flags |= CLOSE_INIT
        timeout = self._timeout(info, self.sender.flags | self.receiver.flags, kind, state)
        if not ct.status & IPS_SEEN_REPLY:
            if kind == KIND_RST:
                return KILL  # the only answer is a refusal
            if kind == KIND_SYN and old == TCP_CONNTRACK_SYN_SENT:
                return UNCOUNTED  # or a client that retries would keep the entry and its NAT for ever
            if state == TCP_CONNTRACK_ESTABLISHED:
                timeout = min(timeout, self.unacknowledged_timeout)
        elif (
            state == TCP_CONNTRACK_ESTABLISHED
            and (old in (TCP_CONNTRACK_SYN_RECV, TCP_CONNTRACK_ESTABLISHED))
            and not ct.status & IPS_ASSURED
        ):
            ct.assure()
        ct.refresh(now, timeout)
        return TRACKED

    def _may_reopen(self, info: TcpInfo, direction: int) -> bool:
        """Whether a SYN after the end reopens: the start of the close was seen, or this side has just sent RST."""
        closed = (self.sender.flags | self.receiver.flags) & CLOSE_INIT
        return closed != 0 or (info.last_direction == direction and info.last_kind == KIND_RST)

    def _resynchronises(self, info: TcpInfo, segment: Segment) -> bool:
        """Whether a SYN+ACK answers an ignored SYN: the ends have opened a new connection. Takes over its numbers."""
        if segment.kind != KIND_SYNACK or info.last_kind != KIND_SYN or info.last_direction == segment.direction:
            return False
        if segment.ack != info.last_end:
            return False
        caller = self.receiver
        caller.end = caller.maxend = info.last_end
        caller.maxwin = i64(info.last_win) or 1
        caller.scale = i64(info.last_scale)
        info.last_flags &= ~window.CHALLENGE_EXPECTED
        caller.flags = i64(info.last_flags)
        self.sender.reset()
        return True

    def in_use(self, ct: NfConn) -> bool:
        return ct.state == TCP_CONNTRACK_ESTABLISHED

    def lifetime(self, ct: NfConn) -> int:
        if ct.status & IPS_OFFLOAD:
            return self.timeouts[ct.state]
        info = cast(TcpInfo, ct.proto)
        timeout = self._timeout(info, info.flags(), info.last_kind, ct.state)
        return timeout if ct.status & IPS_SEEN_REPLY else min(timeout, self.unacknowledged_timeout)

    def _timeout(self, info: TcpInfo, flags: i64, kind: int, state: int) -> int:
        timeout = self.timeouts[state]
        if info.retrans >= self.max_retrans and timeout > self.retrans_timeout:
            return self.retrans_timeout
        if kind == KIND_RST:
            return self.timeouts[TCP_CONNTRACK_CLOSE]
        if flags & UNACKNOWLEDGED and timeout > self.unacknowledged_timeout:
            return self.unacknowledged_timeout
        if info.last_win == 0 and timeout > self.retrans_timeout:
            return self.retrans_timeout
        return timeout


def _save_ignored(info: TcpInfo, segment: Segment, old: int) -> None:
    """Save the numbers that an answer to this packet would have."""
    info.last_kind = segment.kind
    info.last_direction = segment.direction
    info.seq = i32(segment.seq)
    info.end = i32(segment.end)
    info.last_win = i32(segment.window)
    if segment.kind == KIND_SYN and segment.direction == ORIGINAL:
        offer = window.Side()
        segment.read_options(offer)
        info.last_flags = i16(offer.flags)
        info.last_scale = u8(offer.scale)
        if old == TCP_CONNTRACK_LAST_ACK:
            info.last_flags |= window.CHALLENGE_EXPECTED
    if old == TCP_CONNTRACK_SYN_SENT and segment.kind == KIND_ACK and segment.direction == REPLY:
        info.ack = i32(segment.ack)


def _is_challenge_ack(info: TcpInfo, segment: Segment, old: int) -> bool:
    """Whether an ACK in LAST_ACK answers an ignored SYN instead of the FIN (RFC 5961 section 4)."""
    return (
        old == TCP_CONNTRACK_LAST_ACK
        and segment.kind == KIND_ACK
        and info.last_direction != segment.direction
        and info.last_kind == KIND_SYN
        and info.last_flags & window.CHALLENGE_EXPECTED != 0
    )


def _simultaneous(info: TcpInfo, segment: Segment, proposed: int) -> int:
    """The new state when both ends opened at once, which the table alone cannot tell; else `proposed`."""
    if proposed == TCP_CONNTRACK_SYN_SENT2:
        info.last_flags |= window.SIMULTANEOUS_OPEN
    elif proposed == TCP_CONNTRACK_SYN_RECV and segment.direction == REPLY and segment.kind == KIND_ACK:
        if info.last_flags & window.SIMULTANEOUS_OPEN:
            return TCP_CONNTRACK_ESTABLISHED
    return proposed
