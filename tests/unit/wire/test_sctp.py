"""The SCTP checksum, and the offset of the next chunk."""

from conntrackd_py.wire import sctp


def test_crc32c_of_the_check_string() -> None:
    """The check value of CRC-32C (RFC 3720 appendix B.4 uses the same polynomial); bytes 8 to 11 count as zero."""
    assert sctp.crc32c(b"12345678\0\0\0\0", 0, 12) == sctp.crc32c(b"12345678\xff\xff\xff\xff", 0, 12)
    assert sctp.crc32c(bytes(32), 0, 32) == 0x8A9136AA


def test_part_of_a_packet() -> None:
    assert sctp.crc32c(b"ip" + bytes(32) + b"padding", 2, 34) == 0x8A9136AA


def test_the_field_is_little_endian() -> None:
    packet = bytes(8) + sctp.put_checksum(0x01020304)
    assert packet[8:] == b"\x04\x03\x02\x01"
    assert sctp.checksum(packet, 0) == 0x01020304


def test_chunks_are_padded_to_four_bytes() -> None:
    assert sctp.next_chunk(b"\0\0\0\x05", 0) == 8
    assert sctp.next_chunk(b"\0\0\0\x08", 0) == 8
