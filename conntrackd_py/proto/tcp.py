"""The TCP tracker (nf_conntrack_tcp_packet): the table proposes, the special cases and the window dispose.

Order of judgement: flags and checksum; the transition table; the exceptions around it (reopening,
resynchronising, challenge ACKs, RST validation); the window check; then the new state, its timeout
and ASSURED. A packet is judged against the connection as it was before the packet.
"""

from typing import Final, cast, final

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.l4proto import (
    KILL,
    REFUSED,
    REPEAT,
    TRACKED,
    UNCOUNTED,
)
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import (
    IPCT_ASSURED,
    IPCT_PROTOINFO,
    IPS_ASSURED,
    IPS_FIXED_TIMEOUT,
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
from conntrackd_py.wire.tcp import ACK, FIN, RST, SYN, URG

VALID_FLAGS: Final = frozenset(
    {SYN, SYN | URG, SYN | ACK, RST, RST | ACK, FIN | ACK, FIN | ACK | URG, ACK, ACK | URG}
)  # PSH, ECE and CWR do not count
JUDGED_FLAGS: Final = SYN | ACK | FIN | RST | URG
SYN_SENT2_TIMEOUT: Final = 120  # s; the kernel has no sysctl for it
LONG_ENOUGH: Final = 120_000  # ms: below this an entry of a disturbed connection is left to its own timeout

RST_BELIEVE: Final = 0  # no window check: its numbers cannot be judged
RST_CHECK: Final = 1  # closes if it lies in the window
RST_DOUBT: Final = 2  # in the window it only shortens the timeout
RST_REFUSE: Final = 3


def kind_of(flags: int) -> int:
    """RST before SYN before FIN before ACK."""
    if flags & RST:
        return KIND_RST
    if flags & SYN:
        return KIND_SYNACK if flags & ACK else KIND_SYN
    if flags & FIN:
        return KIND_FIN
    return KIND_ACK if flags & ACK else KIND_NONE


@final
class Tcp(TcpHeader):
    state_names: tuple[str, ...] = STATE_NAMES

    def __init__(self, tunables: Tunables) -> None:
        super().__init__()
        self.timeouts: list[int] = []
        self.tune(tunables)

    def tune(self, tunables: Tunables) -> None:
        self.timeouts = [
            seconds * 1000
            for seconds in (
                tunables.nf_conntrack_tcp_timeout_syn_sent,  # NONE is never a connection's state for long
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

    def check(self, skb: Skb, verify: bool) -> int:
        reason = super().check(skb, verify)
        if reason:
            return reason
        flags = skb.data[skb.dataoff + 13]
        if flags & JUDGED_FLAGS not in VALID_FLAGS:
            skb.numbers = (flags,)
            return TCP_FLAGS
        return OK

    def closing(self, state: int) -> bool:
        return TCP_CONNTRACK_FIN_WAIT <= state <= TCP_CONNTRACK_CLOSE

    def adopt(self, ct: NfConn) -> None:
        info = TcpInfo()
        info.last_kind = KIND_SYN  # the kernel's zero
        ct.proto = info

    def set_state(self, ct: NfConn, state: int) -> None:
        """Nobody knows its window, so it is not judged; one that is over may be reopened (as conntrack(8) asks)."""
        ct.state = state
        for side in cast(TcpInfo, ct.proto).sides:
            side.flags |= window.SACK_PERM | window.BE_LIBERAL | (CLOSE_INIT if state >= TCP_CONNTRACK_TIME_WAIT else 0)

    def packet(self, ct: NfConn, skb: Skb, direction: int, now: int, new: bool) -> int:
        segment = Segment(skb)
        kind = kind_of(segment.flags)
        if new:
            ct.proto = TcpInfo()
        info = cast(TcpInfo, ct.proto)
        if new:
            skb.reason = self._begin(info, segment, kind)
            if skb.reason:
                skb.numbers = (direction, kind, TCP_CONNTRACK_NONE)
                return REFUSED
        old = ct.state
        proposed = next_state(direction, kind, old)
        if proposed == IV:
            skb.reason = TCP_STATE
            skb.numbers = (direction, kind, old)
            return REFUSED
        if proposed == IG or (proposed == TCP_CONNTRACK_SYN_SENT and old >= TCP_CONNTRACK_TIME_WAIT):
            if proposed == TCP_CONNTRACK_SYN_SENT and _may_reopen(info, direction):
                return REPEAT
            if not _resynchronises(info, segment, direction, kind):
                _remember_ignored(info, segment, direction, kind, old)
                skb.reason = TCP_IGNORED
                skb.numbers = (direction, kind, old)
                return UNCOUNTED
            old = TCP_CONNTRACK_SYN_SENT
            proposed = TCP_CONNTRACK_SYN_RECV
        if proposed == TCP_CONNTRACK_TIME_WAIT and _is_challenge_ack(info, direction, kind, old):
            info.last_flags &= ~window.CHALLENGE_EXPECTED
            skb.reason = TCP_CHALLENGE_ACK
            skb.numbers = (segment.ack, info.last_end)
            return UNCOUNTED
        if kind == KIND_RST:
            return self._rst(ct, info, skb, segment, direction, now)
        proposed = _simultaneous(info, direction, kind, proposed)
        return self._within(ct, info, skb, segment, direction, kind, old, proposed, now)

    def _begin(self, info: TcpInfo, segment: Segment, kind: int) -> int:
        """The first packet of a connection (tcp_new); OK or the reason it cannot be."""
        info.last_kind = KIND_NONE
        first = next_state(ORIGINAL, kind, TCP_CONNTRACK_NONE)
        if first == IV:
            return TCP_STATE
        side = info.sides[ORIGINAL]
        if first == TCP_CONNTRACK_SYN_SENT:
            window.open_side(side, segment)
            return OK
        if not self.loose:
            return TCP_NOT_SYN
        side.end = segment.end
        side.maxwin = segment.window or 1
        side.maxend = (side.end + side.maxwin) & M32
        side.flags = info.sides[REPLY].flags = window.SACK_PERM | window.BE_LIBERAL
        return OK

    def _rst(self, ct: NfConn, info: TcpInfo, skb: Skb, segment: Segment, direction: int, now: int) -> int:
        judgement = self._judge_rst(ct, info, segment, direction)
        if judgement == RST_REFUSE:
            skb.reason = TCP_RST
            skb.numbers = (segment.seq, info.sides[1 - direction].maxack)
            return REFUSED
        if judgement == RST_BELIEVE:
            return self._accept(ct, info, direction, KIND_RST, ct.state, TCP_CONNTRACK_CLOSE, now)
        proposed = ct.state if judgement == RST_DOUBT else TCP_CONNTRACK_CLOSE
        return self._within(ct, info, skb, segment, direction, KIND_RST, ct.state, proposed, now)

    def _judge_rst(self, ct: NfConn, info: TcpInfo, segment: Segment, direction: int) -> int:
        """Is this RST real? A forged one must hit the window; RFC 5961 lets the ends challenge a near miss."""
        if TCP_CONNTRACK_FIN_WAIT <= ct.state <= TCP_CONNTRACK_CLOSE:
            return RST_BELIEVE  # closing: the remembered numbers may be of an older use of the ports
        peer = info.sides[1 - direction]
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
            return RST_DOUBT
        let_through = (ct.status & IPS_SEEN_REPLY and info.last_kind == KIND_SYN) or (
            not ct.status & IPS_ASSURED and info.last_kind == KIND_ACK
        )
        if let_through and info.last_direction != direction and segment.ack == info.last_end:
            return RST_BELIEVE  # answers a packet that was ignored, not one that was checked
        if ct.state == TCP_CONNTRACK_SYN_SENT and info.last_kind == KIND_ACK and info.last_direction == REPLY:
            return RST_BELIEVE if segment.seq == info.last_ack else RST_CHECK  # answers a challenge ACK
        return RST_CHECK

    def _within(
        self,
        ct: NfConn,
        info: TcpInfo,
        skb: Skb,
        segment: Segment,
        direction: int,
        kind: int,
        old: int,
        proposed: int,
        now: int,
    ) -> int:
        """Apply the window check, then the new state."""
        fits = window.in_window(info, ct.state, segment, direction, kind, self.liberal, skb)
        if fits == window.IGNORED:
            return UNCOUNTED
        if fits == window.REFUSED:
            self._shorten_disturbed(ct, info, direction, kind, now)
            return REFUSED
        return self._accept(ct, info, direction, kind, old, proposed, now)

    def _shorten_disturbed(self, ct: NfConn, info: TcpInfo, direction: int, kind: int, now: int) -> None:
        """An INVALID FIN or RST, answered by another: the ends know better, so do not keep the entry for days."""
        if not ct.status & IPS_ASSURED or ct.status & IPS_FIXED_TIMEOUT or kind not in (KIND_FIN, KIND_RST):
            return
        if info.last_direction != direction and info.last_kind in (KIND_FIN, KIND_RST):
            if ct.remaining(now) >= max(LONG_ENOUGH, self.unacknowledged_timeout + 1):
                ct.timeout = now + self.unacknowledged_timeout
            return
        info.last_kind = kind
        info.last_direction = direction

    def _accept(self, ct: NfConn, info: TcpInfo, direction: int, kind: int, old: int, state: int, now: int) -> int:
        """The packet is part of the connection: new state, ASSURED, timeout."""
        info.last_kind = kind
        info.last_direction = direction
        ct.state = state
        if state != old:
            ct.pending_events |= IPCT_PROTOINFO
            if state == TCP_CONNTRACK_FIN_WAIT:
                info.sides[direction].flags |= CLOSE_INIT
        timeout = self._timeout(info, kind, state)
        if not ct.status & IPS_SEEN_REPLY:
            if kind == KIND_RST:
                return KILL  # the only answer is a refusal
            if kind == KIND_SYN and old == TCP_CONNTRACK_SYN_SENT:
                return UNCOUNTED  # or a retrying client would keep a dead entry, and its NAT, for ever
            if state == TCP_CONNTRACK_ESTABLISHED:
                timeout = min(timeout, self.unacknowledged_timeout)
        elif (
            state == TCP_CONNTRACK_ESTABLISHED
            and (old in (TCP_CONNTRACK_SYN_RECV, TCP_CONNTRACK_ESTABLISHED))
            and not ct.status & IPS_ASSURED
        ):
            ct.status |= IPS_ASSURED
            ct.pending_events |= IPCT_ASSURED
        ct.refresh(now, timeout)
        return TRACKED

    def lifetime(self, ct: NfConn) -> int:
        info = cast(TcpInfo, ct.proto)
        timeout = self._timeout(info, info.last_kind, ct.state)
        return timeout if ct.status & IPS_SEEN_REPLY else min(timeout, self.unacknowledged_timeout)

    def _timeout(self, info: TcpInfo, kind: int, state: int) -> int:
        timeout = self.timeouts[state]
        if info.retrans >= self.max_retrans and timeout > self.retrans_timeout:
            return self.retrans_timeout
        if kind == KIND_RST:
            return self.timeouts[TCP_CONNTRACK_CLOSE]
        unacknowledged = (info.sides[0].flags | info.sides[1].flags) & UNACKNOWLEDGED
        if unacknowledged and timeout > self.unacknowledged_timeout:
            return self.unacknowledged_timeout
        if info.last_win == 0 and timeout > self.retrans_timeout:
            return self.retrans_timeout
        return timeout


def _may_reopen(info: TcpInfo, direction: int) -> bool:
    """A SYN after the end starts afresh when the close was seen to begin, or this side has just reset."""
    closed = (info.sides[0].flags | info.sides[1].flags) & CLOSE_INIT
    return closed != 0 or (info.last_direction == direction and info.last_kind == KIND_RST)


def _resynchronises(info: TcpInfo, segment: Segment, direction: int, kind: int) -> bool:
    """A SYN+ACK for a SYN we ignored: the ends agree on a connection we missed. Take its numbers over."""
    if kind != KIND_SYNACK or info.last_kind != KIND_SYN or info.last_direction == direction:
        return False
    if segment.ack != info.last_end:
        return False
    caller = info.sides[info.last_direction]
    caller.end = caller.maxend = info.last_end
    caller.maxwin = info.last_win or 1
    caller.scale = info.last_scale
    info.last_flags &= ~window.CHALLENGE_EXPECTED
    caller.flags = info.last_flags
    info.sides[direction].forget()
    return True


def _remember_ignored(info: TcpInfo, segment: Segment, direction: int, kind: int, old: int) -> None:
    """Keep what an answer to this packet would refer to."""
    info.last_kind = kind
    info.last_direction = direction
    info.last_seq = segment.seq
    info.last_end = segment.end
    info.last_win = segment.window
    if kind == KIND_SYN and direction == ORIGINAL:
        offer = window.Side()
        segment.read_options(offer)
        info.last_flags = offer.flags
        info.last_scale = offer.scale
        if old == TCP_CONNTRACK_LAST_ACK:
            info.last_flags |= window.CHALLENGE_EXPECTED
    if old == TCP_CONNTRACK_SYN_SENT and kind == KIND_ACK and direction == REPLY:
        info.last_ack = segment.ack


def _is_challenge_ack(info: TcpInfo, direction: int, kind: int, old: int) -> bool:
    """In LAST_ACK an ACK may answer an ignored SYN instead of the FIN (RFC 5961 section 4)."""
    return (
        old == TCP_CONNTRACK_LAST_ACK
        and kind == KIND_ACK
        and info.last_direction != direction
        and info.last_kind == KIND_SYN
        and info.last_flags & window.CHALLENGE_EXPECTED != 0
    )


def _simultaneous(info: TcpInfo, direction: int, kind: int, proposed: int) -> int:
    """The table alone cannot tell that both ends called each other."""
    if proposed == TCP_CONNTRACK_SYN_SENT2:
        info.last_flags |= window.SIMULTANEOUS_OPEN
    elif proposed == TCP_CONNTRACK_SYN_RECV and direction == REPLY and kind == KIND_ACK:
        if info.last_flags & window.SIMULTANEOUS_OPEN:
            return TCP_CONNTRACK_ESTABLISHED
    return proposed
