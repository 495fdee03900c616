"""A packet before ip.parse, and the accessors of its bytes."""

from conntrackd_py.wire.packet import Packet, put16, u16, u32


def test_an_unparsed_packet_has_no_header_fields() -> None:
    packet = Packet(b"bytes")
    assert (packet.version, packet.protonum, packet.dataoff, packet.end) == (0, 0, 0, 0)
    assert not packet.checksum_partial
    assert not packet.segments


def test_numbers_are_in_network_order() -> None:
    data = b"\0\x12\x34\x56\x78"
    assert u16(data, 1) == 0x1234
    assert u32(data, 1) == 0x12345678
    assert put16(0x1234) == data[1:3]
