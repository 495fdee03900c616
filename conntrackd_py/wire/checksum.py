"""The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

A sum is a residue modulo 65535: the ones' complement sum of 16-bit words equals the big-endian number
modulo 65535, because 2**16 leaves remainder 1. So one division replaces a loop over words.
"""

from typing import Final

from conntrackd_py.wire.packet import u16

SHORT: Final = 64  # bytes, up to which adding words costs less than a division


def total(data: bytes) -> int:
    """Ones' complement sum of data's 16-bit words, 0 to 65534; an odd last byte is padded with zero."""
    return _number(data) % 65535


def _number(data: bytes) -> int:
    """A number with the residue of data's words. It is 0 only if all words are 0."""
    length = len(data)
    if length > SHORT or length & 1:
        number = int.from_bytes(data, "big")
        return number << 8 if length & 1 else number
    at = number = 0
    while at < length:
        number += u16(data, at)
        at += 2
    return number


def finish(residue: int) -> int:
    """The checksum field of a packet whose other words sum to residue."""
    return -residue % 65535


def adjust(field: int, old: int, new: int) -> int:
    """The checksum field after words that sum to `new` have replaced words that sum to `old`.

    RFC 1624 equation 3. The caller handles UDP's "no checksum" (0).
    """
    return (field + old - new) % 65535


def valid(data: bytes, pseudo: int) -> bool:
    """Whether data, with its checksum field, and the pseudo-header sum add up to all ones."""
    number = _number(data)
    if number == 0 and pseudo == 0:
        return False  # all words zero: the sum is 0, not ones
    return (number + pseudo) % 65535 == 0
