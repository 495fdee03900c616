"""SIP over UDP and TCP: registrations, calls and their media (RFC 3261).

A REGISTER expects connections of the registrar to the registered address. The answer makes this effective, for as long
as the registrar says. The connections that come have this helper too. INVITE, UPDATE, PRACK, ACK and their answers
describe media (sdp.py). A new INVITE, a BYE and an answer that refuses the call remove the expected media.
Over TCP a message that does not end in its segment passes as it is.
Source: nf_conntrack_sip.c, nf_nat_sip.c.
"""

from typing import Final, cast, final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.expect import INACTIVE, KEEPS_SOURCE, PERMANENT
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPPROTO_TCP, IPPROTO_UDP, IPS_EXPECTED
from conntrackd_py.helpers.helper import MOST_CHANGES, PARTIAL, PASS, REFUSED, ControlPacket, Helper, State
from conntrackd_py.helpers.sip.message import M32, Message, Place, written
from conntrackd_py.helpers.sip.sdp import LENGTH, describe
from conntrackd_py.helpers.sip.translate import translate
from conntrackd_py.helpers.text import number_at

SHORTEST: Final = 11  # bytes: SIP/2.0 200
MOST_MESSAGES: Final = 16  # of one segment
CHANGES: Final = 32  # of one message, at most
SIGNALLING: Final = 0  # class
TRANSPORTS: Final = {b"udp": IPPROTO_UDP, b"tcp": IPPROTO_TCP}
DESCRIBING: Final = (b"INVITE", b"UPDATE", b"PRACK", b"ACK")


@final
class Calls(State):
    """The CSeq of the last INVITE and REGISTER."""

    def __init__(self) -> None:
        self.invite = 0
        self.register = 0


@final
class Sip(Helper):
    name = "sip"
    protonum = IPPROTO_UDP
    other_protonum = IPPROTO_TCP
    policies = ((1, 180), (4, 180), (4, 180), (2, 180))  # signalling, audio, video, image

    def tune(self, tunables: Tunables) -> None:
        self.timeout = tunables.nf_conntrack_sip_timeout
        self.direct_signalling = tunables.nf_conntrack_sip_direct_signalling
        self.direct_media = tunables.nf_conntrack_sip_direct_media

    def state(self) -> State | None:
        return Calls()

    def help(self, packet: ControlPacket) -> int:
        packet.ct.refresh(packet.now, self.timeout * 1000)
        payload = packet.payload
        if tuples.protonum(packet.ct.original) == IPPROTO_UDP:
            return self._message(packet, Message(payload, 0, len(payload))) if len(payload) >= SHORTEST else PASS
        at = 0
        for _ in range(MOST_MESSAGES):
            message = _whole(payload, at)
            if message is None or len(packet.changes) + CHANGES > MOST_CHANGES:
                break
            outcome = self._message(packet, message)
            if outcome != PASS:
                return outcome
            at = message.end
        return PASS

    def _message(self, packet: ControlPacket, message: Message) -> int:
        outcome = self._response(packet, message) if message.is_response else self._request(packet, message)
        if outcome == PASS and packet.translated:
            translate(packet, message)
        return outcome

    def _request(self, packet: ControlPacket, message: Message) -> int:
        calls = cast(Calls, packet.state)
        method = packet.payload[message.start : message.line].split(b" ", 1)[0].upper()
        if method not in DESCRIBING and method not in (b"BYE", b"REGISTER"):
            return PASS
        sequence = message.number(b"cseq")
        if sequence < 0:
            return PARTIAL
        if method == b"REGISTER":
            return self._register(packet, message, sequence, calls)
        if method in (b"INVITE", b"BYE"):
            packet.forget(SIGNALLING, others=True)
        if method == b"BYE":
            return PASS
        outcome = describe(packet, message, self.direct_media)
        if outcome == PASS and method == b"INVITE":
            calls.invite = sequence
        return outcome

    def _response(self, packet: ControlPacket, message: Message) -> int:
        calls = cast(Calls, packet.state)
        code, _ = number_at(packet.payload, message.start + 8, 999)
        sequence = message.number(b"cseq")
        if code <= 0 or sequence < 0:
            return PARTIAL
        method = packet.payload[message.values(b"cseq")[0].at : message.end].split(None, 2)[1:2]
        if method and method[0] in (b"INVITE", b"UPDATE", b"PRACK"):
            if 100 <= code <= 299:
                return describe(packet, message, self.direct_media)
            if calls.invite == sequence:
                packet.forget(SIGNALLING, others=True)
        elif method and method[0] == b"REGISTER" and calls.register == sequence and code >= 200:
            if code > 299 or not _confirmed(packet, message):
                packet.forget(SIGNALLING)
        return PASS

    def _register(self, packet: ControlPacket, message: Message, sequence: int, calls: Calls) -> int:
        """Expect calls to the address that is registered, if it is the sender's, once the answer allows it."""
        contacts = message.uris(b"contact")
        if packet.ct.status & IPS_EXPECTED or not contacts or contacts[0].address != packet.sender:
            return PASS
        contact = contacts[0]
        protonum, expires = _binding(packet, message, contact)
        if not protonum:
            return PASS
        if expires:
            announced = packet.expect(
                contact.address,
                contact.port,
                protonum=protonum,
                kind=SIGNALLING,
                anyone=not self.direct_signalling,
                flags=PERMANENT | INACTIVE | KEEPS_SOURCE,
                seconds=self.timeout,
                child=self.name,
            )
            if announced is None:
                return REFUSED
            if packet.translated and (announced.address, announced.port) != (contact.address, contact.port):
                new = written(announced.address, announced.port)
                packet.replace(contact.at, contact.end - contact.at, new)
        calls.register = sequence
        return PASS


def _whole(payload: bytes, at: int) -> Message | None:
    """The message that begins at this offset of a segment, if it ends there; by its Content-Length."""
    if len(payload) - at < SHORTEST:
        return None
    message = Message(payload, at, len(payload))
    length = message.number(LENGTH)
    if length < 0 or message.body + length > len(payload) or payload[message.body - 4 : message.body] != b"\r\n\r\n":
        return None
    message.end = message.body + length
    return message


def _binding(packet: ControlPacket, message: Message, contact: Place) -> tuple[int, int]:
    """Protocol (0: an unknown one) and lifetime in s (0: the binding ends) of a Contact."""
    within = message.parameters_of(contact)
    expires = max(message.number(b"expires"), 0)
    own = message.parameter(b"expires", within)
    if own.at < own.end:
        expires = max(number_at(packet.payload, own.at, M32)[0], 0)
    transport = message.text(message.parameter(b"transport", within)).lower()
    if not transport:
        return tuples.protonum(packet.ct.original), expires
    return TRANSPORTS.get(transport, 0), expires


def _confirmed(packet: ControlPacket, message: Message) -> bool:
    """Whether the registrar confirms what was expected; it is effective from now on."""
    for contact in message.uris(b"contact"):
        if contact.address != tuples.dst(packet.ct.tuple(packet.direction)):
            continue
        protonum, expires = _binding(packet, message, contact)
        if not protonum:
            continue
        if not expires:
            return False
        for known in packet.expected(SIGNALLING):
            t = known.tuple
            if (tuples.dst(t), tuples.l4dst(t), tuples.protonum(t)) == (contact.address, contact.port, protonum):
                packet.activate(known, expires)
                return True
    return False
