"""Amanda: a client that is backed up answers with `CONNECT DATA 50001 MESG 50002 INDEX 50003`: ports of its own.

Its answer can be late, so each one keeps the control connection for 300 s.
Source: nf_conntrack_amanda.c, nf_nat_amanda.c.
"""

from typing import Final, final

from conntrackd_py.const import IPPROTO_TCP, IPPROTO_UDP, ORIGINAL
from conntrackd_py.helpers.helper import PASS, REFUSED, ControlPacket, Helper
from conntrackd_py.helpers.text import number_at

CONNECT: Final = b"CONNECT "
STREAMS: Final = (b"DATA ", b"MESG ", b"INDEX ", b"STATE ")
MASTER_TIMEOUT: Final = 300  # s
DIGITS: Final = 5


@final
class Amanda(Helper):
    name = "amanda"
    protonum = IPPROTO_UDP
    policies = ((4, 180),)

    def help(self, packet: ControlPacket) -> int:
        if packet.direction == ORIGINAL:
            return PASS
        packet.refresh(MASTER_TIMEOUT)
        payload = packet.payload
        start = payload.find(CONNECT) + len(CONNECT)
        stop = payload.find(b"\n", start)
        if start < len(CONNECT) or stop < 0:
            return PASS
        for stream in STREAMS:
            at = payload.find(stream, start, stop)
            if at < 0:
                continue
            at += len(stream)
            port, end = number_at(payload, at, 65535)
            if port <= 0 or end - at > DIGITS:
                break
            announced = packet.expect(packet.sender, port, protonum=IPPROTO_TCP)
            if announced is None:
                return REFUSED
            if packet.translated:
                packet.replace(at, end - at, str(announced.port).encode())
        return PASS
