"""The ICMP and ICMPv6 trackers: a query and its answers are a connection, an error belongs to another one.

The tuple holds identifier, type and code; the answer's tuple has the answering type. Never ASSURED.
Sources: nf_conntrack_proto_icmp.c, nf_conntrack_proto_icmpv6.c.
"""

from typing import Final, final

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.icmp_error import INNER_TRACKED, INNER_UNTRACKED
from conntrackd_py.conntrack.l4proto import REFUSED, TRACKED, L4Proto, truncated, wrong_checksum
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPPROTO_ICMP, IPPROTO_ICMPV6
from conntrackd_py.reasons import ICMP_NO_NEW, ICMP_REDIRECT, ICMP_TYPE, OK
from conntrackd_py.wire import checksum, icmp, ip
from conntrackd_py.wire.packet import u16

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
    version = 4

    def __init__(self, tunables: Tunables) -> None:
        super().__init__()
        self.timeout = 0
        self.answers = ANSWERS
        self.queries = QUERIES
        self.tune(tunables)

    def tune(self, tunables: Tunables) -> None:
        self.timeout = tunables.nf_conntrack_icmp_timeout * 1000

    def l4(self, skb: Skb) -> bytes:
        at = skb.dataoff
        if at + icmp.HEADER > skb.end:
            return b""
        return skb.data[at + 4 : at + 6] + skb.data[at : at + 2]

    def invert(self, l4: bytes) -> bytes:
        answer = self.answers.get(l4[2], -1)
        return b"" if answer < 0 else l4[:2] + bytes((answer, l4[3]))

    def check(self, skb: Skb, verify: bool) -> int:
        at = skb.dataoff
        if at + icmp.HEADER > skb.end:
            return truncated(skb, icmp.HEADER)
        if skb.version != self.version:
            skb.numbers = (skb.data[at], self.version, skb.version)
            return ICMP_TYPE
        if verify and not checksum.valid(skb.data[at : skb.end], self.pseudo_header(skb)):
            return wrong_checksum(skb, icmp.CHECKSUM_AT, skb.end, self.pseudo_header(skb))
        return self.check_type(skb, skb.data[at])

    def pseudo_header(self, skb: Skb) -> int:
        return 0

    def check_type(self, skb: Skb, kind: int) -> int:
        if kind <= icmp.HIGHEST_TYPE:
            return OK
        skb.numbers = (kind, icmp.HIGHEST_TYPE)
        return ICMP_TYPE

    def quotes(self, skb: Skb) -> int:
        at = skb.dataoff
        return at + icmp.HEADER if icmp.is_error(skb.data[at]) else INNER_TRACKED

    def lifetime(self, ct: NfConn) -> int:
        return self.timeout

    def packet(self, ct: NfConn, skb: Skb, direction: int, now: int, new: bool) -> int:
        if new and skb.data[skb.dataoff] not in self.queries:
            skb.reason = ICMP_NO_NEW
            skb.numbers = (skb.data[skb.dataoff],)
            return REFUSED
        ct.refresh(now, self.timeout)
        return TRACKED


@final
class Icmpv6(Icmp):
    name = "icmpv6"
    protonum = IPPROTO_ICMPV6
    version = 6

    def __init__(self, tunables: Tunables) -> None:
        super().__init__(tunables)
        self.answers = V6_ANSWERS
        self.queries = V6_QUERIES

    def tune(self, tunables: Tunables) -> None:
        self.timeout = tunables.nf_conntrack_icmpv6_timeout * 1000

    def pseudo_header(self, skb: Skb) -> int:
        return ip.pseudo_header(skb)

    def check_type(self, skb: Skb, kind: int) -> int:
        if kind == icmp.V6_REDIRECT:
            return self._check_redirect(skb)
        return OK

    def _check_redirect(self, skb: Skb) -> int:
        """RFC 4861 8.1: from a link-local router one hop away, with at least one option."""
        at = skb.dataoff
        data = skb.data
        if at + icmp.V6_REDIRECT_HEADER > skb.end:
            return truncated(skb, icmp.V6_REDIRECT_HEADER)
        if data[at + 1]:
            return OK  # not a redirect we know
        if data[7] != 255 or u16(data, 8) & 0xFFC0 != 0xFE80:
            skb.numbers = (data[7], u16(data, 8))
            return ICMP_REDIRECT
        options = at + icmp.V6_REDIRECT_HEADER
        if options + 2 > skb.end or data[options + 1] == 0:
            return ICMP_REDIRECT
        return OK

    def quotes(self, skb: Skb) -> int:
        at = skb.dataoff
        kind = skb.data[at]
        if icmp.is_v6_untracked(kind):
            return INNER_UNTRACKED
        if kind == icmp.V6_REDIRECT:
            options = at + icmp.V6_REDIRECT_HEADER
            if skb.data[at + 1] == 0 and skb.data[options] == icmp.OPT_REDIRECTED_HEADER:
                return options + icmp.HEADER
            return INNER_TRACKED
        return INNER_TRACKED if kind >= icmp.V6_ECHO else at + icmp.HEADER
