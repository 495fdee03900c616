"""Recognises packets that a capture holds more than once.

A capture on all interfaces of a router has a forwarded packet twice: as it arrives, and as it leaves, perhaps
translated. Two packets are sightings of one if they come from different links and agree in everything that
forwarding, NAT and TCP MSS clamping keep: IP id, lengths, TCP sequence numbers and window, or the first bytes of the
payload. If the tuple differs, the second one must have a smaller TTL and must not be a received one.

A network card may cut a super-packet into segments between two sightings. Therefore every packet of a tuple on a link
on which the tuple was seen again counts as seen again.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from conntrackd_py.cli.conntrackd.explain.capture import Captured
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP, WITH_PORTS
from conntrackd_py.wire import icmp, ip, tcp
from conntrackd_py.wire.packet import put16

PATIENCE: Final = 1000  # ms between two sightings
LOOKAHEAD: Final = 2048  # packets between two sightings
WAYS_LIMIT: Final = 65536  # tuples remembered with a link; the oldest is forgotten
COMPARED: Final = 64  # bytes of the payload


@dataclass(eq=False)
class Sighting:
    """One packet of the capture. again: it was seen before, as `first` if that is known. last: its last sighting."""

    packet: Captured
    again: bool = False
    first: Captured | None = None
    last: Captured | None = None
    links: set[bytes] = field(default_factory=set)
    identity: bytes = b""
    way: bytes = b""  # link and tuple


def sightings(packets: Iterable[Captured]) -> Iterator[Sighting]:
    """The packets in their order, each when all its sightings are known."""
    window: deque[Sighting] = deque()
    known = _Known()
    for packet in packets:
        while window and (len(window) > LOOKAHEAD or packet.at - window[0].packet.at > PATIENCE):
            yield known.forget(window.popleft())
        window.append(known.add(packet))
    for one in window:
        yield known.forget(one)


class _Known:
    def __init__(self) -> None:
        self.firsts: dict[bytes, list[Sighting]] = {}  # in the window, by identity
        self.ways: dict[bytes, None] = {}

    def add(self, packet: Captured) -> Sighting:
        skb = Skb(packet.data)
        one = Sighting(packet, links={packet.link})
        if packet.waiting or not packet.link or ip.parse(skb):
            return one
        one.identity, one.way = identity(skb), packet.link + _ends(skb)
        for first in self.firsts.get(one.identity, ()):
            if packet.link not in first.links and plausible(first.packet, packet):
                one.again, one.first = True, first.packet
                first.last = packet
                first.links.add(packet.link)
                self._remember(one.way)
                return one
        self.firsts.setdefault(one.identity, []).append(one)
        return one

    def _remember(self, way: bytes) -> None:
        self.ways[way] = None
        if len(self.ways) > WAYS_LIMIT:
            del self.ways[next(iter(self.ways))]

    def forget(self, one: Sighting) -> Sighting:
        """It leaves the window."""
        if one.identity and one.first is None:
            same = self.firsts[one.identity]
            same.remove(one)
            if not same:
                del self.firsts[one.identity]
            one.again = one.last is None and one.way in self.ways
        return one


def identity(skb: Skb) -> bytes:
    """What all sightings of a parsed packet have in common."""
    data, at = skb.data, skb.dataoff
    number = data[4:6] if skb.version == 4 else b""
    head = bytes((skb.version, skb.protonum)) + number
    if skb.protonum == IPPROTO_TCP and skb.end >= at + tcp.HEADER:
        length = skb.end - at - tcp.data_offset(data, at)
        return head + put16(length & 0xFFFF) + data[at + 4 : at + 12] + data[at + 13 : at + 16]
    head += put16(skb.end & 0xFFFF)
    if skb.protonum in (IPPROTO_ICMP, IPPROTO_ICMPV6) and skb.end >= at + icmp.HEADER:
        head += data[at : at + 2]
        if icmp.is_error(data[at]) if skb.version == 4 else data[at] < icmp.V6_ECHO:
            return head + data[at + 12 : at + 14]  # the IP id of the packet that it quotes; its addresses change
        return head + data[at + 6 : at + 8 + COMPARED]
    start = at + (8 if skb.protonum == IPPROTO_UDP else 12)  # after what NAT changes
    return head + data[start : start + COMPARED]


def plausible(first: Captured, second: Captured) -> bool:
    """Whether two packets with the same identity, from different links, can be sightings of one."""
    one, other = Skb(first.data), Skb(second.data)
    ip.parse(one)
    ip.parse(other)
    if _hops(other) > _hops(one):
        return False
    if _ends(one) == _ends(other):
        return True
    address = ip.destination(one)
    multicast = address[0] >= 224 if one.version == 4 else address[0] == 0xFF
    return not multicast and _hops(other) < _hops(one) and first.sent is not True and second.sent is not False


def _hops(skb: Skb) -> int:
    return skb.data[8 if skb.version == 4 else 7]


def _ends(skb: Skb) -> bytes:
    """Addresses, protocol, and ports if it has them."""
    ports = skb.data[skb.dataoff : skb.dataoff + 4] if skb.protonum in WITH_PORTS else b""
    return ip.addresses(skb) + bytes((skb.protonum,)) + ports
