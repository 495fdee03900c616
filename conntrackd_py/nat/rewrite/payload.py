"""Changes inside a packet: bytes of its TCP header, and its payload, with lengths and checksums.

Sources: nf_nat_mangle_tcp_packet, nf_nat_mangle_udp_packet.
"""

from typing import Final

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import IPPROTO_UDP, POST_ROUTING
from conntrackd_py.nat.rewrite.manip import checksum_at, finish_checksum
from conntrackd_py.wire import checksum
from conntrackd_py.wire.ip import V6_HEADER
from conntrackd_py.wire.packet import put16, u16

UDP_HEADER: Final = 8
LONGEST: Final = 65535


def put(skb: Skb, at: int, new: bytes) -> None:
    """Replace as many bytes of the TCP header; at: anywhere in it."""
    old = skb.data[at : at + len(new)]
    if not skb.checksum_partial:
        odd = (at - skb.dataoff) & 1  # the words of the checksum begin at even offsets
        pad = b"\0" * odd
        _adjust(skb, checksum.total(pad + old), checksum.total(pad + new))
    skb.data = skb.data[:at] + new + skb.data[at + len(new) :]
    finish(skb)


def replace(skb: Skb, at: int, payload: bytes) -> bool:
    """Replace the payload, which begins at this offset; False if the packet would be too long."""
    grown = len(payload) - (skb.end - at)
    end = skb.end + grown
    if end > LONGEST:
        return False
    data = skb.data[:at] + payload  # without what may follow the packet
    if skb.version == 4:
        words = u16(data, 2), end
        header = checksum.adjust(u16(data, 10), words[0], words[1])
        data = data[:2] + put16(end) + data[4:10] + put16(header) + data[12:]
    else:
        data = data[:4] + put16(end - V6_HEADER) + data[6:]
    bare = False
    if skb.protonum == IPPROTO_UDP:
        length = skb.dataoff + 4
        bare = u16(data, length + 2) == 0  # no checksum, and it stays so
        data = data[:length] + put16(end - skb.dataoff) + data[length + 2 :]
    skb.data = data
    skb.end = skb.length = end
    if skb.checksum_partial and skb.segments:
        _adjust(skb, grown, 0)  # the sum of the pseudo-header itself, not its complement
    elif not bare:
        finish_checksum(skb)
    finish(skb)
    return True


def finish(skb: Skb) -> None:
    """Complete a partial checksum where the kernel reads it before it cuts the packet into segments."""
    if skb.checksum_partial and (not skb.segments or skb.hook != POST_ROUTING):
        finish_checksum(skb)


def _adjust(skb: Skb, old: int, new: int) -> None:
    at = skb.dataoff + checksum_at(skb.protonum)
    skb.data = skb.data[:at] + put16(checksum.adjust(u16(skb.data, at), old, new)) + skb.data[at + 2 :]
