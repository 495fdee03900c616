"""Reassembles the fragments of a capture, as the router does before tracking.

Fragments belong together if they are of one packet and were captured on the same link. As in the kernel, a repeated
fragment is ignored, and fragments that overlap otherwise discard the packet (RFC 5722, inet_frag_queue_insert). A
packet that is incomplete after 30 s (IPv6: 60 s) is given up.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from conntrackd_py.cli.conntrackd.explain.capture import Captured
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.reasons import IP_FRAGMENT
from conntrackd_py.wire import ip
from conntrackd_py.wire.packet import put16, u16

PATIENCE: Final = {4: 30_000, 6: 60_000}  # ms by IP version: ipfrag_time, ip6frag_time
INCOMPLETE_LIMIT: Final = 1024  # packets; with more, the oldest is given up
LONGEST: Final = 65535
MORE_V4: Final = 0x2000
FRAGMENT_HEADER: Final = 8


@dataclass
class Incomplete:
    """The fragments of one packet. parts: (start, payload); total: bytes of the whole payload, -1: unknown."""

    until: int
    head: bytes = b""
    total: int = -1
    cut: int = 0
    parts: list[tuple[int, bytes]] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)

    def overlaps(self, start: int, end: int) -> bool:
        return any(start < at + len(part) and at < end for at, part in self.parts)

    def repeats(self, start: int, end: int) -> bool:
        return any(at <= start and end <= at + len(part) for at, part in self.parts)

    def complete(self) -> bool:
        return bool(self.head) and sum(len(part) for _, part in self.parts) == self.total


def reassembled(packets: Iterable[Captured]) -> Iterator[Captured]:
    """The packets. The fragment that completes a packet becomes that packet; the others are `waiting`."""
    known: dict[bytes, Incomplete] = {}
    for packet in packets:
        skb = Skb(packet.data)
        yield _fragment(known, packet, skb) if ip.parse(skb) == IP_FRAGMENT else packet


def _fragment(known: dict[bytes, Incomplete], packet: Captured, skb: Skb) -> Captured:
    key, head, payload, more = _parts(skb)
    key += packet.link
    start = skb.numbers[0]
    one = known.get(key)
    if one is None or one.until < packet.at:
        known.pop(key, None)
        one = known[key] = Incomplete(packet.at + PATIENCE[skb.version])
        if len(known) > INCOMPLETE_LIMIT:
            del known[next(iter(known))]
    waiting = replace(packet, waiting=True)
    if one.repeats(start, start + len(payload)):
        return waiting
    if one.overlaps(start, start + len(payload)) or start + len(payload) > LONGEST:
        known.pop(key, None)
        return waiting
    one.parts.append((start, payload))
    one.numbers.append(packet.number)
    one.cut += packet.cut
    one.head = head if start == 0 else one.head
    one.total = one.total if more else start + len(payload)
    if not one.complete():
        return waiting
    known.pop(key, None)
    whole = b"".join(part for _, part in sorted(one.parts))
    return replace(packet, data=_whole(one.head, whole), cut=one.cut, pieces=tuple(one.numbers))


def _parts(skb: Skb) -> tuple[bytes, bytes, bytes, bool]:
    """Of a fragment: what it shares with the others, the headers before the payload, the payload, more to come."""
    data, at = skb.data, skb.dataoff
    if skb.version == 4:
        return data[4:6] + data[9:10] + data[12:20], data[:at], data[at : skb.end], bool(u16(data, 6) & MORE_V4)
    payload = data[at + FRAGMENT_HEADER : skb.end]
    return data[8:40] + data[at + 4 : at + 8], _without_fragment_header(data, at), payload, bool(data[at + 3] & 1)


def _without_fragment_header(data: bytes, at: int) -> bytes:
    """The headers before the fragment header at `at`; the last of them now names what follows it."""
    field_at, header = 6, ip.V6_HEADER
    while header < at:
        field_at, header = header, header + (data[header + 1] + 1) * 8
    return data[:field_at] + data[at : at + 1] + data[field_at + 1 : at]


def _whole(head: bytes, payload: bytes) -> bytes:
    if head[0] >> 4 == 4:
        return head[:2] + put16(len(head) + len(payload)) + head[4:6] + bytes(2) + head[8:] + payload
    return head[:4] + put16(len(head) - ip.V6_HEADER + len(payload)) + head[6:] + payload
