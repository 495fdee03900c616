"""The ICMP and ICMPv6 trackers: a query and its answers are a connection; an error belongs to the quoted one.

The tuple has identifier, type and code; the reply tuple has the type of the answer. Never ASSURED.
Sources: nf_conntrack_proto_icmp.c, nf_conntrack_proto_icmpv6.c.
"""

from typing import Final, final

from conntrackd_py.conntrack.conn import LEAVE_UNTRACKED, NO_QUOTE, REFUSED, TRACKED, L4Proto, NfConn
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPPROTO_ICMP, IPPROTO_ICMPV6
from conntrackd_py.proto.header import truncated, wrong_checksum
from conntrackd_py.reasons import ICMP_NO_NEW, ICMP_REDIRECT, ICMP_TYPE, OK
from conntrackd_py.wire import checksum, icmp, ip
from conntrackd_py.wire.packet import Packet, u16

ANSWERS: Final = {
    icmp.ECHO: icmp.ECHO_REPLY,
    icmp.ECHO_REPLY: icmp.ECHO,
    icmp.TIMESTAMP: icmp.TIMESTAMP_REPLY,
    icmp.TIMESTAMP_REPLY: icmp.TIMESTAMP,
    icmp.INFO_REQUEST: icmp.INFO_REPLY,
    icmp.INFO_REPLY: icmp.INFO_REQUEST,
    icmp.ADDRESS_MASK: icmp.ADDRESS_MASK_REPLY,
    icmp.ADDRESS_MASK_REPLY: icmp.ADDRESS_MASK,
}
QUERIES: Final = frozenset({icmp.ECHO, icmp.TIMESTAMP, icmp.INFO_REQUEST, icmp.ADDRESS_MASK})

V6_ANSWERS: Final = {
    icmp.V6_ECHO: icmp.V6_ECHO_REPLY,
    icmp.V6_ECHO_REPLY: icmp.V6_ECHO,
    icmp.V6_NODE_INFO_QUERY: icmp.V6_NODE_INFO_REPLY,
    icmp.V6_NODE_INFO_REPLY: icmp.V6_NODE_INFO_QUERY,
}
V6_QUERIES: Final = frozenset({icmp.V6_ECHO, icmp.V6_NODE_INFO_QUERY})


class Icmp(L4Proto):
    name = "icmp"
    protonum = IPPROTO_ICMP
    version: int = 4
    answers: dict[int, int] = ANSWERS
    queries: frozenset[int] = QUERIES

    def tune(self, tunables: Tunables) -> None:
        self.timeout = tunables.nf_conntrack_icmp_timeout * 1000

    def l4(self, packet: Packet) -> bytes:
        at = packet.dataoff
        if at + icmp.HEADER > packet.end:
            return b""
        return packet.data[at + 4 : at + 6] + packet.data[at : at + 2]

    def invert(self, l4: bytes) -> bytes:
        answer = self.answers.get(l4[2], -1)
        return b"" if answer < 0 else l4[:2] + bytes((answer, l4[3]))

    def check(self, packet: Packet, verify: bool) -> int:
        at = packet.dataoff
        if at + icmp.HEADER > packet.end:
            return truncated(packet, icmp.HEADER)
        if packet.version != self.version:
            packet.numbers = (packet.data[at], self.version, packet.version)
            return ICMP_TYPE
        if verify and not checksum.valid(packet.data[at : packet.end], self.pseudo_header(packet)):
            return wrong_checksum(packet, icmp.CHECKSUM_AT, packet.end, self.pseudo_header(packet))
        return self.check_type(packet, packet.data[at])

    def pseudo_header(self, packet: Packet) -> int:
        return 0

    def check_type(self, packet: Packet, kind: int) -> int:
        if kind <= icmp.HIGHEST_TYPE:
            return OK
        packet.numbers = (kind, icmp.HIGHEST_TYPE)
        return ICMP_TYPE

    def quotes(self, packet: Packet) -> int:
        at = packet.dataoff
        return at + icmp.HEADER if icmp.is_error(packet.data[at]) else NO_QUOTE

    def lifetime(self, ct: NfConn) -> int:
        return self.timeout

    def packet(self, ct: NfConn, packet: Packet, direction: int, now: int, new: bool) -> int:
        if new and packet.data[packet.dataoff] not in self.queries:
            packet.reason = ICMP_NO_NEW
            packet.numbers = (packet.data[packet.dataoff],)
            return REFUSED
        ct.refresh(now, self.timeout)
        return TRACKED


@final
class Icmpv6(Icmp):
    name = "icmpv6"
    protonum = IPPROTO_ICMPV6
    version = 6
    answers = V6_ANSWERS
    queries = V6_QUERIES

    def tune(self, tunables: Tunables) -> None:
        self.timeout = tunables.nf_conntrack_icmpv6_timeout * 1000

    def pseudo_header(self, packet: Packet) -> int:
        return ip.pseudo_header(packet)

    def check_type(self, packet: Packet, kind: int) -> int:
        if kind == icmp.V6_REDIRECT:
            return self._check_redirect(packet)
        return OK

    def _check_redirect(self, packet: Packet) -> int:
        """RFC 4861 8.1: from a link-local router one hop away, with at least one option."""
        at = packet.dataoff
        data = packet.data
        if at + icmp.V6_REDIRECT_HEADER > packet.end:
            return truncated(packet, icmp.V6_REDIRECT_HEADER)
        if data[at + 1]:
            return OK  # an unknown code
        if data[7] != 255 or u16(data, 8) & 0xFFC0 != 0xFE80:
            packet.numbers = (data[7], u16(data, 8))
            return ICMP_REDIRECT
        options = at + icmp.V6_REDIRECT_HEADER
        if packet.end < options + 2 <= packet.length:
            return truncated(packet, icmp.V6_REDIRECT_HEADER + 2)
        if options + 2 > packet.end or data[options + 1] == 0:
            return ICMP_REDIRECT
        return OK

    def quotes(self, packet: Packet) -> int:
        at = packet.dataoff
        kind = packet.data[at]
        if icmp.is_v6_untracked(kind):
            return LEAVE_UNTRACKED
        if kind == icmp.V6_REDIRECT:
            options = at + icmp.V6_REDIRECT_HEADER
            if packet.data[at + 1] == 0 and packet.data[options] == icmp.OPT_REDIRECTED_HEADER:
                return options + icmp.HEADER
            return NO_QUOTE
        return NO_QUOTE if kind >= icmp.V6_ECHO else at + icmp.HEADER
