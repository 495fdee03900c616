"""TFTP: the answer to a request comes from another port of the server (RFC 1350).

Nothing in the payload names an address, so none is changed.
Source: nf_conntrack_tftp.c, nf_nat_tftp.c.
"""

from typing import Final, final

from conntrackd_py.const import IPPROTO_UDP, ORIGINAL
from conntrackd_py.helpers.helper import PASS, REFUSED, ControlPacket, Helper

REQUESTS: Final = (b"\0\1", b"\0\2")  # read, write
SHORTEST: Final = 4  # bytes


@final
class Tftp(Helper):
    name = "tftp"
    protonum = IPPROTO_UDP

    def help(self, packet: ControlPacket) -> int:
        if packet.direction != ORIGINAL or packet.payload[:2] not in REQUESTS or len(packet.payload) < SHORTEST:
            return PASS
        announced = packet.expect(packet.sender, packet.sport, fixed=True)
        return PASS if announced is not None else REFUSED
