"""How iptables spells networks, ports, interfaces and NAT targets; text -> values, ValueError with the reason."""

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

LONGEST_INTERFACE: Final = 15  # IFNAMSIZ without its closing zero


class Target(NamedTuple):
    """Inclusive ranges of addresses (packed; empty: keep) and ports (0, 0: none given)."""

    low: bytes
    high: bytes
    port_low: int
    port_high: int


ANYTHING: Final = Target(b"", b"", 0, 0)


def negation(text: str) -> tuple[str, bool]:
    """The text without a leading `!`, and whether it had one."""
    stripped = text.strip()
    if stripped.startswith("!"):
        return stripped[1:].strip(), True
    return stripped, False


def wrong_interface(name: str) -> str:
    """Why no network interface can have this name, `+` at the end allowed; empty when one can."""
    if not name:
        return "must not be empty"
    if len(name) > LONGEST_INTERFACE:
        return f"is longer than the {LONGEST_INTERFACE} characters of an interface name"
    if "/" in name or any(c.isspace() or not c.isprintable() for c in name) or name in (".", ".."):
        return "is not an interface name"
    return ""


def network(text: str) -> IPv4Network | IPv6Network:
    """`address`, `address/prefix` or `address/netmask`; bits beyond the prefix are ignored, as iptables does."""
    try:
        net = ip_network(text, strict=False)
    except ValueError:
        raise ValueError("must be an address, address/prefix or address/netmask") from None
    mask = text.partition("/")[2]
    # The standard library would also read 0.0.0.255 as a prefix of 24, which nobody means here.
    if "." in mask and mask != str(net.netmask):
        raise ValueError("has a netmask with gaps")
    if "%" in text:
        raise ValueError("must not have a zone")
    return net


def matched_ports(text: str) -> tuple[int, int]:
    """`80`, `1000:2000`, `:1023` or `1024:` -> (low, high)."""
    low_text, colon, high_text = text.partition(":")
    low = _port(low_text or "0" if colon else low_text, 0)
    high = _port(high_text or "65535", 0) if colon else low
    if high < low:
        raise ValueError("ends before it begins")
    return low, high


def target_ports(text: str) -> tuple[int, int]:
    """`80` or `1024-65535` -> (low, high)."""
    low_text, dash, high_text = text.partition("-")
    low = _port(low_text, 1)
    high = _port(high_text, 1) if dash else low
    if high < low:
        raise ValueError("has a port range that ends before it begins")
    return low, high


def target(text: str) -> Target:
    """`--to-source` and `--to-destination`: `[address[-address]][:port[-port]]`, IPv6 in brackets before a port."""
    addresses, ports = _split_target(text)
    port_low, port_high = target_ports(ports) if ports else (0, 0)
    if not addresses:
        return Target(b"", b"", port_low, port_high)
    low_text, dash, high_text = addresses.partition("-")
    low = _address(low_text)
    high = _address(high_text) if dash else low
    if len(low) != len(high):
        raise ValueError("mixes IPv4 and IPv6")
    if high < low:
        raise ValueError("has an address range that ends before it begins")
    return Target(low, high, port_low, port_high)


def _split_target(text: str) -> tuple[str, str]:
    """(addresses without brackets, ports)."""
    if text.startswith("["):
        addresses, bracket, rest = text.rpartition("]")
        if not bracket or (rest and not rest.startswith(":")) or rest == ":":
            raise ValueError("must be [address] or [address]:port")
        return addresses[1:].replace("]-[", "-"), rest[1:]
    if text.count(":") > 1:
        return text, ""
    addresses, colon, ports = text.partition(":")
    if not text or (colon and not ports):
        raise ValueError("must be address, address-address, either with :port or :port-port, or :port alone")
    return addresses, ports


def _address(text: str) -> bytes:
    try:
        address = ip_address(text)
    except ValueError:
        raise ValueError(f"has {text!r} where an address belongs") from None
    if "%" in text:
        raise ValueError("must not have a zone")
    return address.packed


def _port(text: str, least: int) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 5 and least <= int(text) <= 65535:
        return int(text)
    raise ValueError(f"has {text!r} where a port ({least} to 65535) belongs")
