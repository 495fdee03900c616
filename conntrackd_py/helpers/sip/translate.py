"""Addresses in the headers of a SIP message: the sender's become those outside, and answers get them back.

Only what names exactly an address and port of this connection is changed. The topmost Via has parameters too: maddr,
received (RFC 3261), rport (RFC 3581).
Source: nf_nat_sip.
"""

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.const import IPPROTO_TCP
from conntrackd_py.helpers.helper import ControlPacket
from conntrackd_py.helpers.sip.message import Message, Place, written
from conntrackd_py.helpers.text import address_of, number_at
from conntrackd_py.match.address import address_text


def translate(packet: ControlPacket, message: Message) -> None:
    """Translate the request line, the topmost Via, Contact, From and To."""
    if not message.is_response:
        _map(packet, message.request_uri())
    _via(packet, message)
    for contact in message.uris(b"contact"):
        _map(packet, contact)
    for name in (b"from", b"to"):
        for uri in message.uris(name)[:1]:
            _map(packet, uri)


def _map(packet: ControlPacket, place: Place | None) -> None:
    """Translate an address and port; what a registration has translated already is left."""
    if place is None or any(at == place.at for at, _, _ in packet.changes):
        return
    mine, other = packet.ct.tuple(packet.direction), packet.ct.tuple(1 - packet.direction)
    named = (place.address, place.port)
    if named == (tuples.src(mine), tuples.l4src(mine)):
        new = (tuples.dst(other), tuples.l4dst(other))
    elif named == (tuples.dst(mine), tuples.l4dst(mine)):
        new = (tuples.src(other), tuples.l4src(other))
    else:
        return
    if new != named:
        packet.replace(place.at, place.end - place.at, written(*new))


def _via(packet: ControlPacket, message: Message) -> None:
    mine, other = packet.ct.tuple(packet.direction), packet.ct.tuple(1 - packet.direction)
    found = message.via(b"TCP" if tuples.protonum(mine) == IPPROTO_TCP else b"UDP")
    if found is None:
        return
    via, parameters = found
    own = (tuples.dst(mine), tuples.l4dst(mine)) if message.is_response else (tuples.src(mine), tuples.l4src(mine))
    if (via.address, via.port) != own:
        return
    _map(packet, via)
    _parameter(packet, message.parameter(b"maddr", parameters), tuples.src(mine), tuples.dst(other), brackets=True)
    _parameter(packet, message.parameter(b"received", parameters), tuples.dst(mine), tuples.src(other), brackets=False)
    rport = message.parameter(b"rport", parameters)
    number, end = number_at(packet.payload, rport.at, 65535)
    if end <= rport.end and number == tuples.l4dst(mine) != tuples.l4src(other):
        packet.replace(rport.at, end - rport.at, str(tuples.l4src(other)).encode())


def _parameter(packet: ControlPacket, place: Place, address: bytes, new: bytes, *, brackets: bool) -> None:
    """Translate an address alone. brackets: IPv6 is written in brackets."""
    text = packet.payload[place.at : place.end]
    if address_of(text.strip(b"[]")) != address or address == new:
        return
    shown = f"[{address_text(new)}]" if brackets and len(new) > 4 else address_text(new)
    packet.replace(place.at, place.end - place.at, shown.encode())
