"""The values of options: protocols, numbers, choices, labels. All raise UsageError for what they cannot read."""

from collections.abc import Mapping
from socket import getprotobyname
from typing import Final

from conntrackd_py.const import PROTO_NUMBERS

LABELS: Final = 128


class UsageError(Exception):
    """The command line cannot be understood: exit status 2."""


def protocol(text: str) -> int:
    """A protocol's number, by name or number."""
    name = text.lower()
    if name in PROTO_NUMBERS:
        return PROTO_NUMBERS[name]
    try:
        return number(text, 255) if text[:1].isdigit() else getprotobyname(name)
    except (OSError, ValueError, UsageError) as error:
        raise UsageError(f"`{text}' unsupported protocol") from error


def number(text: str, most: int | None = None) -> int:
    """Decimal, 0x hexadecimal or 0 octal, as strtoul reads them; but nothing else, and nothing larger than `most`."""
    try:
        value = int(text, 8 if len(text) > 1 and text.startswith("0") and text.isdigit() else 0)
    except ValueError as error:
        raise UsageError(f"`{text}' is not a number") from error
    if value < 0 or (most is not None and value > most):
        raise UsageError(f"`{text}' is not a number from 0 to {most}")
    return value


def chosen(text: str, allowed: tuple[str, ...]) -> list[str]:
    """A comma-separated choice, in any case of letters."""
    names = text.upper().split(",")
    for name in names:
        if name not in allowed:
            raise UsageError(f"Bad parameter `{text}'")
    return names


def labels(text: str, names: Mapping[int, str]) -> list[int]:
    """Bits, by their names in connlabel.conf or by number."""
    by_name = {name: bit for bit, name in names.items()}
    bits = []
    for word in text.split(","):
        if word in by_name:
            bits.append(by_name[word])
        elif word.isascii() and word.isdigit() and int(word) < LABELS:
            bits.append(int(word))
        else:
            raise UsageError(f"unknown label '{word}'")
    return bits


def duration(text: str) -> int:
    """Seconds: `90`, `90s`, `15m`, `2h`, `3d`."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    digits, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 9):
        raise UsageError(f"`{text}' is not a time: seconds, or with s, m, h or d behind it")
    return int(digits) * units[unit]
