"""The UDP and UDP-Lite trackers: unreplied, replied, and after two seconds a stream (nf_conntrack_udp_packet).

A query and its answer are over at once; only traffic that goes on both ways for longer than two seconds (the
tunable udp_stream_after) earns the long timeout and ASSURED. With 0 it is as in older kernels, and in drawings of
them: the first answer brings the long timeout, the third packet ASSURED.
"""

from typing import Final, cast, final

from conntrackd_py.conntrack.conn import NfConn, ProtoInfo
from conntrackd_py.conntrack.l4proto import TRACKED, PortProto, truncated, wrong_checksum
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import (
    IPCT_ASSURED,
    IPPROTO_UDP,
    IPPROTO_UDPLITE,
    IPS_ASSURED,
    IPS_NAT_CLASH,
    IPS_SEEN_REPLY,
    REPLY,
)
from conntrackd_py.reasons import OK
from conntrackd_py.wire import checksum, ip
from conntrackd_py.wire.packet import u16

HEADER: Final = 8
CHECKSUM_AT: Final = 6
AT_ONCE: Final = -1  # ms: a stream as soon as it is answered


@final
class UdpInfo(ProtoInfo):
    def __init__(self, stream_at: int) -> None:
        self.stream_at = stream_at


class Udp(PortProto):
    name = "udp"
    protonum = IPPROTO_UDP

    def __init__(self, tunables: Tunables) -> None:
        super().__init__()
        self.timeout = 0
        self.timeout_stream = 0
        self.stream_after = AT_ONCE
        self.first_answer = False  # whether the first answer brings the long timeout
        self.tune(tunables)

    def tune(self, tunables: Tunables) -> None:
        self.stream_after = tunables.udp_stream_after * 1000 or AT_ONCE
        self.first_answer = tunables.udp_stream_after == 0
        self.timeout = tunables.nf_conntrack_udp_timeout * 1000
        self.timeout_stream = tunables.nf_conntrack_udp_timeout_stream * 1000

    def check(self, skb: Skb, verify: bool) -> int:
        at = skb.dataoff
        if at + HEADER > skb.end:
            return truncated(skb, HEADER)
        length = u16(skb.data, at + 4)
        if length < HEADER or at + length > skb.end:
            return truncated(skb, length)
        if verify and u16(skb.data, at + 6) and not checksum.valid(skb.data[at : skb.end], ip.pseudo_header(skb)):
            return wrong_checksum(skb, CHECKSUM_AT, skb.end, ip.pseudo_header(skb))
        return OK

    def lifetime(self, ct: NfConn) -> int:
        return self.timeout_stream if ct.status & IPS_ASSURED else self.timeout

    def adopt(self, ct: NfConn) -> None:
        ct.proto = UdpInfo(AT_ONCE)  # nobody knows when it began

    def packet(self, ct: NfConn, skb: Skb, direction: int, now: int, new: bool) -> int:
        if new:
            ct.proto = UdpInfo(now + self.stream_after)
        if not ct.status & IPS_SEEN_REPLY or now <= cast(UdpInfo, ct.proto).stream_at:
            answered = self.first_answer and direction == REPLY
            ct.refresh(now, self.timeout_stream if answered else self.timeout)
            return TRACKED
        ct.refresh(now, self.timeout_stream)
        if not ct.status & (IPS_ASSURED | IPS_NAT_CLASH):
            ct.status |= IPS_ASSURED
            ct.pending_events |= IPCT_ASSURED
        return TRACKED


@final
class UdpLite(Udp):
    """RFC 3828: the length field says how much the checksum covers, 0 meaning all; it may not be absent.

    A stream from the second packet after the first answer. The kernel computes the checksum with UDP's protocol
    number and so calls every right one wrong; we follow the RFC.
    """

    name = "udplite"
    protonum = IPPROTO_UDPLITE

    def tune(self, tunables: Tunables) -> None:
        super().tune(tunables)
        self.stream_after = AT_ONCE

    def check(self, skb: Skb, verify: bool) -> int:
        at = skb.dataoff
        if at + HEADER > skb.end:
            return truncated(skb, HEADER)
        coverage = u16(skb.data, at + 4) or skb.end - at
        if coverage < HEADER or at + coverage > skb.end:
            return truncated(skb, coverage)
        if u16(skb.data, at + 6) == 0:
            return wrong_checksum(skb, CHECKSUM_AT, at + coverage, ip.pseudo_header(skb))
        if verify and not checksum.valid(skb.data[at : at + coverage], ip.pseudo_header(skb)):
            return wrong_checksum(skb, CHECKSUM_AT, at + coverage, ip.pseudo_header(skb))
        return OK
