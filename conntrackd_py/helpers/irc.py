"""IRC: DCC offers of the client, as `PRIVMSG name :\\1DCC SEND file 3232235778 5001\\1`. IPv4 only.

The address must be the client's, as it is inside or outside. Anyone may connect to the offered port once: the peer is
another client, whose address the server does not tell.
Source: nf_conntrack_irc.c, nf_nat_irc.c.
"""

from typing import Final, final

from conntrackd_py.const import IPPROTO_TCP, ORIGINAL
from conntrackd_py.helpers.helper import PASS, REFUSED, ControlPacket, Helper
from conntrackd_py.helpers.text import number_at

MESSAGE: Final = b"PRIVMSG "
OFFERS: Final = (b"SEND ", b"CHAT ", b"MOVE ", b"TSEND ", b"SCHAT ")
SEARCHED: Final = 4095  # bytes of the payload


@final
class Irc(Helper):
    name = "irc"
    protonum = IPPROTO_TCP
    policies = ((8, 300),)

    def help(self, packet: ControlPacket) -> int:
        if packet.direction != ORIGINAL or len(packet.sender) != 4:
            return PASS
        payload = packet.payload[:SEARCHED]
        at = _offer(payload)
        if not at:
            return PASS
        number, end = number_at(payload, at, 0xFFFFFFFF)
        port_at = end
        while payload[port_at : port_at + 1] == b" ":
            port_at += 1
        port, stop = number_at(payload, port_at, 65535)
        if number < 0 or port_at == end or port <= 0 or stop >= len(payload):
            return PASS
        if number.to_bytes(4, "big") not in (packet.sender, packet.outside):
            return PASS  # forged: of a third host
        announced = packet.expect(packet.sender, port, anyone=True)
        if announced is None:
            return REFUSED
        if packet.translated:
            packet.replace(at, stop - at, f"{int.from_bytes(announced.address, 'big')} {announced.port}".encode())
        return PASS


def _offer(payload: bytes) -> int:
    """The offset of the address in a DCC offer; 0 without one."""
    start = len(payload) - len(payload.lstrip(b" \r\n"))
    if payload[start : start + len(MESSAGE)].upper() != MESSAGE:
        return 0
    at = payload.find(b" :", start + len(MESSAGE) - 1)
    if at < 0 or payload[at + 2 : at + 7] != b"\1DCC ":
        return 0
    at += 7
    for offer in OFFERS:
        if payload[at : at + len(offer)] == offer:
            return payload.find(b" ", at + len(offer)) + 1  # behind the name of the file
    return 0
