"""What trackers share: tuples of ports, and the two refusals of a broken layer 4 header."""

from conntrackd_py.conntrack.conn import L4Proto, NfConn
from conntrackd_py.const import IPS_ASSURED, IPS_SEEN_REPLY
from conntrackd_py.reasons import COPY_TRUNCATED, L4_CHECKSUM, L4_TRUNCATED
from conntrackd_py.wire import checksum
from conntrackd_py.wire.packet import Packet, u16


class PortProto(L4Proto):
    """A protocol whose header begins with source and destination port."""

    ports = True

    def l4(self, packet: Packet) -> bytes:
        at = packet.dataoff
        return packet.data[at : at + 4] if at + 4 <= packet.end else b""

    def in_use(self, ct: NfConn) -> bool:
        return ct.status & (IPS_ASSURED | IPS_SEEN_REPLY) != 0


def truncated(packet: Packet, needed: int) -> int:
    """L4_TRUNCATED: layer 4 is shorter than needed, or than its length field says. COPY_TRUNCATED: only the copy is."""
    packet.numbers = (packet.end - packet.dataoff, needed)
    return COPY_TRUNCATED if packet.end < packet.dataoff + needed <= packet.length else L4_TRUNCATED


def wrong_checksum(packet: Packet, at: int, end: int, pseudo: int) -> int:
    """L4_CHECKSUM: the field `at` bytes into layer 4 is wrong; it covers layer 4 up to `end`."""
    field = packet.dataoff + at
    others = packet.data[packet.dataoff : field] + b"\0\0" + packet.data[field + 2 : end]
    packet.numbers = (u16(packet.data, field), checksum.finish(checksum.total(others) + pseudo))
    return L4_CHECKSUM
