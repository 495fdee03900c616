"""The headers of a packet as one line, as far as its bytes reach.

    tcp 192.168.1.2:40000 > 198.51.100.2:80 [S.] seq 200 ack 101 win 65535 len 0
    icmp 198.51.100.2 > 192.168.1.2 type 3 code 3, about: udp 192.168.1.2:40000 > 198.51.100.2:53 len 12

`fields` gives the same as a dict. The payload is never shown.
"""

from typing import Final

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_TCP, PROTO_NAMES, WITH_PORTS
from conntrackd_py.explain import sentences as reasons
from conntrackd_py.match.address import address_text
from conntrackd_py.wire import icmp, ip, sctp, tcp
from conntrackd_py.wire.packet import u16, u32

Fields = dict[str, object]

ECHOES: Final = {
    (IPPROTO_ICMP, icmp.ECHO): "echo request",
    (IPPROTO_ICMP, icmp.ECHO_REPLY): "echo reply",
    (IPPROTO_ICMPV6, icmp.V6_ECHO): "echo request",
    (IPPROTO_ICMPV6, icmp.V6_ECHO_REPLY): "echo reply",
}


def fields(header: bytes, length: int, quoted: bool = False) -> Fields:
    """proto, src, dst; sport, dport, flags, seq, ack, window, or type, code [id, seq] [about]; len: of the payload.

    header: the packet or its first bytes; length: of the whole packet.
    """
    packet = Skb(header)
    reason = ip.parse(packet, quoted=True)
    if not packet.version:
        return {"proto": "unreadable", "length": length}
    pair = ip.addresses(packet)
    half = len(pair) // 2
    found: Fields = {
        "proto": PROTO_NAMES.get(packet.protonum, f"proto {packet.protonum}"),
        "src": address_text(pair[:half]),
        "dst": address_text(pair[half:]),
    }
    total = _total(header, packet.version) if not quoted else length
    if reason:
        found["len"] = max(total - packet.dataoff, 0)
        return found
    found.update(_layer4(packet, total))
    return found


def _total(header: bytes, version: int) -> int:
    return u16(header, 2) if version == 4 else ip.V6_HEADER + u16(header, 4)


def _layer4(packet: Skb, total: int) -> Fields:
    data, at, protonum = packet.data, packet.dataoff, packet.protonum
    have = len(data) - at
    found: Fields = {}
    if protonum in WITH_PORTS and have >= 4:
        found.update(sport=u16(data, at), dport=u16(data, at + 2))
    if protonum == IPPROTO_TCP and have >= tcp.HEADER:
        found.update(flags=reasons.flags(data[at + 13]), seq=u32(data, at + 4), ack=u32(data, at + 8))
        found["window"] = u16(data, at + 14)
        found["len"] = max(total - at - tcp.data_offset(data, at), 0)
    elif protonum == IPPROTO_SCTP and have > sctp.HEADER:
        found["chunk"] = reasons.chunk(data[at + sctp.HEADER])
    elif protonum in (IPPROTO_ICMP, IPPROTO_ICMPV6) and have >= icmp.HEADER:
        found.update(_icmp(data, at, protonum))
    elif protonum in WITH_PORTS:
        found["len"] = max(total - at - 8, 0)
    return found


def _icmp(data: bytes, at: int, protonum: int) -> Fields:
    kind = data[at]
    found: Fields = {"type": kind, "code": data[at + 1]}
    if (protonum, kind) in ECHOES:
        found.update(id=u16(data, at + 4), seq=u16(data, at + 6))
    elif icmp.is_error(kind) if protonum == IPPROTO_ICMP else kind < icmp.V6_ECHO:
        inner = data[at + icmp.HEADER :]
        about = fields(inner, len(inner), quoted=True)
        about.pop("len", None)
        found["about"] = about
    return found


def line(header: bytes, length: int) -> str:
    return text(fields(header, length))


def text(found: Fields) -> str:
    """The line that `fields` make."""
    if "src" not in found:
        return f"{length} bytes that are no IP packet" if (length := found.get("length")) else "no IP packet"
    words = [str(found["proto"]), _end(found, "src", "sport"), ">", _end(found, "dst", "dport")]
    if "flags" in found:
        words += [f"[{found['flags']}]", f"seq {found['seq']}"]
        if "." in str(found["flags"]):
            words.append(f"ack {found['ack']}")
        words.append(f"win {found['window']}")
    if "id" in found:
        words.append(f"{'echo request' if found['type'] in (icmp.ECHO, icmp.V6_ECHO) else 'echo reply'}")
        words.append(f"id {found['id']} seq {found['seq']}")
    elif "type" in found:
        words.append(f"type {found['type']} code {found['code']}")
    if "chunk" in found:
        words.append(str(found["chunk"]))
    if "len" in found:
        words.append(f"len {found['len']}")
    about = found.get("about")
    return " ".join(words) + (f", about: {text(about)}" if isinstance(about, dict) else "")


def _end(found: Fields, host: str, port: str) -> str:
    if port not in found:
        return str(found[host])
    address = f"[{found[host]}]" if ":" in str(found[host]) else found[host]
    return f"{address}:{found[port]}"
