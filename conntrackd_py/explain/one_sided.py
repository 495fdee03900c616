"""One-sided flows: TCP connections of which only one end's packets come this way (asymmetric routing).

The signs, each of which TCP itself rules out when both ends are seen:

    ACK or FIN of the caller, and nothing was answered yet     the answers take another way
    SYN+ACK for no connection                                  the SYN took another way
    picked up in mid-stream, timed out, never answered         so do the answers

A flow is counted once, as long as it is remembered: `limit` of them, the oldest is forgotten first.
Silence after a SYN, or UDP that nobody answers, is no sign: that is what an absent host looks like.
"""

from collections import OrderedDict
from typing import Final, final

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.core import Extension
from conntrackd_py.const import IPPROTO_TCP, IPS_CONFIRMED, IPS_SEEN_REPLY, ORIGINAL
from conntrackd_py.proto.tcp_states import KIND_ACK, KIND_FIN, KIND_SYNACK, TCP_CONNTRACK_NONE, TCP_CONNTRACK_SYN_SENT
from conntrackd_py.reasons import END_TIMEOUT

ONE_SIDED_LIMIT: Final = 4096


@final
class OneSided(Extension):
    def __init__(self, limit: int = ONE_SIDED_LIMIT) -> None:
        self.limit = limit
        self.flows = 0  # how many there were
        self.known: OrderedDict[bytes, int] = OrderedDict()  # tuple of the side that was seen -> ms when first noticed

    def refused(self, t: bytes, numbers: tuple[int, ...], ct: NfConn | None, now: int) -> None:
        """A TCP packet with tuple t is INVALID for TCP_STATE; numbers: its direction, kind, and the state it met."""
        direction, kind, state = numbers[0], numbers[1], numbers[2]
        if kind == KIND_SYNACK and state == TCP_CONNTRACK_NONE:
            self._notice(t, now)
        elif kind in (KIND_ACK, KIND_FIN) and state == TCP_CONNTRACK_SYN_SENT and direction == ORIGINAL:
            if ct is not None and not ct.status & IPS_SEEN_REPLY:
                self._notice(t, now)

    def destroyed(self, ct: NfConn) -> None:
        if ct.end_reason != END_TIMEOUT or ct.status & IPS_SEEN_REPLY or not ct.status & IPS_CONFIRMED:
            return
        if ct.l4proto.protonum == IPPROTO_TCP and ct.state != TCP_CONNTRACK_SYN_SENT:
            self._notice(ct.original, ct.ended)

    def _notice(self, t: bytes, now: int) -> None:
        if t in self.known:
            return
        self.flows += 1
        self.known[t] = now
        if len(self.known) > self.limit:
            self.known.popitem(last=False)
