"""Writes manual pages with roff's man macros. Text may have `bold` and <italic>; all else is literal."""

import re
from collections.abc import Iterable
from typing import Final

from conntrackd_py import __version__
from generators import WRITTEN

REVISED: Final = "2026-11-21"  # date of the prose
MARKUP: Final = re.compile(r"`([^`]+)`|<([^<>]+)>")
# roff would print typographic characters instead of these, and examples could not be copied.
LITERAL: Final = {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti", '"': r"\(dq"}


def escaped(text: str) -> str:
    """Literal text, also at the beginning of a line."""
    text = "".join(LITERAL.get(letter, letter) for letter in text)
    return f"\\&{text}" if text.startswith(".") else text


def inline(text: str) -> str:
    """A line of text with its markup."""
    parts = []
    at = 0
    for found in MARKUP.finditer(text):
        parts.append("".join(LITERAL.get(letter, letter) for letter in text[at : found.start()]))
        parts.append(f"\\fB{escaped(found[1])}\\fR" if found[1] else f"\\fI{escaped(found[2])}\\fR")
        at = found.end()
    parts.append("".join(LITERAL.get(letter, letter) for letter in text[at:]))
    line = "".join(parts)
    return f"\\&{line}" if line.startswith(".") else line


def head(name: str, number: int, text: str) -> list[str]:
    """The beginning of a page of this section. Hyphenation and justification are off, so that names can be copied."""
    manual = "System Manager\\(aqs Manual" if number == 8 else "File Formats Manual"
    source = escaped(f"conntrackd-py {__version__}")
    heading = f'.TH {escaped(name.upper())} {number} {REVISED} "{source}" "{manual}"'
    lines = [f'.\\" {WRITTEN}', heading, ".nr HY 0", ".nh", ".ad l", *section("NAME")]
    return [*lines, f"{escaped(name)} \\- {escaped(text)}"]


def section(name: str) -> list[str]:
    return [f'.SH "{escaped(name)}"']


def subsection(name: str) -> list[str]:
    return [f'.SS "{escaped(name)}"']


def paragraphs(text: str) -> list[str]:
    """Paragraphs, separated by empty lines in the text."""
    lines = []
    for paragraph in text.strip().split("\n\n"):
        lines += [".PP", *(inline(line) for line in paragraph.split("\n"))]
    return lines


def broken(lines: Iterable[str]) -> list[str]:
    """Lines that are not filled."""
    return "\n.br\n".join(inline(line) for line in lines).split("\n")


def tagged(entries: Iterable[tuple[str, str]]) -> list[str]:
    """Terms, each with an indented text; an empty line in it begins a new paragraph."""
    lines = []
    for term, text in entries:
        lines += [".TP", inline(term)]
        for number, paragraph in enumerate(text.split("\n\n")):
            lines += [".IP"] * (number > 0) + [inline(line) for line in paragraph.split("\n")]
    return lines


def example(text: str) -> list[str]:
    """Literal text, indented."""
    return [".PP", ".RS 4", ".EX", *(escaped(line) for line in text.split("\n")), ".EE", ".RE"]


def sentence(text: str) -> str:
    """The text with a capital letter and a full stop."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


def page(parts: Iterable[list[str]]) -> str:
    lines: list[str] = []
    for part in parts:
        heading = bool(lines) and lines[-1].startswith((".SH", ".SS"))
        lines += part[1:] if heading and part[:1] == [".PP"] else part
    return "\n".join(lines) + "\n"
