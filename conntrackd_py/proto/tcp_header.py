"""What every TCP tracker asks of a segment before it looks at the connection: a whole header and a right checksum."""

from conntrackd_py.conntrack.l4proto import PortProto, truncated, wrong_checksum
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import IPPROTO_TCP
from conntrackd_py.reasons import OK
from conntrackd_py.wire import checksum, ip
from conntrackd_py.wire.tcp import CHECKSUM_AT, HEADER, RST, data_offset


class TcpHeader(PortProto):
    name = "tcp"
    protonum = IPPROTO_TCP
    shows_state = True

    def check(self, skb: Skb, verify: bool) -> int:
        at = skb.dataoff
        if at + HEADER > skb.end:
            return truncated(skb, HEADER)
        header = data_offset(skb.data, at)
        if header < HEADER or at + header > skb.end:
            return truncated(skb, header)
        if verify and not checksum.valid(skb.data[at : skb.end], ip.pseudo_header(skb)):
            return wrong_checksum(skb, CHECKSUM_AT, skb.end, ip.pseudo_header(skb))
        return OK

    def resets(self, skb: Skb) -> bool:
        return skb.data[skb.dataoff + 13] & RST != 0
