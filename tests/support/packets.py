"""Packets for conversations: plain bytes, checksums right unless asked otherwise.

Small and fast on purpose; tests/unit/wire checks it against scapy.
"""

from __future__ import annotations

import ipaddress
import struct

from conntrackd_py.wire import checksum
from conntrackd_py.wire import sctp as wire_sctp


def address(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def ip(src: str, dst: str, proto: int, payload: bytes, *, ttl: int = 64) -> bytes:
    """An IPv4 or IPv6 packet, by the addresses; layer 4 as it is."""
    source, destination = address(src), address(dst)
    if len(source) == 16:
        return struct.pack(">IHBB", 6 << 28, len(payload), proto, ttl) + source + destination + payload
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, ttl, proto, 0) + source + destination
    return head[:10] + struct.pack(">H", checksum.finish(checksum.total(head))) + head[12:] + payload


def summed(src: str, dst: str, proto: int, body: bytes, at: int, *, pseudo: bool = True) -> bytes:
    """body with its checksum, at offset `at`, filled in."""
    cover = checksum.total(address(src) + address(dst)) + proto + len(body) if pseudo else 0
    value = checksum.finish(checksum.total(body) + cover)
    return body[:at] + struct.pack(">H", value) + body[at + 2 :]


def udp(src: str, dst: str, sport: int, dport: int, data: bytes = b"") -> bytes:
    body = struct.pack(">HHHH", sport, dport, 8 + len(data), 0) + data
    return ip(src, dst, 17, summed(src, dst, 17, body, 6))


FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16, "U": 32, "E": 64, "C": 128}


def tcp(
    src: str,
    dst: str,
    sport: int,
    dport: int,
    flags: str,
    *,
    seq: int = 0,
    ack: int = 0,
    window: int = 65535,
    data: bytes = b"",
    options: bytes = b"",
) -> bytes:
    options += b"\0" * (-len(options) % 4)
    bits = sum(FLAGS[flag] for flag in flags)
    head = struct.pack(
        ">HHIIBBHHH",
        sport,
        dport,
        seq & 0xFFFFFFFF,
        ack & 0xFFFFFFFF,
        (20 + len(options)) << 2,
        bits,
        window,
        0,
        0,
    )
    return ip(src, dst, 6, summed(src, dst, 6, head + options + data, 16))


def window_scale(shift: int) -> bytes:
    return bytes((1, 3, 3, shift))


SACK_PERMITTED = bytes((1, 1, 4, 2))


def sack(*edges: tuple[int, int]) -> bytes:
    blocks = b"".join(struct.pack(">II", left & 0xFFFFFFFF, right & 0xFFFFFFFF) for left, right in edges)
    return bytes((1, 1, 5, 2 + len(blocks))) + blocks


def icmp(src: str, dst: str, kind: int, code: int = 0, ident: int = 0, sequence: int = 1, data: bytes = b"") -> bytes:
    """ICMP or ICMPv6, by the addresses; ident and sequence are the second word of the header."""
    body = struct.pack(">BBHHH", kind, code, 0, ident, sequence) + data
    if ":" in src:
        return ip(src, dst, 58, summed(src, dst, 58, body, 2))
    return ip(src, dst, 1, summed(src, dst, 1, body, 2, pseudo=False))


def sctp(src: str, dst: str, sport: int, dport: int, tag: int, *chunks: tuple[int, bytes], flags: int = 0) -> bytes:
    """chunks: type and value of each."""
    body = struct.pack(">HHII", sport, dport, tag, 0)
    for kind, value in chunks:
        body += struct.pack(">BBH", kind, flags, 4 + len(value)) + value + bytes(-len(value) % 4)
    crc = wire_sctp.crc32c(body, 0, len(body))
    return ip(src, dst, 132, body[:8] + wire_sctp.put_checksum(crc) + body[12:])


def broken(packet: bytes) -> bytes:
    """The same packet with its last byte changed, so that its layer 4 checksum is wrong."""
    return packet[:-1] + bytes((packet[-1] ^ 0xFF,))


def hop(packet: bytes) -> bytes:
    """The packet after a router: its TTL or hop limit is one less."""
    at = 8 if packet[0] >> 4 == 4 else 7
    lower = packet[:at] + bytes((packet[at] - 1,)) + packet[at + 1 :]
    if at == 7:
        return lower
    return lower[:10] + struct.pack(">H", checksum.finish(checksum.total(lower[:10] + lower[12:20]))) + lower[12:]


def unfinished(packet: bytes) -> bytes:
    """A TCP or UDP packet whose checksum field holds the sum of the pseudo-header (CHECKSUM_PARTIAL)."""
    header, pair, proto = (20, packet[12:20], packet[9]) if packet[0] >> 4 == 4 else (40, packet[8:40], packet[6])
    at = header + (16 if proto == 6 else 6)
    value = (checksum.total(pair) + proto + len(packet) - header) % 65535
    return packet[:at] + struct.pack(">H", value) + packet[at + 2 :]


def fragments(packet: bytes, size: int, ident: int = 7) -> list[bytes]:
    """The packet as fragments with `size` bytes of payload, a multiple of 8."""
    four = packet[0] >> 4 == 4
    head, payload = packet[: 20 if four else 40], packet[20 if four else 40 :]
    found = []
    for start in range(0, len(payload), size):
        part, more = payload[start : start + size], start + size < len(payload)
        if four:
            fields = struct.pack(">HHH", 20 + len(part), ident, start // 8 | more << 13)
            found.append(head[:2] + fields + head[8:] + part)
        else:
            extension = struct.pack(">BBHI", head[6], 0, start | more, ident)
            found.append(head[:4] + struct.pack(">HB", 8 + len(part), 44) + head[7:] + extension + part)
    return found


def valid(packet: bytes) -> bool:
    """Whether the checksums of an IPv4 or IPv6 packet without extension headers hold."""
    if packet[0] >> 4 == 4:
        assert checksum.total(packet[:20]) == 0, "IP header checksum"
        pair, proto, body = packet[12:20], packet[9], packet[20:]
    else:
        pair, proto, body = packet[8:40], packet[6], packet[40:]
    pseudo = 0 if proto == 1 else checksum.total(pair) + proto + len(body)
    return checksum.valid(body, pseudo)
