"""The names of connection labels, from connlabel.conf, read as libnetfilter_conntrack reads it.

A line is a bit's number and its name: letters, digits, hyphens and blanks; any other line is passed over.
The first line of a bit counts, and the first of a name.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

PATHS: Final = (Path("/etc/xtables/connlabel.conf"), Path("/etc/connlabel.conf"))  # the library's; nft's
LINE: Final = re.compile(r"\s*(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)([A-Za-z0-9\s-]*)", re.ASCII)


def label_names(paths: tuple[Path, ...] = PATHS) -> Mapping[int, str]:
    """By bit; nothing when there is no file that can be read."""
    for path in paths:
        try:
            return parsed(path.read_text(encoding="ascii", errors="replace"))
        except OSError:
            continue
    return {}


def parsed(text: str) -> Mapping[int, str]:
    names: dict[int, str] = {}
    for line in text.split("\n"):
        found = LINE.fullmatch(line)
        if found is None:
            continue
        digits, name = found[1], found[2].strip()
        bit = int(digits, 8 if digits.isdigit() and digits.startswith("0") else 0)
        if name and bit not in names and name not in names.values():
            names[bit] = name
    return names
