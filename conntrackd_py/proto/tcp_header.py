"""What both TCP trackers read from the header: whether it is whole, its checksum, RST, and what starts or ends."""

from conntrackd_py.const import IPPROTO_TCP
from conntrackd_py.proto.header import PortProto, truncated, wrong_checksum
from conntrackd_py.reasons import OK
from conntrackd_py.wire import checksum, ip, tcp
from conntrackd_py.wire.packet import Packet


class TcpHeader(PortProto):
    name = "tcp"
    protonum = IPPROTO_TCP
    shows_state = True

    def check(self, packet: Packet, verify: bool) -> int:
        at = packet.dataoff
        if at + tcp.HEADER > packet.end:
            return truncated(packet, tcp.HEADER)
        header = tcp.data_offset(packet.data, at)
        if header < tcp.HEADER or at + header > packet.end:
            return truncated(packet, header)
        if verify and not checksum.valid(packet.data[at : packet.end], ip.pseudo_header(packet)):
            return wrong_checksum(packet, tcp.CHECKSUM_AT, packet.end, ip.pseudo_header(packet))
        return OK

    def resets(self, packet: Packet) -> bool:
        return packet.data[packet.dataoff + 13] & tcp.RST != 0

    def starts_or_ends(self, packet: Packet) -> bool:
        return packet.data[packet.dataoff + 13] & (tcp.SYN | tcp.RST) != 0
