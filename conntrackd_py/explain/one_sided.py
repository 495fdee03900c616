"""One-sided flows: TCP connections of which the router sees only one direction (asymmetric routing).

The signs; TCP excludes each of them when both directions are seen:

    ACK or FIN of the client while no reply was seen           the replies take another path
    SYN+ACK without a connection                               the SYN took another path
    picked up in mid-stream, expired, no reply seen            the replies take another path

A flow is counted once while it is kept: `limit` flows, the oldest is evicted first. A SYN or a UDP packet without an
answer is no sign: the host may be absent.
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
        self.flows = 0  # counted ever
        self.known: OrderedDict[bytes, int] = OrderedDict()  # tuple of the direction that was seen -> ms

    def refused(self, t: bytes, numbers: tuple[int, ...], ct: NfConn | None, now: int) -> None:
        """A TCP packet with tuple t is INVALID (TCP_STATE); numbers: direction, kind, state."""
        direction, kind, state = numbers[0], numbers[1], numbers[2]
        if kind == KIND_SYNACK and state == TCP_CONNTRACK_NONE:
            self._count(t, now)
        elif kind in (KIND_ACK, KIND_FIN) and state == TCP_CONNTRACK_SYN_SENT and direction == ORIGINAL:
            if ct is not None and not ct.status & IPS_SEEN_REPLY:
                self._count(t, now)

    def destroyed(self, ct: NfConn) -> None:
        if ct.end_reason != END_TIMEOUT or ct.status & IPS_SEEN_REPLY or not ct.status & IPS_CONFIRMED:
            return
        if ct.l4proto.protonum == IPPROTO_TCP and ct.state != TCP_CONNTRACK_SYN_SENT:
            self._count(ct.original, ct.ended)

    def _count(self, t: bytes, now: int) -> None:
        if t in self.known:
            return
        self.flows += 1
        self.known[t] = now
        if len(self.known) > self.limit:
            self.known.popitem(last=False)
