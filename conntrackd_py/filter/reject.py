"""The answer to a rejected packet, as bytes: a TCP RST or an ICMP unreachable.

The packet is given as its sender sent it; the caller undoes a translated destination first. The answer comes from the
packet's destination. An ICMP answer has no source address unless one is given: the sender of the answer knows its
route and fills it in (`with_source`).
No answer to an ICMP error, a RST, a broadcast or multicast, an unreadable packet, a wrong checksum.
Sources: nf_reject_ip_tcphdr_put, nf_send_unreach, icmp_send; RFC 1122 3.2.2, RFC 4443 2.4, RFC 9293 3.10.7.1.
"""

from typing import Final

from conntrackd_py.const import IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP
from conntrackd_py.wire import checksum, icmp, ip, tcp
from conntrackd_py.wire.packet import Packet, put16, u16, u32

PORT_UNREACHABLE: Final = 0
TCP_RESET: Final = 1
ADMIN_PROHIBITED: Final = 2
HOST_UNREACHABLE: Final = 3
NET_UNREACHABLE: Final = 4
PROTO_UNREACHABLE: Final = 5
NET_PROHIBITED: Final = 6
HOST_PROHIBITED: Final = 7
POLICY_FAIL: Final = 8
REJECT_ROUTE: Final = 9
NO_CODE: Final = -1
CODES_V4: Final = (3, NO_CODE, 13, 1, 0, 2, 9, 10, 13, 0)  # ICMP code by kind
CODES_V6: Final = (4, NO_CODE, 1, 3, 0, 4, 1, 1, 5, 6)
KINDS: Final = {
    "icmp-port-unreachable": PORT_UNREACHABLE,
    "tcp-reset": TCP_RESET,
    "icmp-admin-prohibited": ADMIN_PROHIBITED,
    "icmp-host-unreachable": HOST_UNREACHABLE,
    "icmp-net-unreachable": NET_UNREACHABLE,
    "icmp-proto-unreachable": PROTO_UNREACHABLE,
    "icmp-net-prohibited": NET_PROHIBITED,
    "icmp-host-prohibited": HOST_PROHIBITED,
    "icmp6-port-unreachable": PORT_UNREACHABLE,
    "icmp6-adm-prohibited": ADMIN_PROHIBITED,
    "icmp6-addr-unreachable": HOST_UNREACHABLE,
    "icmp6-no-route": NET_UNREACHABLE,
    "icmp6-policy-fail": POLICY_FAIL,
    "icmp6-reject-route": REJECT_ROUTE,
}  # the names of iptables and ip6tables; a packet of the other family gets the nearest code

HOPS: Final = 64
MOST_V4: Final = 576  # bytes of an ICMP error (RFC 1812 4.3.2.3)
MOST_V6: Final = 1280
V6_UNREACHABLE: Final = 1
INTERNETCONTROL: Final = 0xC0  # precedence of an ICMP error
UNSPECIFIED_V4: Final = bytes(4)
UNSPECIFIED_V6: Final = bytes(16)


def answer(packet: Packet, kind: int, source: bytes = b"") -> bytes:
    """The answer to a parsed packet; empty for none. source: of an ICMP answer; empty: filled in later."""
    if packet.version == 0 or ip.parse(packet) or not _answerable(packet):
        return b""
    if kind == TCP_RESET:
        return _reset(packet) if packet.protonum == IPPROTO_TCP else b""
    return _unreachable_v4(packet, kind, source) if packet.version == 4 else _unreachable_v6(packet, kind, source)


def _answerable(packet: Packet) -> bool:
    pair = ip.addresses(packet)
    half = len(pair) // 2
    if not _is_unicast(pair[:half]) or not _is_unicast(pair[half:]):
        return False
    at, data = packet.dataoff, packet.data
    if packet.protonum in (IPPROTO_ICMP, IPPROTO_ICMPV6):
        if at + icmp.HEADER > packet.end:
            return False
        if packet.version == 4:
            return data[at] <= icmp.HIGHEST_TYPE and not icmp.is_error(data[at])
        return data[at] >= 128 and data[at] != icmp.V6_REDIRECT
    if packet.protonum == IPPROTO_TCP:
        return at + tcp.HEADER <= packet.end and _checksum_holds(packet)
    if packet.protonum == IPPROTO_UDP and at + 8 <= packet.end and u16(data, at + 6):
        return _checksum_holds(packet)
    return True


def _is_unicast(address: bytes) -> bool:
    if len(address) == 4:
        return address[0] < 224 and address != UNSPECIFIED_V4
    return address[0] != 0xFF and address != UNSPECIFIED_V6


def _checksum_holds(packet: Packet) -> bool:
    """A partial checksum counts as right."""
    return packet.checksum_partial or checksum.valid(packet.data[packet.dataoff : packet.end], ip.pseudo_header(packet))


def _reset(packet: Packet) -> bytes:
    data, at = packet.data, packet.dataoff
    flags = data[at + 13]
    if flags & tcp.RST:
        return b""
    seq = acked = 0
    answer_flags = tcp.RST
    if flags & tcp.ACK:
        seq = u32(data, at + 8)
    else:
        length = packet.end - at - tcp.data_offset(data, at)
        acked = u32(data, at + 4) + length + (flags & tcp.SYN != 0) + (flags & tcp.FIN != 0)
        answer_flags |= tcp.ACK
    header = data[at + 2 : at + 4] + data[at : at + 2] + seq.to_bytes(4, "big")
    header += (acked & 0xFFFFFFFF).to_bytes(4, "big") + bytes((tcp.HEADER // 4 << 4, answer_flags, 0, 0, 0, 0, 0, 0))
    pair = _back(packet)
    cover = checksum.total(pair) + IPPROTO_TCP + tcp.HEADER
    header = _with_checksum(header, 16, cover)
    if packet.version == 4:
        return _ip_v4(pair, IPPROTO_TCP, header, 0, 0x4000)
    return _ip_v6(pair, IPPROTO_TCP, header)


def _back(packet: Packet) -> bytes:
    """The address pair of an answer."""
    pair = ip.addresses(packet)
    half = len(pair) // 2
    return pair[half:] + pair[:half]


def _unreachable_v4(packet: Packet, kind: int, source: bytes) -> bytes:
    if CODES_V4[kind] == NO_CODE:
        return b""
    quoted = packet.data[: min(packet.end, MOST_V4 - ip.V4_HEADER - icmp.HEADER)]
    message = bytes((icmp.DEST_UNREACH, CODES_V4[kind], 0, 0, 0, 0, 0, 0)) + quoted
    pair = (source or UNSPECIFIED_V4) + packet.data[12:16]
    return _ip_v4(pair, IPPROTO_ICMP, _with_checksum(message, 2, 0), packet.data[1] & 0x1E | INTERNETCONTROL, 0)


def _unreachable_v6(packet: Packet, kind: int, source: bytes) -> bytes:
    quoted = packet.data[: min(packet.end, MOST_V6 - ip.V6_HEADER - icmp.HEADER)]
    message = bytes((V6_UNREACHABLE, CODES_V6[kind], 0, 0, 0, 0, 0, 0)) + quoted
    pair = (source or UNSPECIFIED_V6) + packet.data[8:24]
    cover = checksum.total(pair) + IPPROTO_ICMPV6 + len(message)
    return _ip_v6(pair, IPPROTO_ICMPV6, _with_checksum(message, 2, cover))


def _with_checksum(data: bytes, at: int, cover: int) -> bytes:
    return data[:at] + put16(checksum.finish(checksum.total(data) + cover)) + data[at + 2 :]


def _ip_v4(pair: bytes, protonum: int, payload: bytes, tos: int, fragment: int) -> bytes:
    length = ip.V4_HEADER + len(payload)
    header = bytes((0x45, tos)) + put16(length) + put16(0) + put16(fragment) + bytes((HOPS, protonum, 0, 0)) + pair
    return _with_checksum(header, 10, 0) + payload


def _ip_v6(pair: bytes, protonum: int, payload: bytes) -> bytes:
    return bytes((0x60, 0, 0, 0)) + put16(len(payload)) + bytes((protonum, HOPS)) + pair + payload


def lacks_source(data: bytes) -> bool:
    """Whether an answer has no source address yet."""
    return data[12:16] == UNSPECIFIED_V4 if data[0] >> 4 == 4 else data[8:24] == UNSPECIFIED_V6


def with_source(data: bytes, source: bytes) -> bytes:
    """The answer with its source address filled in."""
    new = checksum.total(source)
    if len(source) == 4:
        return data[:10] + put16(checksum.adjust(u16(data, 10), 0, new)) + source + data[16:]
    at = ip.V6_HEADER + 2
    return data[:8] + source + data[24:at] + put16(checksum.adjust(u16(data, at), 0, new)) + data[at + 2 :]
