"""iptables-save text -> the same text with `-m conntrack` and `-m state` as matches of the packet mark.

Only the translated matches change; every other byte stays. A rule of which a part cannot be translated stays whole.
"""

import re
from dataclasses import dataclass, field
from typing import Final, final

from conntrackd_py.kernel.doctor import iptables_save
from conntrackd_py.kernel.doctor.findings import Context
from conntrackd_py.kernel.doctor.iptables_save import CT_MATCHES, WITH_TEXT
from conntrackd_py.kernel.doctor.ruleset import Chain, Key, Rule, Ruleset, tolerant
from conntrackd_py.kernel.translate import places
from conntrackd_py.kernel.translate.marks import CTINFO_OF, DIRECTIONS, TRACKED, Marks, UntranslatableError, ctinfos
from conntrackd_py.kernel.translate.places import KEPT, PARTLY, Remark, Translation

RULE: Final = re.compile(r"[ \t]*(?:\[\d+:\d+\][ \t]*)?(?:-A|--append|-I|--insert)[ \t]+(\S+)")
WORD: Final = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^ \t\r"])+')
MODULES: Final = ("conntrack", "state")
TARGETS: Final = {"CONNMARK", "CONNSECMARK"}
ITS_CONNECTION: Final = "acts on the kernel's connection, and queued packets have none"


@dataclass
class Match:
    """One `-m conntrack` or `-m state`. spans: (begin, end) of its words, the module first."""

    spans: list[tuple[int, int]]
    state: frozenset[int] | None = None
    direction: frozenset[int] | None = None

    def wanted(self) -> frozenset[int]:
        """The ctinfo values that match. Packets without a connection have no direction (conntrack_mt)."""
        if self.state is None and self.direction is None:
            raise UntranslatableError("the match has no --ctstate")
        found = TRACKED if self.state is None else self.state
        if self.direction is not None:
            found = frozenset(ctinfo for ctinfo in found if ctinfo in self.direction or ctinfo not in TRACKED)
        if not found:
            raise UntranslatableError("it matches no packet")
        return found


@dataclass
class Line:
    """A rule with ct in it. number: of the line, from 0."""

    number: int
    text: str
    chain: Chain
    rule: Rule
    matches: list[Match] = field(default_factory=list)


def translate(text: str, context: Context, family: str = "ip") -> Translation:
    """family: ip or ip6, of all tables in the text."""
    lines = text.split("\n")
    reader = _Reader(family)
    for number, line in enumerate(lines):
        reader.line(number, line)
    ruleset = Ruleset(reader.chains())
    done = Translation("")
    marks = Marks(context.mask)
    noted: set[Key] = set()
    for found in reader.found:
        if places.is_ours(found.chain):
            continue
        lines[found.number] = _translated(found, context, marks, ruleset, done)
        if lines[found.number] != found.text and not ruleset.bases(found.chain) and found.chain.key not in noted:
            noted.add(found.chain.key)
            done.remarks.append(places.not_reached(found.chain, found.number + 1))
    done.text = "\n".join(lines)
    return done


@final
class _Reader:
    """Collects all chains with their rules, and the lines with ct. Chains need not be declared."""

    def __init__(self, family: str) -> None:
        self.known = iptables_save.Reader("iptables", family)
        self.known.table = "filter"  # of rules before the first table, as on the command line
        self.found: list[Line] = []

    def chains(self) -> list[Chain]:
        return list(self.known.chains.values())

    def line(self, number: int, text: str) -> None:
        if text.startswith(("*", ":")):
            tolerant([text.rstrip()], self.known.line)
            return
        begun = RULE.match(text)
        if begun is None:
            return
        chain = self.known.chain(begun[1])
        try:
            rule = iptables_save.rule(f"-A {text[begun.start(1) :]}")
        except (ValueError, IndexError):
            rule = Rule(text)
        chain.rules.append(rule)
        rule.text = text.strip()
        if _has_ct(text, rule):
            self.found.append(Line(number, text, chain, rule))


def _has_ct(text: str, rule: Rule) -> bool:
    return rule.ct or "conntrack" in text or bool(TARGETS & rule.jumps) or _template(rule, text)


def _template(rule: Rule, text: str) -> bool:
    return "CT" in rule.jumps and "--notrack" not in text


def _translated(line: Line, context: Context, marks: Marks, ruleset: Ruleset, done: Translation) -> str:
    """The line, or the lines, that replace it; reports why it stays, or why the mark is no full replacement."""
    report = done.remarks.append
    try:
        _parse(line)
        if not line.matches:
            return line.text
        nowhere, why = places.no_state(context, ruleset, line.chain)
        if nowhere:
            raise UntranslatableError(why)
        kind = places.unqueued(context, ruleset, line.chain, line.rule)
        if kind == places.NEVER_QUEUED:
            return line.text
        text = _replaced(line, marks)
    except UntranslatableError as error:
        report(Remark(KEPT, line.number + 1, str(error), line.rule.text))
        return line.text
    if why:
        report(Remark(PARTLY, line.number + 1, why, line.rule.text))
    done.translated += 1
    if kind == places.BOTH:
        at = line.matches[0].spans[0][0]
        return f"{line.text[:at]}{marks.unset_iptables()} {line.text[at:]}\n{text}"
    return text


def _replaced(line: Line, marks: Marks) -> str:
    edits = []
    for match in line.matches:
        module, *options = match.spans
        edits += [(module, marks.iptables(match.wanted())), *((span, "") for span in options)]
    text = line.text
    for (begin, end), new in sorted(edits, reverse=True):
        text = text[:begin] + new + text[end:] if new else text[:begin].rstrip(" \t") + text[end:]
    return text


def _parse(line: Line) -> None:
    """Find the matches. Raises UntranslatableError."""
    words = [(found[0], found.start(), found.end()) for found in WORD.finditer(line.text)]
    at = 0
    while at < len(words):
        word, begin, end = words[at]
        name, equals, value = word.partition("=")
        if not equals and at + 1 < len(words):
            value, end = words[at + 1][0], words[at + 1][2]
        if name in ("-m", "--match"):
            _module(line, value, (begin, end))
        elif name in ("-j", "--jump", "-g", "--goto"):
            if value in TARGETS or (value == "CT" and "--notrack" not in line.text):
                raise UntranslatableError(f"the target {value} {ITS_CONNECTION}")
        elif name in ("--state", "--ctdir") or name.startswith("--ct"):
            inverted = at > 0 and words[at - 1][0] == "!"
            _option(line, name, value, (words[at - 1][1] if inverted else begin, end), inverted)
        at += 2 if not equals and name in TAKE_A_VALUE else 1


TAKE_A_VALUE: Final = WITH_TEXT | {"--match", "--jump", "--goto", "--state", "--ctstate", "--ctdir"}


def _module(line: Line, name: str, span: tuple[int, int]) -> None:
    if name in MODULES:
        line.matches.append(Match([span]))
    elif name in CT_MATCHES:
        raise UntranslatableError(f"-m {name} {ITS_CONNECTION}")


def _option(line: Line, name: str, value: str, span: tuple[int, int], inverted: bool) -> None:
    if not line.matches:
        return  # of another match
    match = line.matches[-1]
    names = value.strip('"').lower().split(",")
    if name in ("--state", "--ctstate"):
        match.state = ctinfos(names, CTINFO_OF, inverted)
    elif name == "--ctdir":
        match.direction = ctinfos(names, DIRECTIONS, inverted)
    else:
        raise UntranslatableError(f"{name}: the packet mark does not have this")
    match.spans.append(span)
