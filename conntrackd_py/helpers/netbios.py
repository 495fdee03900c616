"""NetBIOS name service: a query to the broadcast address is answered from the addresses of the hosts (RFC 1002).

Only queries of the router itself count, as in the kernel: the answers to another host do not pass the router.
Source: nf_conntrack_netbios_ns.c, nf_conntrack_broadcast.c.
"""

from typing import Final, final

from conntrackd_py.const import IPPROTO_UDP, ORIGINAL
from conntrackd_py.helpers.helper import PASS, ControlPacket, Helper

PORT: Final = 137
TIMEOUT: Final = 3  # s


@final
class NetbiosNs(Helper):
    name = "netbios-ns"
    protonum = IPPROTO_UDP
    policies = ((1, TIMEOUT),)

    def help(self, packet: ControlPacket) -> int:
        if packet.direction == ORIGINAL and packet.network:
            packet.expect_answers(PORT)
            packet.ct.refresh(packet.now, TIMEOUT * 1000)
        return PASS
