"""Length and checksum of UDP and UDP-Lite, where the two differ most."""

import struct

import pytest

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPS_ASSURED, IPS_CONFIRMED, IPS_NAT_CLASH, IPS_SEEN_REPLY, ORIGINAL
from conntrackd_py.proto.udp import Udp, UdpLite
from conntrackd_py.reasons import L4_CHECKSUM, L4_TRUNCATED, OK
from conntrackd_py.wire import checksum, ip
from tests.support import packets

STREAM_AFTER = Tunables().udp_stream_after * 1000  # ms

FAMILIES = pytest.mark.parametrize(
    ("src", "dst"), [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")], ids=["v4", "v6"]
)
UDP, UDPLITE = Udp(Tunables()), UdpLite(Tunables())


def udp_packet(src: str, dst: str, length: int, field: int | None = None, data: bytes = b"data") -> Skb:
    """With this length field and, if given, this checksum field."""
    body = struct.pack(">HHHH", 1, 2, length, field or 0) + data
    if field is None:
        body = packets.summed(src, dst, 17, body, 6)
    return arriving(packets.ip(src, dst, 17, body))


def lite_packet(src: str, dst: str, coverage: int, data: bytes, covered: int) -> Skb:
    """A checksum over `covered` bytes, whatever the coverage field says."""
    body = struct.pack(">HHHH", 1, 2, coverage, 0) + data
    pseudo = checksum.total(packets.address(src) + packets.address(dst)) + 136 + len(body)
    field = checksum.finish(checksum.total(body[:covered]) + pseudo) or 0xFFFF
    return arriving(packets.ip(src, dst, 136, body[:6] + struct.pack(">H", field) + body[8:]))


def arriving(data: bytes) -> Skb:
    skb = Skb(data)
    assert ip.parse(skb) == OK
    return skb


@FAMILIES
@pytest.mark.parametrize(
    ("length", "expected"), [(0, L4_TRUNCATED), (7, L4_TRUNCATED), (8, OK), (11, OK), (12, OK), (13, L4_TRUNCATED)]
)
def test_the_length_field_lies_between_header_and_packet(src: str, dst: str, length: int, expected: int) -> None:
    assert UDP.check(udp_packet(src, dst, length), True) == expected


@FAMILIES
def test_no_checksum_is_no_wrong_checksum(src: str, dst: str) -> None:
    assert UDP.check(udp_packet(src, dst, 12, field=0), True) == OK
    assert UDP.check(udp_packet(src, dst, 12, field=0x1234), True) == L4_CHECKSUM
    assert UDP.check(udp_packet(src, dst, 12, field=0x1234), False) == OK


@FAMILIES
def test_udplite_covers_what_it_says(src: str, dst: str) -> None:
    data = b"some data"
    assert UDPLITE.check(lite_packet(src, dst, 0, data, 17), True) == OK
    assert UDPLITE.check(lite_packet(src, dst, 8, data, 8), True) == OK
    assert UDPLITE.check(lite_packet(src, dst, 12, data, 12), True) == OK
    assert UDPLITE.check(lite_packet(src, dst, 12, data, 8), True) == L4_CHECKSUM
    assert UDPLITE.check(lite_packet(src, dst, 12, data, 8), False) == OK


@FAMILIES
def test_udplite_damage_beyond_its_coverage_does_not_matter(src: str, dst: str) -> None:
    skb = lite_packet(src, dst, 8, b"some data", 8)
    assert UDPLITE.check(arriving(packets.broken(skb.data)), True) == OK
    assert UDPLITE.check(arriving(packets.broken(lite_packet(src, dst, 0, b"some data", 17).data)), True) == L4_CHECKSUM


@FAMILIES
@pytest.mark.parametrize("coverage", [1, 7, 18])
def test_udplite_coverage_that_cannot_be(src: str, dst: str, coverage: int) -> None:
    assert UDPLITE.check(lite_packet(src, dst, coverage, b"some data", 17), False) == L4_TRUNCATED


def test_udplite_without_a_checksum_is_refused() -> None:
    """RFC 3828 3.1: unlike UDP's it may not be absent."""
    body = struct.pack(">HHHH", 1, 2, 8, 0)
    assert UDPLITE.check(arriving(packets.ip("192.0.2.1", "192.0.2.2", 136, body)), False) == L4_CHECKSUM


@pytest.mark.parametrize("tracker", [UDP, UDPLITE], ids=["udp", "udplite"])
def test_a_header_cut_off(tracker: Udp) -> None:
    for length in range(8):
        skb = arriving(packets.ip("192.0.2.1", "192.0.2.2", tracker.protonum, bytes(length)))
        assert tracker.check(skb, False) == L4_TRUNCATED
        assert tracker.l4(skb) == (bytes(4) if length >= 4 else b"")


def connection(status: int) -> NfConn:
    ct = NfConn(b"", b"", UDP, 0)
    UDP.packet(ct, udp_packet("192.0.2.1", "192.0.2.2", 12), ORIGINAL, 0, True)
    ct.status |= status
    return ct


@pytest.mark.parametrize(
    ("status", "at", "span", "assured"),
    [
        (IPS_CONFIRMED, STREAM_AFTER + 1, 30_000, False),
        (IPS_CONFIRMED | IPS_SEEN_REPLY, STREAM_AFTER, 30_000, False),
        (IPS_CONFIRMED | IPS_SEEN_REPLY, STREAM_AFTER + 1, 120_000, True),
        (IPS_CONFIRMED | IPS_SEEN_REPLY | IPS_NAT_CLASH, STREAM_AFTER + 1, 120_000, False),
    ],
)
def test_a_stream_begins_after_two_seconds_to_the_millisecond(status: int, at: int, span: int, assured: bool) -> None:
    ct = connection(status)
    UDP.packet(ct, udp_packet("192.0.2.1", "192.0.2.2", 12), ORIGINAL, at, False)
    assert ct.remaining(at) == span
    assert bool(ct.status & IPS_ASSURED) == assured
