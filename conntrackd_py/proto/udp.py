"""The UDP and UDP-Lite trackers: unreplied, replied, and after two seconds a stream (nf_conntrack_udp_packet).

Only traffic in both directions for longer than two seconds (udp_stream_after) gets the long timeout and ASSURED. With
udp_stream_after = 0, as in older kernels, the first answer brings the long timeout and the third packet ASSURED.
"""

from typing import Final, final

from conntrackd_py.conntrack.conn import TRACKED, NfConn, ProtoInfo
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import (
    IPPROTO_UDP,
    IPPROTO_UDPLITE,
    IPS_ASSURED,
    IPS_NAT_CLASH,
    IPS_SEEN_REPLY,
    REPLY,
)
from conntrackd_py.proto.header import PortProto, truncated, wrong_checksum
from conntrackd_py.reasons import OK
from conntrackd_py.wire import checksum, ip
from conntrackd_py.wire.packet import Packet, u16

HEADER: Final = 8
CHECKSUM_AT: Final = 6
AT_ONCE: Final = -1  # ms: a stream from the first answer on


AGED: Final = ProtoInfo()  # NfConn.proto of a connection whose age is unknown; others have none
PACKED_AGED: Final = b"a"


class Udp(PortProto):
    name = "udp"
    protonum = IPPROTO_UDP
    layout = 1

    def tune(self, tunables: Tunables) -> None:
        self.stream_after = tunables.udp_stream_after * 1000 or AT_ONCE
        self.first_answer = tunables.udp_stream_after == 0  # the first answer brings the long timeout
        self.timeout = tunables.nf_conntrack_udp_timeout * 1000
        self.timeout_stream = tunables.nf_conntrack_udp_timeout_stream * 1000

    def check(self, packet: Packet, verify: bool) -> int:
        at = packet.dataoff
        if at + HEADER > packet.end:
            return truncated(packet, HEADER)
        length = u16(packet.data, at + 4)
        if length < HEADER or at + length > packet.length:
            return truncated(packet, length)
        if (
            verify
            and u16(packet.data, at + 6)
            and not checksum.valid(packet.data[at : packet.end], ip.pseudo_header(packet))
        ):
            return wrong_checksum(packet, CHECKSUM_AT, packet.end, ip.pseudo_header(packet))
        return OK

    def lifetime(self, ct: NfConn) -> int:
        return self.timeout_stream if ct.status & IPS_ASSURED else self.timeout

    def adopt(self, ct: NfConn) -> None:
        ct.proto = AGED

    def pack_info(self, ct: NfConn) -> bytes:
        return PACKED_AGED if ct.proto is AGED else b""

    def unpack_info(self, ct: NfConn, data: bytes) -> bool:
        if data == PACKED_AGED:
            ct.proto = AGED
        return len(data) <= len(PACKED_AGED)

    def packet(self, ct: NfConn, packet: Packet, direction: int, now: int, new: bool) -> int:
        if not ct.status & IPS_SEEN_REPLY or (now <= ct.born + self.stream_after and ct.proto is not AGED):
            answered = self.first_answer and direction == REPLY
            ct.refresh(now, self.timeout_stream if answered else self.timeout)
            return TRACKED
        ct.refresh(now, self.timeout_stream)
        if not ct.status & (IPS_ASSURED | IPS_NAT_CLASH):
            ct.assure()
        return TRACKED


@final
class UdpLite(Udp):
    """RFC 3828: the length field is the checksum coverage, 0 for the whole packet; the checksum is mandatory.

    A stream from the second packet after the first answer. The kernel computes the checksum with UDP's protocol
    number, so it refuses every correct one; this tracker follows the RFC.
    """

    name = "udplite"
    protonum = IPPROTO_UDPLITE

    def tune(self, tunables: Tunables) -> None:
        super().tune(tunables)
        self.stream_after = AT_ONCE

    def check(self, packet: Packet, verify: bool) -> int:
        at = packet.dataoff
        if at + HEADER > packet.end:
            return truncated(packet, HEADER)
        coverage = u16(packet.data, at + 4) or packet.length - at
        if coverage < HEADER or at + coverage > packet.length:
            return truncated(packet, coverage)
        if u16(packet.data, at + 6) == 0:
            return wrong_checksum(packet, CHECKSUM_AT, at + coverage, ip.pseudo_header(packet))
        if verify and not checksum.valid(packet.data[at : at + coverage], ip.pseudo_header(packet)):
            return wrong_checksum(packet, CHECKSUM_AT, at + coverage, ip.pseudo_header(packet))
        return OK
