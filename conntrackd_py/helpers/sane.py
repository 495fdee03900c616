"""SANE: the answer to SANE_NET_START names the port of the image data.

The kernel has no NAT for it; here the data connection is translated as its master.
Source: nf_conntrack_sane.c.
"""

from typing import Final, cast, final

from conntrackd_py.const import IPPROTO_TCP, ORIGINAL
from conntrackd_py.helpers.helper import PASS, REFUSED, ControlPacket, Helper, State
from conntrackd_py.wire.packet import put16, u16

START: Final = b"\0\0\0\7"
REQUEST: Final = 8  # bytes: code and handle
PORT_AT: Final = 6  # behind a status and two bytes, all zero


@final
class Asked(State):
    def __init__(self) -> None:
        self.start = False  # the last request was SANE_NET_START
        self.answered = -1  # sequence number of the answer, which may come again


@final
class Sane(Helper):
    name = "sane"
    protonum = IPPROTO_TCP

    def state(self) -> State | None:
        return Asked()

    def help(self, packet: ControlPacket) -> int:
        asked = cast(Asked, packet.state)
        payload = packet.payload
        if packet.direction == ORIGINAL:
            if len(payload) == REQUEST:
                asked.start = payload[:4] == START
            return PASS
        if not asked.start and packet.seq != asked.answered:
            return PASS
        asked.start = False
        asked.answered = packet.seq
        if len(payload) < PORT_AT + 2 or payload[:PORT_AT] != bytes(PORT_AT):
            return PASS
        port = u16(payload, PORT_AT)
        if not port:
            return PASS
        announced = packet.expect(packet.sender, port)
        if announced is None:
            return REFUSED
        if packet.translated:
            packet.replace(PORT_AT, 2, put16(announced.port))
        return PASS
