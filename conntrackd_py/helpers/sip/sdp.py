"""The session description in a SIP message: expects its media and translates addresses and ports (RFC 4566).

Each medium is RTP on an even port and RTCP on the next one. With `direct_media` only the sender's own address counts,
and only its peer may send there. The length of the body in the header follows.
Source: process_sdp, set_expected_rtp_rtcp, nf_nat_sdp_media, nf_nat_sdp_session.
"""

from typing import Final, final

from conntrackd_py.conntrack.expect import KEEPS_SOURCE
from conntrackd_py.const import IPPROTO_UDP
from conntrackd_py.helpers.helper import PARTIAL, PASS, REFUSED, Announced, ControlPacket
from conntrackd_py.helpers.sip.message import HIGHEST_PORT, LOWEST_PORT, Message, Place, find_any_case, lines
from conntrackd_py.helpers.text import address_of, number_at
from conntrackd_py.match.address import address_text

CLASSES: Final = {b"audio": 1, b"video": 2, b"image": 3}  # of expectations; 0 is signalling
MOST_MEDIA: Final = 3  # of one message, as in the kernel
LENGTH: Final = b"content-length"


@final
class Sdp:
    """The lines that matter, by their values. session: address of the session; owner: where `o=` has its address."""

    def __init__(self, message: Message) -> None:
        self.payload = message.payload
        self.owner: Place | None = None
        self.session: Place | None = None
        self.media: list[Medium] = []
        begun = False
        for line in lines(self.payload, message.body, message.end):
            kind = self.payload[line.at : line.at + 2]
            begun = begun or kind == b"v="
            if not begun:
                continue
            if kind == b"m=":
                self.media.append(Medium(self.payload, line))
            elif kind == b"c=" and self.media:
                self.media[-1].connection = self.media[-1].connection or self._address(line)
            elif kind == b"c=":
                self.session = self.session or self._address(line)
            elif kind == b"o=" and not self.media:
                self.owner = self.owner or self._address(line)

    def _address(self, line: Place) -> Place | None:
        """What stands behind `IN IP4` or `IN IP6`; None if it is no address."""
        at = find_any_case(self.payload, b"IN IP", line.at, line.end) + 7
        if at < 7 or self.payload[at - 2 : at] not in (b"4 ", b"6 "):
            return None
        end = at
        while end < line.end and self.payload[end] not in b" /\t":
            end += 1
        address = address_of(self.payload[at:end])
        return Place(at, end, address) if address else None


@final
class Medium:
    """An `m=` line. kind: 0 for an unknown one. port: its place and value; 0: not used, -1: wrong."""

    def __init__(self, payload: bytes, line: Place) -> None:
        word, _, _ = payload[line.at + 2 : line.end].partition(b" ")
        self.kind = CLASSES.get(word.lower(), 0)
        at = line.at + 3 + len(word)
        number, end = number_at(payload, at, HIGHEST_PORT)
        self.port = Place(at, end, port=number)
        self.connection: Place | None = None


def describe(packet: ControlPacket, message: Message, direct: bool) -> int:
    """Expect the media of a message and translate its description; PASS, PARTIAL or REFUSED."""
    sdp = Sdp(message)
    before = len(packet.changes)
    used = [medium for medium in sdp.media if medium.kind and medium.port.port][:MOST_MEDIA]
    outer = b""
    for medium in used:
        place = medium.connection or sdp.session
        if place is None or medium.port.port < LOWEST_PORT:
            return PARTIAL
        announced = _expect(packet, medium, place.address, direct)
        outer = place.address
        if announced is not None:
            outer = announced.address
            if announced.port != medium.port.port & ~1:
                _put(packet, medium.port, str(announced.port).encode())
        elif packet.translated and (not direct or place.address == packet.sender):
            return REFUSED
        if medium.connection is not None:
            _put(packet, medium.connection, address_text(outer).encode())
    if not used and sdp.session is not None and sdp.session.address == packet.sender:
        outer = packet.outside
    for part in (sdp.owner, sdp.session):
        if outer and part is not None:
            _put(packet, part, address_text(outer).encode())
    _count(packet, message, before)
    return PASS


def _expect(packet: ControlPacket, medium: Medium, address: bytes, direct: bool) -> Announced | None:
    """RTP and RTCP; None if they are not expected."""
    if direct and address != packet.sender:
        return None
    return packet.expect(
        address,
        medium.port.port & ~1,
        kind=medium.kind,
        protonum=IPPROTO_UDP,
        anyone=not direct,
        span=2,
        flags=KEEPS_SOURCE,
    )


def _put(packet: ControlPacket, place: Place, new: bytes) -> None:
    if packet.translated and packet.payload[place.at : place.end] != new:
        packet.replace(place.at, place.end - place.at, new)


def _count(packet: ControlPacket, message: Message, before: int) -> None:
    """Adjust Content-Length to the changes since `before`, which are all in the body."""
    grown = sum([len(new) - length for _, length, new in packet.changes[before:]])
    values = message.values(LENGTH)
    if grown and values:
        number, end = number_at(packet.payload, values[0].at, HIGHEST_PORT)
        if number >= 0:
            packet.replace(values[0].at, end - values[0].at, str(number + grown).encode())
