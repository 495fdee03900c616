"""Rewriting: one address and one port (or ICMP id) of a packet, and its checksums (RFC 1624).

A packet gets the values of the inverted tuple of the connection's other direction. Of an ICMP error the quoted packet
is rewritten the opposite way, so that the receiver recognises it, and the outer header like any packet of that
direction.
Sources: nf_nat_manip_pkt, nf_nat_icmp_reply_translation; RFC 5508 sections 4 and 5.
"""

from typing import Final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.const import (
    IPPROTO_DCCP,
    IPPROTO_GRE,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_SCTP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    IPPROTO_UDPLITE,
    MANIP_DST,
    MANIP_SRC,
)
from conntrackd_py.wire import checksum, ip, sctp
from conntrackd_py.wire.packet import Packet, put16, u16

HEAD: Final = 20  # bytes of layer 4 that may change
LARGE: Final = 4096  # bytes, from which on a second copy costs more than a memoryview
ID_AT: Final = 4  # the identifier of an ICMP query
CALL_ID_AT: Final = 6
NOWHERE: Final = -1


def checksum_at(protonum: int) -> int:
    """Offset in the layer 4 header of a checksum that covers the addresses; NOWHERE without one."""
    if protonum == IPPROTO_TCP:
        return 16
    if protonum in (IPPROTO_UDP, IPPROTO_UDPLITE, IPPROTO_DCCP):
        return 6
    if protonum in (IPPROTO_ICMPV6, IPPROTO_ICMP):
        return 2
    return NOWHERE


def _field_at(protonum: int, manip: int, ports: bool) -> int:
    """Offset in the layer 4 header of the port or id that NAT may change; NOWHERE without one."""
    if protonum in (IPPROTO_ICMP, IPPROTO_ICMPV6):
        return ID_AT
    if not ports:
        return NOWHERE
    return 0 if manip == MANIP_SRC else 2


def rewrite(packet: Packet, pair: bytes, field_at: int, field: bytes) -> bytes:
    """The packet with another address pair and other two bytes at field_at in layer 4 (NOWHERE: no such field)."""
    data = packet.data
    at = packet.dataoff
    old = checksum.total(ip.addresses(packet))
    new = checksum.total(pair)
    if packet.version == 4:
        header = data[:10] + put16(checksum.adjust(u16(data, 10), old, new)) + pair + data[20:at]
    else:
        header = data[:8] + pair + data[40:at]
    l4 = data[at : at + HEAD]
    if packet.protonum == IPPROTO_ICMP:
        old = new = 0  # its checksum has no pseudo-header
    if packet.checksum_partial:
        old, new = new, old  # the sum itself, not its complement
    if field_at >= 0 and at + field_at + 2 <= packet.end:
        if not packet.checksum_partial:
            old += u16(l4, field_at)
            new += u16(field, 0)
        l4 = _replaced(l4, field_at, field)
    sum_at = checksum_at(packet.protonum)
    if sum_at >= 0 and at + sum_at + 2 <= packet.end:
        value = u16(l4, sum_at)
        if value or packet.protonum != IPPROTO_UDP:  # UDP: 0 is "no checksum" and stays
            value = checksum.adjust(value, old, new)
            if value == 0 and packet.protonum in (IPPROTO_UDP, IPPROTO_UDPLITE):
                value = 0xFFFF  # 0 would say that there is none
            l4 = _replaced(l4, sum_at, put16(value))
    if len(data) > LARGE:
        return b"".join((header, l4, memoryview(data)[at + HEAD :]))
    return header + l4 + data[at + HEAD :]


def _replaced(data: bytes, at: int, two: bytes) -> bytes:
    """data with other two bytes at this offset."""
    return data[:at] + two + data[at + 2 :]


def translate(packet: Packet, other: bytes, manip: int, ports: bool) -> None:
    """Set the source (or destination) from `other`, the tuple of the opposite direction."""
    pair = ip.addresses(packet)
    n = len(pair) // 2
    field_at = _field_at(packet.protonum, manip, ports)
    if manip == MANIP_SRC:
        pair = tuples.dst(other) + pair[n:]
        field = tuples.l4(other)[2:]
    else:
        pair = pair[:n] + tuples.src(other)
        field = tuples.l4(other)[:2]
    if field_at == ID_AT:
        field = tuples.l4(other)[:2]
    if manip == MANIP_DST and packet.protonum == IPPROTO_GRE and _has_call_id(packet):
        field_at = CALL_ID_AT
    packet.data = rewrite(packet, pair, field_at, field)
    if packet.checksum_partial and not packet.segments:
        finish_checksum(packet)  # the kernel takes the checksum of a returned packet for complete
    if packet.protonum == IPPROTO_SCTP and packet.dataoff + sctp.HEADER <= packet.end:
        at = packet.dataoff + 8  # its checksum covers the ports but not the addresses, and cannot be adjusted
        crc = sctp.put_checksum(sctp.crc32c(packet.data, packet.dataoff, packet.end))
        packet.data = packet.data[:at] + crc + packet.data[at + 4 :]


def _has_call_id(packet: Packet) -> bool:
    """Whether this GRE packet is of version 1: it has the call id of its receiver."""
    at = packet.dataoff
    return at + CALL_ID_AT + 2 <= packet.end and packet.data[at + 1] & 7 == 1


def finish_checksum(packet: Packet) -> None:
    """Compute the layer 4 checksum of a packet with a partial one."""
    packet.checksum_partial = False
    sum_at = checksum_at(packet.protonum)
    field = packet.dataoff + sum_at
    if sum_at < 0 or packet.protonum == IPPROTO_ICMP or field + 2 > packet.end:
        return
    data = packet.data
    others = data[packet.dataoff : field] + b"\0\0" + data[field + 2 : packet.end]
    value = checksum.finish(checksum.total(others) + ip.pseudo_header(packet))
    if value == 0 and packet.protonum in (IPPROTO_UDP, IPPROTO_UDPLITE):
        value = 0xFFFF
    packet.data = data[:field] + put16(value) + data[field + 2 :]


def _rewrite_quoted(quoted: Packet, other: bytes, manip: int, ports: bool) -> bytes:
    """The quoted packet with the source (or destination) of the tuple `other`."""
    pair = ip.addresses(quoted)
    n = len(pair) // 2
    field = tuples.l4(other)[:2]
    field_at = _field_at(quoted.protonum, manip, ports)
    if manip == MANIP_SRC:
        pair = tuples.src(other) + pair[n:]
    else:
        pair = pair[:n] + tuples.dst(other)
        if field_at != ID_AT:
            field = tuples.l4(other)[2:]
    return rewrite(quoted, pair, field_at, field)


def translate_error(packet: Packet, inner_at: int, other: bytes, manip: int, ports: bool) -> bool:
    """Rewrite an ICMP error about the connection; False when its quoted packet cannot be read."""
    quoted = Packet(packet.data[inner_at : packet.end])
    if ip.parse(quoted, quoted=True):
        return False
    at = packet.dataoff
    opposite = MANIP_DST if manip == MANIP_SRC else MANIP_SRC
    inner = _rewrite_quoted(quoted, other, opposite, ports)
    pair = ip.addresses(packet)
    n = len(pair) // 2
    pair = tuples.dst(other) + pair[n:] if manip == MANIP_SRC else pair[:n] + tuples.src(other)
    tail = packet.data[packet.end :]
    packet.data = packet.data[:inner_at] + inner + tail
    packet.data = rewrite(packet, pair, NOWHERE, b"")
    _finish_icmp(packet, at)
    return True


def _finish_icmp(packet: Packet, at: int) -> None:
    """Compute the ICMP checksum anew: changes in the quoted packet may be at odd offsets."""
    head = packet.data[: at + 2]
    body = packet.data[at + 4 : packet.end]
    pseudo = ip.pseudo_header(packet) if packet.protonum == IPPROTO_ICMPV6 else 0
    value = checksum.finish(checksum.total(packet.data[at : at + 2]) + checksum.total(body) + pseudo)
    packet.data = head + put16(value) + packet.data[at + 4 :]
