"""Which packets are sightings of one."""

from __future__ import annotations

import pytest

from conntrackd_py.cli.conntrackd.explain.capture import Captured
from conntrackd_py.cli.conntrackd.explain.sightings import LOOKAHEAD, PATIENCE, sightings
from tests.support import packets

C, R, S = "192.168.1.2", "203.0.113.1", "10.0.0.2"
SYN = packets.tcp(C, S, 40000, 80, "S", seq=1)
CLAMPED = packets.tcp(R, S, 61000, 80, "S", seq=1, options=b"\x02\x04\x05\x00")
QUERY, QUERY_OUT = packets.udp(C, S, 5000, 53, b"query"), packets.udp(R, S, 5001, 53, b"query")
PING, PING_OUT = packets.icmp(C, S, 8, ident=1), packets.icmp(R, S, 8, ident=2)
V6 = packets.tcp("fd00::2", "fd00::1", 1, 2, "A", seq=9)
ERROR = packets.icmp(S, R, 3, 1, data=QUERY_OUT[:28])
ERROR_IN = packets.icmp(S, C, 3, 1, data=QUERY[:28])
ESP, ESP_OUT = packets.ip(C, S, 50, bytes(range(60))), packets.ip(R, S, 50, bytes(range(60)))
MULTICAST = [packets.udp(source, "224.0.0.251", 5353, 5353, b"q") for source in (C, R)]


def pair(first: bytes, second: bytes, *, after: int = 1, sent: bool | None = True) -> list[int | None]:
    """The number of the first sighting of each packet; 0 for a packet that is none seen before."""
    return firsts([Captured(1, 0, first, link=b"lan", sent=False), Captured(2, after, second, link=b"wan", sent=sent)])


def firsts(captured: list[Captured]) -> list[int | None]:
    return [(one.first.number if one.first else None) if one.again else 0 for one in sightings(captured)]


@pytest.mark.parametrize(
    ("first", "second"),
    [(SYN, CLAMPED), (QUERY, QUERY_OUT), (PING, PING_OUT), (V6, V6), (ERROR, ERROR_IN), (ESP, ESP_OUT), (SYN, SYN)],
)
def test_a_forwarded_packet_is_seen_twice(first: bytes, second: bytes) -> None:
    assert pair(first, packets.hop(second)) == [0, 1]


def test_the_last_sighting_is_known_with_the_first() -> None:
    out = packets.hop(CLAMPED)
    one, two = sightings([Captured(1, 0, SYN, link=b"lan"), Captured(2, 1, out, link=b"wan")])
    assert one.last is two.packet
    assert two.first is one.packet


@pytest.mark.parametrize(
    ("second", "sent", "after"),
    [
        (CLAMPED, True, 1),  # a translated packet has lost a hop
        (packets.hop(CLAMPED), False, 1),  # and is not received
        (packets.hop(packets.tcp(R, S, 61000, 80, "S", seq=2)), True, 1),
        (packets.hop(CLAMPED), True, PATIENCE + 1),
    ],
)
def test_what_is_another_packet(second: bytes, sent: bool, after: int) -> None:
    assert pair(SYN, second, sent=sent, after=after) == [0, 0]


def test_the_same_announcement_on_two_links_is_two_packets() -> None:
    assert pair(MULTICAST[0], packets.hop(MULTICAST[1])) == [0, 0]


def test_a_retransmission_on_the_same_link_is_another_packet() -> None:
    out = packets.hop(CLAMPED)
    links = [(SYN, b"lan"), (out, b"wan"), (SYN, b"lan"), (out, b"wan")]
    assert firsts([Captured(at, at, data, link=link) for at, (data, link) in enumerate(links, 1)]) == [0, 1, 0, 3]


def test_without_a_link_layer_no_packet_is_seen_again() -> None:
    assert firsts([Captured(number, 0, SYN) for number in (1, 2)]) == [0, 0]


def test_a_tuple_seen_again_on_a_link_is_always_seen_again_there() -> None:
    """A segment of a larger packet, and one before the first packet that the capture has twice."""
    out = [packets.hop(packets.tcp(R, S, 61000, 80, "A", seq=seq, data=b"x")) for seq in (7, 8)]
    links = [(out[0], b"wan"), (SYN, b"lan"), (packets.hop(CLAMPED), b"wan"), (out[1], b"wan")]
    assert firsts([Captured(at, at, data, link=link) for at, (data, link) in enumerate(links, 1)]) == [None, 0, 2, None]


def test_only_so_many_packets_lie_between_two_sightings() -> None:
    between = [Captured(number, 0, b"", link=b"lan") for number in range(2, LOOKAHEAD + 3)]
    last = Captured(LOOKAHEAD + 3, 0, packets.hop(CLAMPED), link=b"wan")
    assert firsts([Captured(1, 0, SYN, link=b"lan"), *between, last])[-1] == 0
    assert firsts([Captured(1, 0, SYN, link=b"lan"), *between[2:], last])[-1] == 1
