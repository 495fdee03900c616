"""Addresses: their text and their sets. An address is packed, 4 or 16 bytes; the length is the family.

No set has an address of the other family, inverted or not: `! 10.0.0.0/8` means IPv4 packets.
Errors are AddressError, in the words of conntrack(8) where it has some.
"""

from bisect import bisect_left
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Final, final

from conntrackd_py.match.numbers import join

FAMILIES: Final = {"ipv4": 4, "ipv6": 16}  # bytes of an address by name of the family
VERSIONS: Final = {4: 4, 16: 6}  # IP version by bytes of an address


class AddressError(ValueError):
    """The text is not an address, network or port."""


@final
class Addresses:
    """Inclusive ranges `low, high, low, high, ...`, sorted and without overlap, possibly inverted."""

    def __init__(self, bounds: list[bytes], invert: bool = False) -> None:
        self.bounds = bounds
        self.length = len(bounds[0])
        self.invert = invert

    def has(self, address: bytes) -> bool:
        if len(address) != self.length:
            return False
        bounds = self.bounds
        at = bisect_left(bounds, address)
        within = at % 2 == 1 or (at < len(bounds) and bounds[at] == address)
        return within != self.invert


@final
class MaskedNetwork:
    """`address[/prefix]` or `address/mask`, as conntrack(8) reads it; the mask may have gaps. Raises AddressError."""

    def __init__(self, text: str) -> None:
        address, self.mask = _masked(text)
        self.length = len(address)
        self.network = int.from_bytes(address, "big") & self.mask

    def has(self, address: bytes) -> bool:
        return len(address) == self.length and int.from_bytes(address, "big") & self.mask == self.network


def addresses(bounds: list[bytes], invert: bool = False) -> Addresses:
    """The set of these ranges, all of one family, overlapping and adjacent ones merged."""
    length = len(bounds[0])
    joined = join([int.from_bytes(bound, "big") for bound in bounds])
    return Addresses([bound.to_bytes(length, "big") for bound in joined], invert)


def network(text: str) -> list[bytes]:
    """First and last address of `address[/prefix]` or `address/netmask`; host bits are ignored. Raises AddressError."""
    address, mask = _masked(text)
    hosts = (1 << len(address) * 8) - 1 - mask
    if hosts & (hosts + 1):
        raise AddressError(f"Netmask with gaps `{text[:60]}'")
    low = int.from_bytes(address, "big") & mask
    return [low.to_bytes(len(address), "big"), (low | hosts).to_bytes(len(address), "big")]


def address_text(address: bytes) -> str:
    return inet_ntop(AF_INET if len(address) == 4 else AF_INET6, address)


def range_text(low: bytes, high: bytes) -> str:
    """The shortest text of an address range: `address`, `address/prefix` or `address-address`."""
    if low == high:
        return address_text(low)
    first = int.from_bytes(low, "big")
    size = int.from_bytes(high, "big") - first + 1
    if size & (size - 1) == 0 and first % size == 0:
        return f"{address_text(low)}/{len(low) * 8 - size.bit_length() + 1}"
    return f"{address_text(low)}-{address_text(high)}"


def packed_address(text: str) -> bytes:
    """4 or 16 bytes. Raises AddressError."""
    try:
        return inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except (OSError, ValueError) as error:
        raise AddressError(f"Invalid IP address `{text[:60]}'") from error


def address_and_port(text: str) -> tuple[bytes, int | None]:
    """`ip`, `ip:port` or `[ip]:port`, as the NAT options of conntrack(8) take it. Raises AddressError.

    Brackets without a port are refused, as conntrack(8) does.
    """
    if text.startswith("["):
        address, bracket, rest = text[1:].partition("]")
        if not bracket:
            raise AddressError(f"No closing ']' around IPv6 address `{text[:60]}'")
        if not address:
            raise AddressError("No IPv6 address specified")
        if not rest.startswith(":"):
            raise AddressError(
                f"Invalid IP address `{text[:60]}': write [address]:port, or the address without brackets"
            )
        return packed_address(address), _port(rest[1:])
    if text.count(":") == 1:
        address, _, port = text.partition(":")
        return packed_address(address), _port(port)
    return packed_address(text), None


def _masked(text: str) -> tuple[bytes, int]:
    """Address and mask; without a mask, all bits."""
    address, slash, mask = text.partition("/")
    packed = packed_address(address)
    width = len(packed) * 8
    if not slash:
        return packed, (1 << width) - 1
    if mask.isascii() and mask.isdigit() and len(mask) <= 3 and int(mask) <= width:
        return packed, (1 << width) - (1 << width - int(mask))
    if "." not in mask and ":" not in mask:
        raise AddressError(f"Invalid netmask `{mask[:60]}'")
    bits = packed_address(mask)
    if len(bits) != len(packed):
        raise AddressError(f"Invalid netmask `{mask[:60]}'")
    return packed, int.from_bytes(bits, "big")


def _port(text: str) -> int:
    if not text:
        raise AddressError("No port specified after `:'")
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise AddressError(f"Invalid port `{text[:60]}'")
    return int(text)
