"""Addresses of a request: `address`, `address/bits`, `address/mask`, `address:port`, `[address]:port`."""

from socket import AF_INET, AF_INET6, inet_pton

from conntrackd_py.control.protocol.requests import RequestError


class AddressError(RequestError):
    """Reads as conntrack(8)'s own message, where it has one."""


class Network:
    """`address[/bits]` or `address/mask`; test with `packed in network`. Raises AddressError.

    Host bits are ignored, as in conntrack(8). The bits of a mask need not be contiguous.
    """

    def __init__(self, text: str) -> None:
        address, slash, mask = text.partition("/")
        packed = packed_address(address)
        self.length = len(packed)
        self.mask = self._mask(mask) if slash else (1 << self.length * 8) - 1
        self.network = int.from_bytes(packed, "big") & self.mask

    def _mask(self, text: str) -> int:
        width = self.length * 8
        if text.isascii() and text.isdigit() and len(text) <= 3 and int(text) <= width:
            return (1 << width) - (1 << width - int(text))
        if "." not in text and ":" not in text:
            raise AddressError(f"Invalid netmask `{text[:60]}'")
        mask = packed_address(text)
        if len(mask) != self.length:
            raise AddressError(f"Invalid netmask `{text[:60]}'")
        return int.from_bytes(mask, "big")

    def __contains__(self, packed: bytes) -> bool:
        return len(packed) == self.length and int.from_bytes(packed, "big") & self.mask == self.network


def packed_address(text: str) -> bytes:
    """4 or 16 bytes; raises AddressError."""
    try:
        return inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except (OSError, ValueError) as error:
        raise AddressError(f"Invalid IP address `{text[:60]}'") from error


def address_and_port(text: str) -> tuple[bytes, int | None]:
    """`ip`, `ip:port` or `[ip]:port`; raises AddressError. Brackets need a port, as in conntrack(8)'s NAT options."""
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


def _port(text: str) -> int:
    if not text:
        raise AddressError("No port specified after `:'")
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise AddressError(f"Invalid port `{text[:60]}'")
    return int(text)
