"""The manual page conntrackd.toml(5), made from the sample configuration, which has every key.

In the sample, `# text` explains the next key, `#key = value` is a key with its default (without a text: a sysctl),
`[table]` is a heading, `#[[rule]]` begins an example. Indented lines of text are copied as they are.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from conntrackd_py.settings.load import DEFAULT_PATH
from generators import roff

NAME: Final = DEFAULT_PATH.name
KEY: Final = re.compile(r"#(\w+) = (.*)")
HEADING: Final = re.compile(r"\[(\w+)\]")
RULE: Final = re.compile(r"#\[\[([\w.]+)\]\]")
TOP: Final = "TOP LEVEL"
RULES: Final = "RULES"
SYSCTL: Final = "As the kernel's sysctl of this name."
TABLE: Final = "  "  # begins a line of a table

DESCRIPTION: Final = f"""
`{DEFAULT_PATH}` is written in TOML. This page lists every key with its default. `conntrackd-py check-config` lists the
rules. It reports every error in the file, also unknown keys, and warns of rules that are probably not meant.
`systemctl reload conntrackd-py` applies a changed file.
"""
FILES: Final = (
    (f"`{DEFAULT_PATH}`", "The configuration."),
    (
        f"`{DEFAULT_PATH.parent}/conf.d/*.toml`",
        "Read after it in the order of their names. A key replaces an earlier one; rules are appended.",
    ),
)


def sample() -> str:
    """The text of config/conntrackd.toml."""
    return (Path(__file__).parents[2] / "config" / NAME).read_text(encoding="utf-8")


def page() -> str:
    return roff.page(
        (
            roff.head(NAME, 5, "the configuration of conntrackd-py"),
            roff.section("DESCRIPTION"),
            roff.paragraphs(DESCRIPTION),
            *_body(sample().splitlines()),
            roff.section("FILES"),
            roff.tagged(FILES),
            roff.section("SEE ALSO"),
            [roff.inline("`conntrackd-py`(8), `conntrack-py`(8), `iptables-extensions`(8)")],
        )
    )


def _body(lines: list[str]) -> Iterator[list[str]]:
    """Without the first block of the sample: DESCRIPTION replaces it."""
    yield roff.section(TOP)
    for block in _blocks(lines[lines.index("") + 1 :]):
        if block[0].startswith("# NAT rules"):
            yield roff.section(RULES)
        yield from _block(block)


def _block(block: list[str]) -> Iterator[list[str]]:
    said: list[str] = []
    for number, line in enumerate(block):
        if RULE.match(line):
            yield from _prose(said)
            yield roff.example("\n".join(line.removeprefix("#") for line in block[number:]))
            return
        if found := HEADING.fullmatch(line):
            yield from _prose(said)
            yield roff.section(f"[{found[1]}]")
            said = []
        elif key := KEY.fullmatch(line):
            yield roff.tagged([(f"`{key[1]}` = {key[2]}", "\n".join(said) or SYSCTL)])
            said = []
        else:
            said.append(line.removeprefix("# ").removeprefix("#"))
    yield from _prose(said)


def _blocks(lines: list[str]) -> Iterator[list[str]]:
    block: list[str] = []
    for line in [*lines, ""]:
        if line:
            block.append(line)
        elif block:
            yield block
            block = []


def _prose(lines: list[str]) -> Iterator[list[str]]:
    """Paragraphs; tables are copied."""
    group: list[str] = []
    for line in [*lines, ""]:
        table = line.startswith(TABLE)
        if group and (not line or table != group[0].startswith(TABLE)):
            yield roff.example("\n".join(group)) if group[0].startswith(TABLE) else roff.paragraphs("\n".join(group))
            group = []
        if line:
            group.append(line)
