"""IPv4 and IPv6 headers: find the layer 4 header, read addresses, build pseudo-header sums.

With `quoted` the same code reads a packet quoted in an ICMP error, whose tail is cut off. Of a copy (packet.copy) the
tail may be missing too; what the headers say about its length holds.
Sources: RFC 791, RFC 8200; kernel ipv4_get_l4proto, ipv6_skip_exthdr.
"""

from typing import Final

from conntrackd_py.const import (
    IPPROTO_AH,
    IPPROTO_DSTOPTS,
    IPPROTO_FRAGMENT,
    IPPROTO_HOPOPTS,
    IPPROTO_NONE,
    IPPROTO_ROUTING,
)
from conntrackd_py.reasons import COPY_TRUNCATED, IP_FRAGMENT, IP_HEADER, IP_TRUNCATED, IP_VERSION, OK
from conntrackd_py.wire.checksum import total
from conntrackd_py.wire.packet import Packet, u16, u32

V4_HEADER: Final = 20
V6_HEADER: Final = 40
EXTENSIONS: Final = frozenset({IPPROTO_HOPOPTS, IPPROTO_ROUTING, IPPROTO_FRAGMENT, IPPROTO_DSTOPTS, IPPROTO_AH})


def parse(packet: Packet, quoted: bool = False) -> int:
    """Set version, protonum, dataoff, end and length; returns OK or the reason the header cannot be read."""
    data = packet.data
    if len(data) < V4_HEADER:
        packet.numbers = (len(data), V4_HEADER)
        return IP_TRUNCATED
    version = data[0] >> 4
    if version == 4:
        return _parse_v4(packet, data, quoted)
    if version == 6:
        return _parse_v6(packet, data, quoted)
    packet.numbers = (version,)
    return IP_VERSION


def _parse_v4(packet: Packet, data: bytes, quoted: bool) -> int:
    header = (data[0] & 15) * 4
    end = u16(data, 2)
    if header < V4_HEADER:
        packet.numbers = (header, V4_HEADER)
        return IP_HEADER
    if quoted:
        end = len(data)
    packet.length = end
    if packet.copy and end > len(data):
        end = len(data)
    if end > len(data) or header > end:
        packet.numbers = (min(end, len(data)), max(end, header))
        return IP_TRUNCATED if header > packet.length or end > len(data) else COPY_TRUNCATED
    packet.version = 4
    packet.protonum = data[9]
    packet.dataoff = header
    packet.end = end
    if u16(data, 6) & 0x3FFF and (not quoted or u16(data, 6) & 0x1FFF):
        packet.numbers = ((u16(data, 6) & 0x1FFF) * 8, u16(data, 4))
        return IP_FRAGMENT
    return OK


def _parse_v6(packet: Packet, data: bytes, quoted: bool) -> int:
    if len(data) < V6_HEADER:
        packet.numbers = (len(data), V6_HEADER)
        return IP_TRUNCATED
    end = V6_HEADER + u16(data, 4)
    if quoted or (end == V6_HEADER and data[6] == IPPROTO_HOPOPTS):  # a jumbogram: its length is in an option
        if packet.copy:
            packet.numbers = (len(data), 0)
            return COPY_TRUNCATED
        end = len(data)
    packet.length = end
    if packet.copy and end > len(data):
        end = len(data)
    if end > len(data):
        packet.numbers = (len(data), end)
        return IP_TRUNCATED
    packet.version = 6
    packet.end = end
    return _skip_extensions(packet, data, data[6], 0xFFF8 if quoted else 0xFFF9)


def _skip_extensions(packet: Packet, data: bytes, following: int, fragment: int) -> int:
    """Find layer 4. fragment: the bits of a fragment header that make this a fragment to refuse."""
    end = packet.end
    at = V6_HEADER
    while True:
        packet.protonum = following
        packet.dataoff = at
        if following == IPPROTO_NONE:
            return _broken_chain(packet, following, at)
        if following not in EXTENSIONS:
            return OK
        if at + 8 > end:
            return _broken_chain(packet, following, at)
        if following == IPPROTO_FRAGMENT and u16(data, at + 2) & fragment:
            packet.numbers = (u16(data, at + 2) & 0xFFF8, u32(data, at + 4))
            return IP_FRAGMENT
        following, at = data[at], at + _extension_length(data, following, at)
        if at > end:
            return _broken_chain(packet, following, at)


def _broken_chain(packet: Packet, following: int, at: int) -> int:
    if packet.end < packet.length and following != IPPROTO_NONE and at <= packet.length:
        packet.numbers = (packet.end, packet.length)
        return COPY_TRUNCATED
    packet.numbers = (following, at, packet.end)
    return IP_HEADER


def _extension_length(data: bytes, kind: int, at: int) -> int:
    if kind == IPPROTO_FRAGMENT:
        return 8
    if kind == IPPROTO_AH:
        return (data[at + 1] + 2) * 4
    return (data[at + 1] + 1) * 8


def addresses(packet: Packet) -> bytes:
    """Source and destination address in a row: 8 bytes for IPv4, 32 for IPv6."""
    if packet.version == 4:
        return packet.data[12:20]
    return packet.data[8:40]


def destination(packet: Packet) -> bytes:
    return packet.data[16:20] if packet.version == 4 else packet.data[24:40]


def pseudo_header(packet: Packet) -> int:
    """Sum of the pseudo-header for a layer 4 checksum over data[dataoff:end] (RFC 793, RFC 8200 8.1)."""
    return total(addresses(packet)) + packet.protonum + packet.end - packet.dataoff
