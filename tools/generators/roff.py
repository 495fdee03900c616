"""Manual pages in roff's man macros. Text may hold `bold` and <italic>; everything else in it stands as it is."""

import re
from collections.abc import Iterable
from typing import Final

REVISED: Final = "2026-11-21"  # the prose; the tables are those of the version
MARKUP: Final = re.compile(r"`([^`]+)`|<([^<>]+)>")
# As themselves: a typewriter's minus, quotation marks that can be copied, no tildes and circumflexes in the air.
LITERAL: Final = {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti", '"': r"\(dq"}


def escaped(text: str) -> str:
    """As it is, also at the beginning of a line."""
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


def title(name: str, section: int, source: str) -> list[str]:
    """And nothing hyphenated or spread: what a page of names says is copied from it."""
    manual = "System Manager\\(aqs Manual" if section == 8 else "File Formats Manual"
    heading = f'.TH {escaped(name.upper())} {section} {REVISED} "{escaped(source)}" "{manual}"'
    return [heading, ".nr HY 0", ".nh", ".ad l"]


def section(name: str) -> list[str]:
    return [f'.SH "{escaped(name)}"']


def subsection(name: str) -> list[str]:
    return [f'.SS "{escaped(name)}"']


def paragraphs(text: str) -> list[str]:
    """Separated by empty lines."""
    lines = []
    for paragraph in text.strip().split("\n\n"):
        lines += [".PP", *(inline(line) for line in paragraph.split("\n"))]
    return lines


def tagged(entries: Iterable[tuple[str, str]]) -> list[str]:
    """A term and, indented, what it is; an empty line in that begins another paragraph."""
    lines = []
    for term, text in entries:
        lines += [".TP", inline(term)]
        for number, paragraph in enumerate(text.split("\n\n")):
            lines += [".IP"] * (number > 0) + [inline(line) for line in paragraph.split("\n")]
    return lines


def example(text: str) -> list[str]:
    """As it stands, indented."""
    return [".PP", ".RS 4", ".EX", *(escaped(line) for line in text.split("\n")), ".EE", ".RE"]


def sentence(text: str) -> str:
    """With a capital letter and one full stop."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


def page(parts: Iterable[list[str]]) -> str:
    lines: list[str] = []
    for part in parts:
        heading = bool(lines) and lines[-1].startswith((".SH", ".SS"))
        lines += part[1:] if heading and part[:1] == [".PP"] else part
    return "\n".join(lines) + "\n"
