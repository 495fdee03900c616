"""Parses the values of options: protocols, numbers, choices, labels, times. All raise UsageError for a wrong value."""

import re
from collections.abc import Mapping
from socket import getprotobyname
from typing import Final

from conntrackd_py.const import PROTO_NUMBERS

LABELS: Final = 128
LABEL_FILES: Final = ("/etc/xtables/connlabel.conf", "/etc/connlabel.conf")  # libnetfilter_conntrack's; nft's
LABEL_LINE: Final = re.compile(r"\s*(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)([A-Za-z0-9\s-]*)", re.ASCII)


class UsageError(Exception):
    """The command line is wrong: exit status 2."""


def protocol(text: str) -> int:
    """The number of a protocol, from its name or number."""
    name = text.lower()
    if name in PROTO_NUMBERS:
        return PROTO_NUMBERS[name]
    try:
        return number(text, 255) if text[:1].isdigit() else getprotobyname(name)
    except (OSError, ValueError, UsageError) as error:
        raise UsageError(f"`{text}' unsupported protocol") from error


def number(text: str, most: int | None = None) -> int:
    """Decimal, 0x hexadecimal or 0 octal, as strtoul; but only a whole number from 0 to `most`."""
    try:
        value = int(text, 8 if len(text) > 1 and text.startswith("0") and text.isdigit() else 0)
    except ValueError as error:
        raise UsageError(f"`{text}' is not a number") from error
    if value < 0 or (most is not None and value > most):
        raise UsageError(f"`{text}' is not a number from 0 to {most}")
    return value


def chosen(text: str, allowed: tuple[str, ...]) -> list[str]:
    """Comma-separated words, in upper or lower case."""
    names = text.upper().split(",")
    for name in names:
        if name not in allowed:
            raise UsageError(f"Bad parameter `{text}'")
    return names


def labels(text: str, names: Mapping[int, str]) -> list[int]:
    """Bits of labels, from names of connlabel.conf or numbers. names: by bit."""
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


def label_names(paths: tuple[str, ...] = LABEL_FILES) -> Mapping[int, str]:
    """The names of labels by bit, from the first file that can be read; empty without one."""
    for path in paths:
        try:
            with open(path, encoding="ascii", errors="replace") as file:  # noqa: PTH123  pathlib is slow to import
                return parsed_labels(file.read())
        except OSError:
            continue
    return {}


def parsed_labels(text: str) -> Mapping[int, str]:
    """connlabel.conf as libnetfilter_conntrack reads it: a bit and a name a line, other lines are ignored.

    A name has letters, digits, hyphens and blanks. The first line of a bit counts, and the first of a name.
    """
    names: dict[int, str] = {}
    for line in text.split("\n"):
        found = LABEL_LINE.fullmatch(line)
        if found is None:
            continue
        digits, name = found[1], found[2].strip()
        bit = int(digits, 8 if digits.isdigit() and digits.startswith("0") else 0)
        if name and bit not in names and name not in names.values():
            names[bit] = name
    return names


def duration(text: str) -> int:
    """Seconds, from `90`, `90s`, `15m`, `2h` or `3d`."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    digits, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 9):
        raise UsageError(f"`{text}' is not a time: write seconds, or a number followed by s, m, h or d")
    return int(digits) * units[unit]
