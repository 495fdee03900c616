"""MSS clamping: lower the maximum segment size in a SYN to what fits the links of its path (TCPMSS of iptables).

The MTU is the smaller one of the two links of the router. The MSS is never raised, and never added where it is absent:
without the option hosts send segments of 536 or 1220 bytes (RFC 9293, RFC 8200).
Sources: tcpmss_mangle_packet, tcpmss_tg4, tcpmss_tg6.
"""

from typing import Final, final

from conntrackd_py.conntrack.skb import Skb, forwarded
from conntrackd_py.const import IPPROTO_TCP
from conntrackd_py.nat.rewrite.manip import finish_checksum
from conntrackd_py.wire import checksum, ip, tcp
from conntrackd_py.wire.packet import put16, u16

OFF: Final = 0
PMTU: Final = -1
FLAGS_AT: Final = 13


@final
class Mss:
    """limit: OFF, PMTU or the largest MSS. mtus: by index of the interface."""

    def __init__(self) -> None:
        self.limit = OFF
        self.mtus: dict[int, int] = {}
        self.clamped = 0  # packets

    def clamp(self, skb: Skb) -> None:
        """At FORWARD. Only a SYN of another host changes."""
        if not is_syn(skb) or not forwarded(skb):
            return
        most = self.limit
        if most == PMTU:
            mtu = min(self.mtus.get(skb.indev, 0), self.mtus.get(skb.outdev, 0))
            most = mtu - tcp.HEADER - (ip.V4_HEADER if skb.version == 4 else ip.V6_HEADER)
        if most > 0 and _lower(skb, most):
            self.clamped += 1


def is_syn(skb: Skb) -> bool:
    """Whether a parsed packet is a SYN or SYN/ACK."""
    if skb.protonum != IPPROTO_TCP or skb.dataoff + tcp.HEADER > skb.end:
        return False
    return skb.data[skb.dataoff + FLAGS_AT] & (tcp.SYN | tcp.RST) == tcp.SYN


def _lower(skb: Skb, most: int) -> bool:
    """Lower the MSS to `most`; False if there is none, or it is not larger."""
    data, at = skb.data, skb.dataoff
    option = tcp.mss_at(data, at + tcp.HEADER, min(at + tcp.data_offset(data, at), skb.end))
    if not option or u16(data, option) <= most:
        return False
    new = put16(most)
    skb.data = data[:option] + new + data[option + 2 :]
    if skb.checksum_partial:
        if not skb.segments:
            finish_checksum(skb)  # the kernel takes the checksum of a returned packet for complete
        return True
    old = data[option : option + 2]
    if (option - at) % 2:
        old, new = old[::-1], new[::-1]  # at an odd offset the bytes belong to two words
    field = at + tcp.CHECKSUM_AT
    value = checksum.adjust(u16(data, field), u16(old, 0), u16(new, 0))
    skb.data = skb.data[:field] + put16(value) + skb.data[field + 2 :]
    return True
