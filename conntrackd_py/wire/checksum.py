"""The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

Sums are residues modulo 65535: the ones' complement sum of 16-bit words is the big-endian number
modulo 65535, because 2**16 leaves remainder 1. That turns a loop over words into one division.
"""


def total(data: bytes) -> int:
    """Ones' complement sum of data's 16-bit words, 0 to 65534; an odd last byte is padded with zero."""
    number = int.from_bytes(data, "big")
    if len(data) & 1:
        number <<= 8
    return number % 65535


def finish(residue: int) -> int:
    """The checksum field for a packet whose other words sum to residue."""
    return -residue % 65535


def adjust(field: int, old: int, new: int) -> int:
    """The checksum field after words that summed to `old` have been replaced by words summing to `new`.

    RFC 1624 equation 3. A field of 0 stands for itself; UDP's "no checksum" is the caller's business.
    """
    return (field + old - new) % 65535


def valid(data: bytes, pseudo: int) -> bool:
    """Whether data, its own checksum field included, sums to ones with the pseudo-header sum."""
    number = int.from_bytes(data, "big")
    if len(data) & 1:
        number <<= 8
    if number == 0 and pseudo == 0:
        return False  # all words zero: the sum is 0, not ones
    return (number + pseudo) % 65535 == 0
