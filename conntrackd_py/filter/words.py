"""The words both spellings share: protocols, numbers, addresses, times; and the two ways they can go wrong."""

from ipaddress import ip_address, ip_network
from typing import Final

from conntrackd_py.const import IPPROTO_AH, IPPROTO_ESP, IPPROTO_ICMPV6, IPPROTO_IGMP, PROTO_NAMES

PROTOCOLS: Final = {
    **{name: number for number, name in PROTO_NAMES.items()},
    "ipv6-icmp": IPPROTO_ICMPV6,
    "igmp": IPPROTO_IGMP,
    "esp": IPPROTO_ESP,
    "ah": IPPROTO_AH,
}
UNITS: Final = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))  # in ms
HEX: Final = "0123456789abcdef"


class ExprError(ValueError):
    """The text cannot be read. `word` is the one that is wrong; `known`, if not empty, what could have stood there."""

    def __init__(self, why: str, word: str = "", known: tuple[str, ...] = ()) -> None:
        super().__init__(why)
        self.why = why
        self.word = word
        self.known = known


class Inexpressible(ExprError):  # noqa: N818  it says of an expression what it is
    """The expression is right, but the other spelling has no words for it."""


def is_number(word: str) -> bool:
    return word.isascii() and word.isdigit()


def lookup(word: str, known: dict[str, int], what: str) -> int:
    """What a word stands for; `what` names its kind."""
    value = known.get(word.lower())
    if value is None:
        raise ExprError(f"no such {what}: {word}", word, tuple(known))
    return value


def integer(word: str, most: int, what: str) -> int:
    """A decimal or hexadecimal number, 0 to most."""
    text = word.lower()
    value = -1
    if text.startswith("0x") and text[2:] and all(c in HEX for c in text[2:]):
        value = int(text[2:], 16)
    elif is_number(text):
        value = int(text)
    if not 0 <= value <= most:
        raise ExprError(f"{word or 'nothing'} where a {what} (0 to {most}) belongs", word)
    return value


def protocol(word: str) -> int:
    if is_number(word[:1]):
        return integer(word, 255, "protocol")
    return lookup(word, PROTOCOLS, "protocol")


def protocol_name(number: int) -> str:
    return PROTO_NAMES.get(number, str(number))


def address_range(word: str) -> list[bytes]:
    """`address`, `address/prefix`, `address/netmask` or `address-address`: lowest and highest."""
    low, dash, high = word.partition("-")
    try:
        if dash:
            bounds = [ip_address(low).packed, ip_address(high).packed]
        else:
            network = ip_network(word, strict=False)
            bounds = [network.network_address.packed, network.broadcast_address.packed]
    except ValueError:
        raise ExprError(f"{word} where an address, address/prefix or address-address belongs", word) from None
    if len(bounds[0]) != len(bounds[1]):
        raise ExprError(f"{word} mixes IPv4 and IPv6", word)
    if bounds[1] < bounds[0]:
        raise ExprError(f"{word} ends before it begins", word)
    return bounds


def address_text(low: bytes, high: bytes) -> str:
    """The shortest spelling of a range that address_range reads."""
    first, last = ip_address(low), ip_address(high)
    if low == high:
        return str(first)
    size = int(last) - int(first) + 1
    if size & (size - 1) == 0 and int(first) % size == 0:
        return f"{first}/{len(low) * 8 - size.bit_length() + 1}"
    return f"{first}-{last}"


def milliseconds(word: str, most: int) -> int:
    """A time as nft writes it: `1m30s`, `90000ms`, or whole seconds."""
    if is_number(word):
        return integer(word, most // 1000, "number of seconds") * 1000
    total = at = 0
    while at < len(word):
        start = at
        while at < len(word) and is_number(word[at]):
            at += 1
        unit = at
        while at < len(word) and not is_number(word[at]):
            at += 1
        scale = dict(UNITS).get(word[unit:at], 0)
        if start == unit or not scale:
            raise ExprError(f"{word} where a time such as 1m30s belongs", word)
        total += int(word[start:unit]) * scale
    if not word or total > most:
        raise ExprError(f"{word or 'nothing'} where a time such as 1m30s belongs", word)
    return total


def time_text(ms: int) -> str:
    text = ""
    for name, scale in UNITS:
        if ms >= scale:
            text += f"{ms // scale}{name}"
            ms %= scale
    return text or "0s"
