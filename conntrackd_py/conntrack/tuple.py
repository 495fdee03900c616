"""A tuple: what identifies one direction of a connection, as bytes that are also the table's key.

      0        n        2n       2n+2     2n+4
      +--------+--------+--------+--------+----------+
      | src    | dst    | l4 src | l4 dst | protonum |      n = 4 (IPv4) or 16 (IPv6)
      +--------+--------+--------+--------+----------+

    ports        l4 src = source port, l4 dst = destination port
    ICMP         l4 src = identifier,  l4 dst = type, code
    no ports     both zero

Nothing but this file knows the offsets. The length is the family; there are no v4/v6 twins.
"""

from typing import Final

from conntrackd_py.const import AF_INET, AF_INET6

V4_LENGTH: Final = 13
V6_LENGTH: Final = 37
PROTO_BYTE: Final = tuple(bytes([number]) for number in range(256))


def address_length(t: bytes) -> int:
    return 4 if len(t) == V4_LENGTH else 16


def l3num(t: bytes) -> int:
    return AF_INET if len(t) == V4_LENGTH else AF_INET6


def protonum(t: bytes) -> int:
    return t[len(t) - 1]


def src(t: bytes) -> bytes:
    return t[: address_length(t)]


def dst(t: bytes) -> bytes:
    n = address_length(t)
    return t[n : n + n]


def l4(t: bytes) -> bytes:
    """The four bytes of layer 4: l4 src and l4 dst."""
    return t[len(t) - 5 : len(t) - 1]


def l4src(t: bytes) -> int:
    """Source port or ICMP identifier."""
    return t[len(t) - 5] << 8 | t[len(t) - 4]


def l4dst(t: bytes) -> int:
    """Destination port, or ICMP type << 8 | code."""
    return t[len(t) - 3] << 8 | t[len(t) - 2]


def make(pair: bytes, l4part: bytes, proto: int) -> bytes:
    """pair: source and destination address in a row, as they stand in the packet."""
    return pair + l4part + PROTO_BYTE[proto]


def swapped(t: bytes, l4part: bytes) -> bytes:
    """t with the addresses exchanged and the given layer 4 bytes."""
    n = address_length(t)
    return t[n : n + n] + t[:n] + l4part + t[len(t) - 1 :]


def with_src(t: bytes, address: bytes, l4source: int) -> bytes:
    """t with another source address and l4 src."""
    n = address_length(t)
    return address + t[n : n + n] + l4source.to_bytes(2, "big") + t[len(t) - 3 :]


def with_dst(t: bytes, address: bytes, l4part: bytes) -> bytes:
    """t with another destination address and layer 4 bytes."""
    return t[: address_length(t)] + address + l4part + t[len(t) - 1 :]
