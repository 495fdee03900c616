"""SCTP: common header, chunks, and the CRC32c that covers both (RFC 9260)."""

from typing import Final

from conntrackd_py.wire.packet import u16

HEADER: Final = 12
CHUNK_HEADER: Final = 4
INIT_HEADER: Final = 20  # of an INIT or INIT ACK chunk, its own header included
FLAG_T: Final = 1  # the tag is reflected: it is the other direction's

DATA: Final = 0
INIT: Final = 1
INIT_ACK: Final = 2
HEARTBEAT: Final = 4
HEARTBEAT_ACK: Final = 5
ABORT: Final = 6
SHUTDOWN: Final = 7
SHUTDOWN_ACK: Final = 8
ERROR: Final = 9
COOKIE_ECHO: Final = 10
COOKIE_ACK: Final = 11
SHUTDOWN_COMPLETE: Final = 14

_POLYNOMIAL: Final = 0x82F63B78  # Castagnoli, bits reversed


def _table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (_POLYNOMIAL if crc & 1 else 0)
        table.append(crc)
    return table


_CRC: Final = _table()


def crc32c(data: bytes, start: int, end: int) -> int:
    """The checksum of the packet data[start:end], its own field (bytes 8 to 11) taken as zero."""
    crc = 0xFFFFFFFF
    field = start + 8
    for at in range(start, end):
        byte = 0 if field <= at < field + 4 else data[at]
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def checksum(data: bytes, at: int) -> int:
    """The checksum field, which is little-endian."""
    return data[at + 8] | data[at + 9] << 8 | data[at + 10] << 16 | data[at + 11] << 24


def put_checksum(value: int) -> bytes:
    return value.to_bytes(4, "little")


def next_chunk(data: bytes, at: int) -> int:
    """Offset of the chunk after the one at `at`; chunks are padded to four bytes."""
    return at + (u16(data, at + 2) + 3 & ~3)
