"""A tuple identifies one direction of a connection. It is bytes, and the key of the table.

      0        n        2n       2n+2     2n+4       2n+5
      +--------+--------+--------+--------+----------+ - - - - +
      | src    | dst    | l4 src | l4 dst | protonum |  zone   |      n = 4 (IPv4) or 16 (IPv6)
      +--------+--------+--------+--------+----------+ - - - - +

    ports        l4 src = source port, l4 dst = destination port
    ICMP         l4 src = identifier,  l4 dst = type, code
    no ports     both zero
    zone         two bytes, absent in zone 0

Only this file knows the offsets. The length gives the family, so one function serves IPv4 and IPv6.
"""

from typing import Final

from conntrackd_py.const import AF_INET, AF_INET6, IPPROTO_ICMP, IPPROTO_ICMPV6

V6_LENGTH: Final = 37
PROTO_BYTE: Final = tuple(bytes([number]) for number in range(256))


def address_length(t: bytes) -> int:
    return 4 if len(t) < V6_LENGTH else 16


def l3num(t: bytes) -> int:
    return AF_INET if len(t) < V6_LENGTH else AF_INET6


def protonum(t: bytes) -> int:
    return t[12] if len(t) < V6_LENGTH else t[36]


def zone(t: bytes) -> int:
    at = 2 * address_length(t) + 5
    return t[at] << 8 | t[at + 1] if len(t) > at else 0


def with_zone(t: bytes, zone_id: int) -> bytes:
    """t, which is in zone 0, in this zone."""
    return t + zone_id.to_bytes(2, "big") if zone_id else t


def bare(t: bytes) -> bytes:
    """t in zone 0, as a packet shows it."""
    return t[: 2 * address_length(t) + 5]


def src(t: bytes) -> bytes:
    return t[: address_length(t)]


def dst(t: bytes) -> bytes:
    n = address_length(t)
    return t[n : n + n]


def l4(t: bytes) -> bytes:
    """The four bytes of layer 4: l4 src and l4 dst."""
    at = 2 * address_length(t)
    return t[at : at + 4]


def l4src(t: bytes) -> int:
    """Source port or ICMP identifier."""
    at = 2 * address_length(t)
    return t[at] << 8 | t[at + 1]


def l4dst(t: bytes) -> int:
    """Destination port, or ICMP type << 8 | code."""
    at = 2 * address_length(t) + 2
    return t[at] << 8 | t[at + 1]


def make(pair: bytes, l4part: bytes, proto: int) -> bytes:
    """pair: source and destination address in a row, as in the packet."""
    return pair + l4part + PROTO_BYTE[proto]


def swapped(t: bytes, l4part: bytes) -> bytes:
    """t with the addresses exchanged and the given layer 4 bytes."""
    n = address_length(t)
    return t[n : n + n] + t[:n] + l4part + t[n + n + 4 :]


def service(t: bytes) -> bytes:
    """l4 dst and protonum."""
    at = 2 * address_length(t) + 2
    return t[at : at + 3]


def source_key(t: bytes) -> bytes:
    """The source half of t: source address, l4 src, protonum, zone."""
    n = address_length(t)
    return t[:n] + t[2 * n : 2 * n + 2] + t[2 * n + 4 :]


def destination_key(t: bytes, source: bool) -> bytes:
    """The destination half of t: destination address, l4 dst, protonum, zone. source: with the source address."""
    n = address_length(t)
    return t[0 if source else n : 2 * n] + t[2 * n + 2 :]


def with_src(t: bytes, address: bytes, l4source: int) -> bytes:
    """t with another source address and l4 src."""
    n = address_length(t)
    return address + t[n : n + n] + l4source.to_bytes(2, "big") + t[n + n + 2 :]


def with_dst(t: bytes, address: bytes, l4part: bytes) -> bytes:
    """t with another destination address and layer 4 bytes."""
    n = address_length(t)
    return t[:n] + address + l4part + t[n + n + 4 :]


def with_protonum(t: bytes, other: bytes) -> bytes:
    """t with protonum and zone of other."""
    at = 2 * address_length(t) + 4
    return t[:at] + other[at:]


def routed(mine: bytes, other: bytes) -> bytes:
    """The tuple of packets between their two visits: the destination of `mine` becomes the source of `other`.

    mine, other: the tuples of a connection. An ICMP query keeps its identifier, type and code. The result has no zone.
    """
    n = address_length(mine)
    l4part = l4(mine)
    if protonum(mine) not in (IPPROTO_ICMP, IPPROTO_ICMPV6):
        l4part = l4part[:2] + l4(other)[:2]
    return mine[:n] + other[:n] + l4part + mine[2 * n + 4 : 2 * n + 5]
