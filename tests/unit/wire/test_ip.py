"""Where layer 4 begins and the packet ends, in both families; packets by scapy, expectations by hand."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scapy.compat import raw
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP, IPOption_RR
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)
from scapy.layers.ipsec import AH
from scapy.packet import Packet as Layer
from scapy.packet import Raw

from conntrackd_py.reasons import IP_FRAGMENT, IP_HEADER, IP_TRUNCATED, IP_VERSION, OK
from conntrackd_py.wire import checksum, ip
from conntrackd_py.wire.packet import Packet
from tests.support import packets

V4 = IP(src="192.0.2.1", dst="192.0.2.2")
V6 = IPv6(src="2001:db8::1", dst="2001:db8::2")
EXTENSIONS = {
    0: IPv6ExtHdrHopByHop(),
    43: IPv6ExtHdrRouting(addresses=["2001:db8::3"], segleft=0),
    44: IPv6ExtHdrFragment(offset=0, m=0),  # an atomic fragment (RFC 6946)
    51: AH(payloadlen=4, icv=b"\0" * 12),
    60: IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 12)]),
}
ROUTED = V6 / EXTENSIONS[43]


def parsed(data: bytes, quoted: bool = False) -> Packet:
    packet = Packet(data)
    assert ip.parse(packet, quoted) == OK
    return packet


def refused(data: bytes, quoted: bool = False) -> int:
    return ip.parse(Packet(data), quoted)


@pytest.mark.parametrize("options", [[], [IPOption_NOP()], [IPOption_RR(length=39, routers=["0.0.0.0"] * 9)]])
@pytest.mark.parametrize(("layer", "proto"), [(UDP(), 17), (TCP(), 6), (ICMP(), 1), (Raw(b"any"), 99)])
def test_an_ipv4_packet(options: list[Layer], layer: Layer, proto: int) -> None:
    built = V4 / layer
    built.options, built.proto = options, proto
    data = raw(built)
    packet = parsed(data)
    assert (packet.version, packet.protonum, packet.end) == (4, proto, len(data))
    assert packet.dataoff == (data[0] & 15) * 4 == len(data) - len(raw(layer))
    assert ip.addresses(packet) == packets.address("192.0.2.1") + packets.address("192.0.2.2")


@given(st.lists(st.sampled_from(sorted(EXTENSIONS)), max_size=5))
def test_any_chain_of_ipv6_extensions_is_skipped(chain: list[int]) -> None:
    payload = raw(UDP(sport=1, dport=2) / b"data")
    following = 17
    for kind in reversed(chain):
        extension = EXTENSIONS[kind].copy()
        extension.nh = following
        payload, following = raw(extension) + payload, kind
    data = raw(IPv6(src="2001:db8::1", dst="2001:db8::2", nh=following) / Raw(payload))
    packet = parsed(data)
    assert (packet.version, packet.protonum, packet.end) == (6, 17, len(data))
    assert packet.dataoff == len(data) - len(b"data") - 8
    assert ip.addresses(packet) == packets.address("2001:db8::1") + packets.address("2001:db8::2")


@pytest.mark.parametrize("built", [V4 / UDP() / b"data", V6 / UDP() / b"data"], ids=["v4", "v6"])
def test_bytes_after_the_packet_are_padding(built: Layer) -> None:
    """Ethernet pads a short packet to a frame of 60 bytes."""
    data = raw(built)
    assert parsed(data + b"padding").end == len(data)


@pytest.mark.parametrize("built", [V4 / UDP() / b"data", ROUTED / UDP() / b"data"])
def test_a_truncated_packet_is_refused(built: Layer) -> None:
    data = raw(built)
    for length in range(len(data)):
        assert refused(data[:length]) == IP_TRUNCATED


def test_impossible_headers_are_refused() -> None:
    good = raw(V4 / UDP())
    assert refused(b"\x55" + good[1:]) == IP_VERSION
    assert refused(b"\x44" + good[1:]) == IP_HEADER  # shorter than an IPv4 header is
    assert refused(b"\x4f" + good[1:]) == IP_TRUNCATED  # options beyond the end
    assert refused(raw(IPv6(nh=59))) == IP_HEADER  # no next header
    assert refused(raw(IPv6(nh=60) / Raw(b"\x11\x00\0\0"))) == IP_HEADER  # half an extension
    assert refused(raw(IPv6(nh=60) / Raw(b"\x11\x01" + bytes(6)))) == IP_HEADER  # an extension beyond the end


def test_fragments_are_for_the_kernel_to_reassemble() -> None:
    """The kernel reassembles before the queue, so a fragment here is refused."""
    first = V4 / UDP() / (b"x" * 24)
    first.flags = "MF"
    later = IP(src="192.0.2.1", dst="192.0.2.2", frag=3, proto=17) / Raw(b"x" * 24)
    assert refused(raw(first)) == refused(raw(later)) == IP_FRAGMENT
    v6_first = V6 / IPv6ExtHdrFragment(offset=0, m=1, nh=17) / UDP() / (b"x" * 24)
    v6_later = V6 / IPv6ExtHdrFragment(offset=4, m=0, nh=17) / Raw(b"x" * 24)
    assert refused(raw(v6_first)) == refused(raw(v6_later)) == IP_FRAGMENT


def test_a_do_not_fragment_packet_is_whole() -> None:
    whole = V4 / UDP()
    whole.flags = "DF"
    assert parsed(raw(whole)).protonum == 17


def test_a_jumbogram_takes_its_length_from_the_data() -> None:
    """RFC 2675: a payload length of 0 before a hop-by-hop header."""
    data = raw(V6 / IPv6ExtHdrHopByHop() / UDP() / (b"x" * 100))
    data = data[:4] + b"\0\0" + data[6:]
    assert parsed(data).end == len(data)


@pytest.mark.parametrize("built", [V4 / UDP() / (b"x" * 50), ROUTED / UDP() / (b"x" * 50)])
def test_a_quoted_packet_lacks_its_tail(built: Layer) -> None:
    data = raw(built)
    cut = data[: len(data) - 50]
    assert refused(cut) == IP_TRUNCATED
    packet = parsed(cut, quoted=True)
    assert packet.end == len(cut)
    assert packet.dataoff == len(cut) - 8


def test_the_first_fragment_can_be_quoted_but_no_later_one() -> None:
    """Only the first has the header with the ports."""
    first = V4 / UDP() / (b"x" * 24)
    first.flags = "MF"
    assert parsed(raw(first), quoted=True).protonum == 17
    assert refused(raw(IP(frag=3, proto=17) / Raw(b"x" * 24)), quoted=True) == IP_FRAGMENT
    assert parsed(raw(V6 / IPv6ExtHdrFragment(offset=0, m=1, nh=17) / UDP()), quoted=True).dataoff == 48
    assert refused(raw(V6 / IPv6ExtHdrFragment(offset=4, nh=17) / Raw(b"x" * 24)), quoted=True) == IP_FRAGMENT


@pytest.mark.parametrize("built", [V4 / UDP(), V6 / UDP(), V4 / TCP(), ROUTED / TCP()])
def test_the_pseudo_header_makes_the_checksum_right(built: Layer) -> None:
    data = raw(built / b"odd")
    packet = parsed(data)
    assert checksum.valid(data[packet.dataoff :], ip.pseudo_header(packet))


OUTCOMES = {OK, IP_FRAGMENT, IP_HEADER, IP_TRUNCATED, IP_VERSION}
WHOLE = [raw(built) for built in (V4 / UDP(), V4 / TCP(), V6 / UDP(), ROUTED / TCP(), V6 / EXTENSIONS[60] / UDP())]
CHANGES = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 255)), max_size=3)


@st.composite
def nearly(draw: st.DrawFn) -> bytes:
    """A packet with a few bytes changed and a few more behind it."""
    data = bytearray(draw(st.sampled_from(WHOLE)) + draw(st.binary(max_size=3)))
    for at, value in draw(CHANGES):
        data[at % len(data)] = value
    return bytes(data)


@given(st.binary(max_size=80) | nearly(), st.booleans())
def test_any_bytes_are_parsed_or_refused(data: bytes, quoted: bool) -> None:
    assert ip.parse(Packet(data), quoted) in OUTCOMES


@given(nearly(), st.booleans())
def test_what_is_parsed_is_within_the_bytes(data: bytes, quoted: bool) -> None:
    packet = Packet(data)
    assume(ip.parse(packet, quoted) == OK)
    assert packet.version in (4, 6)
    assert 20 <= packet.dataoff <= packet.end <= len(data)


@pytest.mark.parametrize("family", [V4, V6], ids=["v4", "v6"])
def test_the_destination_is_the_second_address(family: Layer) -> None:
    packet = parsed(bytes(family / UDP()))
    assert ip.addresses(packet)[-len(ip.destination(packet)) :] == ip.destination(packet)
    assert ip.destination(packet) == packets.address(family.dst)


@pytest.mark.parametrize("quoted", [False, True])
@pytest.mark.parametrize("more", [0, 1])
def test_the_numbers_of_a_fragment_are_its_offset_in_bytes_and_its_identification(more: int, quoted: bool) -> None:
    """Flags and reserved bits are left out."""
    v4 = packets.ip("192.0.2.1", "192.0.2.2", 17, bytes(16))
    v4 = v4[:4] + (0xABCD).to_bytes(2, "big") + (0xC000 | more << 13 | 0x1234).to_bytes(2, "big") + v4[8:]
    header = bytes((17, 0)) + (0x9A08 | 6 | more).to_bytes(2, "big") + (0x12345678).to_bytes(4, "big")
    v6 = packets.ip("2001:db8::1", "2001:db8::2", 44, header + bytes(16))
    for data, numbers in ((v4, (0x1234 * 8, 0xABCD)), (v6, (0x9A08, 0x12345678))):
        packet = Packet(data)
        assert ip.parse(packet, quoted) == IP_FRAGMENT
        assert packet.numbers == numbers


def test_the_numbers_of_a_first_fragment() -> None:
    v4 = packets.ip("192.0.2.1", "192.0.2.2", 17, bytes(16))
    v4 = v4[:6] + b"\x20\0" + v4[8:]
    v6 = packets.ip("2001:db8::1", "2001:db8::2", 44, bytes((17, 0, 0, 1, 0, 0, 0, 9)) + bytes(16))
    for data, numbers in ((v4, (0, 1)), (v6, (0, 9))):
        packet = Packet(data)
        assert ip.parse(packet) == IP_FRAGMENT
        assert packet.numbers == numbers
