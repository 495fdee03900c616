"""The words of rules and ct expressions: text <-> protocols, numbers, ranges, addresses, times."""

from typing import Final

from conntrackd_py.const import IPPROTO_AH, IPPROTO_ESP, IPPROTO_ICMPV6, IPPROTO_IGMP, PROTO_NAMES
from conntrackd_py.match.address import AddressError, network, packed_address

PROTOCOLS: Final = {
    **{name: number for number, name in PROTO_NAMES.items()},
    "ipv6-icmp": IPPROTO_ICMPV6,
    "igmp": IPPROTO_IGMP,
    "esp": IPPROTO_ESP,
    "ah": IPPROTO_AH,
}
UNITS: Final = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))  # in ms
HEX: Final = "0123456789abcdef"


class ParseError(ValueError):
    """The text is wrong. `word`: the wrong word; `known`: the words allowed there, if they can be listed."""

    def __init__(self, why: str, word: str = "", known: tuple[str, ...] = ()) -> None:
        super().__init__(why)
        self.why = why
        self.word = word
        self.known = known


class Inexpressible(ParseError):  # noqa: N818  the expression is correct
    """The other syntax cannot express it."""


def is_number(word: str) -> bool:
    return word.isascii() and word.isdigit()


def negation(text: str) -> tuple[str, bool]:
    """The text without a leading `!`, and whether it had one."""
    stripped = text.strip()
    if stripped.startswith("!"):
        return stripped[1:].strip(), True
    return stripped, False


def lookup(word: str, known: dict[str, int], what: str) -> int:
    """The number of a word; `what` names its kind in the error."""
    value = known.get(word.lower())
    if value is None:
        raise ParseError(f"no such {what}: {word}", word, tuple(known))
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
        raise ParseError(f"{word!r} is not a {what} (0 to {most})", word)
    return value


def colon_range(word: str, most: int, what: str) -> list[int]:
    """`low`, `low:high`, `low:` or `:high`, as iptables writes ranges."""
    low, colon, high = word.partition(":")
    if not colon:
        number = integer(low, most, what)
        return [number, number]
    bounds = [integer(low, most, what) if low else 0, integer(high, most, what) if high else most]
    if bounds[1] < bounds[0]:
        raise ParseError(f"{word} ends before it begins", word)
    return bounds


def protocol(word: str) -> int:
    if is_number(word[:1]):
        return integer(word, 255, "protocol")
    return lookup(word, PROTOCOLS, "protocol")


def protocol_name(number: int) -> str:
    return PROTO_NAMES.get(number, str(number))


def address_range(word: str) -> list[bytes]:
    """First and last of `address`, `address/prefix`, `address/netmask` or `address-address`."""
    low, dash, high = word.partition("-")
    try:
        bounds = [packed_address(low), packed_address(high)] if dash else network(word)
    except AddressError:
        raise ParseError(f"{word!r} is not an address, address/prefix or address-address", word) from None
    if len(bounds[0]) != len(bounds[1]):
        raise ParseError(f"{word} mixes IPv4 and IPv6", word)
    if bounds[1] < bounds[0]:
        raise ParseError(f"{word} ends before it begins", word)
    return bounds


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
            total = most + 1
            break
        total += int(word[start:unit]) * scale
    if not word or total > most:
        raise ParseError(f"{word!r} is not a time such as 1m30s", word)
    return total


def time_text(ms: int) -> str:
    text = ""
    for name, scale in UNITS:
        if ms >= scale:
            text += f"{ms // scale}{name}"
            ms %= scale
    return text or "0s"
