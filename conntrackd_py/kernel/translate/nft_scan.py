"""nft text -> its chains and rules, each rule with its words and their places in the text.

Only the structure is read: tables, chains, the hook of a base chain, jumps. `add rule` and `insert rule` commands count
as rules of their chain. Everything else is passed over.
"""

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple, final

from conntrackd_py.kernel.doctor.ruleset import ACCEPT, DROP, Chain, Rule

TOKEN: Final = re.compile(
    r'(?P<blank>(?:[ \t\r]|\\\r?\n|#[^\n]*)+)|(?P<end>[\n;])|"[^"\n]*"|[{},]|[!=<>]=|[^\s{};,"#!=<>&|^:\\]+|.',
    re.DOTALL,
)
FAMILIES: Final = {"ip", "ip6", "inet", "arp", "bridge", "netdev"}
VERBS: Final = {"add", "create", "insert", "replace"}
PRIORITIES: Final = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100}
BASE: Final = re.compile(r"type (\w+) hook (\w+) .*?priority (\w+|- ?\d+)(?: ([+-]) ?(\d+))?")
LOOPBACK: Final = re.compile(r'iif(name)? (== )?"?lo"?( counter( packets \d+ bytes \d+)?)? accept( comment "[^"]*")?')
INTERFACE: Final = re.compile(r'"?[\w*-][\w.*@-]*"?')
NOT_RULES: Final = {"type", "policy", "comment", "flags", "device", "devices", "hook"}


class Word(NamedTuple):
    text: str
    begin: int
    end: int
    ends: bool = False  # a newline or semicolon


@dataclass
class Found:
    """A rule. prefix: what stands before the rule to write it again: a command and its chain, or nothing."""

    chain: Chain
    rule: Rule
    words: list[Word]
    prefix: str = ""
    replaces: bool = False  # a `replace rule` command


@final
class Scan:
    """chains: all of the text. found: its rules, in order."""

    def __init__(self, text: str) -> None:
        self.text = text
        matches = TOKEN.finditer(text)
        self.words = [Word(m[0], m.start(), m.end(), m["end"] is not None) for m in matches if not m["blank"]]
        self.at = 0
        self.chains: dict[tuple[str, str, str], Chain] = {}
        self.found: list[Found] = []
        while self.at < len(self.words):
            self._top()

    def _chain(self, family: str, table: str, name: str) -> Chain:
        key = (family, table.strip('"'), name.strip('"'))
        return self.chains.setdefault(key, Chain("nft", *key))

    def _head(self) -> list[Word]:
        """The words before the next block or end; stops at the brace, after the end."""
        begin = self.at
        while self.at < len(self.words):
            word = self.words[self.at]
            if word.text in "{}":
                return self.words[begin : self.at]
            self.at += 1
            if word.ends:
                return self.words[begin : self.at - 1]
        return self.words[begin:]

    def _top(self) -> None:
        begin = self.at
        head = [word.text for word in self._head()]
        verb = head.pop(0) if head and head[0] in VERBS else ""
        kind = head.pop(0) if head else ""
        family = head.pop(0) if head and head[0] in FAMILIES else "ip"
        if kind == "rule" and len(head) > 1:
            explicit = 1 + (verb != "") + (self.words[begin + 1 + (verb != "")].text in FAMILIES)
            self._command(begin, explicit + 2, self._chain(family, head[0], head[1]), verb == "replace")
        elif not self._opens():
            return
        elif kind == "table" and head:
            self._table(family, head[0])
        elif kind == "chain" and len(head) > 1:
            self._body(self._chain(family, head[0], head[1]))
        else:
            self._skip()

    def _opens(self) -> bool:
        """Whether a block begins here; a brace that closes nothing is passed over."""
        if self.at < len(self.words) and self.words[self.at].text == "}":
            self.at += 1
            return False
        return self.at < len(self.words) and self.words[self.at].text == "{"

    def _command(self, begin: int, skipped: int, chain: Chain, replaces: bool) -> None:
        """A rule command; skipped: its words up to the name of the chain."""
        words = self._statement(begin)
        if len(words) > skipped and words[skipped].text in ("handle", "position", "index"):
            skipped += 2
        if skipped < len(words):
            self._add(chain, words[skipped:], self.text[words[0].begin : words[skipped].begin], replaces)

    def _table(self, family: str, name: str) -> None:
        self.at += 1
        while self.at < len(self.words) and self.words[self.at].text != "}":
            head = [word.text for word in self._head()]
            if self.at < len(self.words) and self.words[self.at].text == "{":
                if head[:1] == ["chain"] and len(head) > 1:
                    self._body(self._chain(family, name, head[1]))
                else:
                    self._skip()
        self.at += 1

    def _skip(self) -> None:
        """Pass over a block."""
        depth = 0
        while self.at < len(self.words):
            text = self.words[self.at].text
            depth += {"{": 1, "}": -1}.get(text, 0)
            self.at += 1
            if not depth:
                return

    def _body(self, chain: Chain) -> None:
        self.at += 1
        while self.at < len(self.words) and self.words[self.at].text != "}":
            words = self._statement(self.at)
            if words and words[0].text == "type":
                _base(chain, _joined(words))
            elif words and words[0].text == "policy":
                chain.policy = words[-1].text
            elif words and words[0].text not in NOT_RULES:
                self._add(chain, words)
        self.at += 1

    def _statement(self, begin: int) -> list[Word]:
        """The words from begin to the next end outside of braces, or to the brace that closes the chain."""
        self.at = begin
        depth = 0
        while self.at < len(self.words):
            word = self.words[self.at]
            if word.text == "}" and not depth:
                break
            depth += {"{": 1, "}": -1}.get(word.text, 0)
            self.at += 1
            if word.ends and not depth:
                return self.words[begin : self.at - 1]
        return self.words[begin : self.at]

    def _add(self, chain: Chain, words: list[Word], prefix: str = "", replaces: bool = False) -> None:
        words = [word for word in words if word.text != "\n"]
        texts = [word.text for word in words]
        rule = Rule(self.text[words[0].begin : words[-1].end])
        rule.jumps = {name for word, name in pairwise(texts) if word in ("jump", "goto")}
        rule.in_interface = _interface(texts)
        rule.narrow = LOOPBACK.fullmatch(_joined(words)) is None
        rule.does = {text for text in texts if text in (ACCEPT, DROP)}
        chain.rules.append(rule)
        self.found.append(Found(chain, rule, words, prefix, replaces))


def _joined(words: list[Word]) -> str:
    return " ".join(word.text for word in words)


def _base(chain: Chain, text: str) -> None:
    base = BASE.match(re.sub(r"(?<=[a-z])([+-])(?=\d)", r" \1 ", text))
    if base is None:
        return
    kind, chain.hook, name, sign, offset = base.groups()
    bridge = {"filter": -200, "dstnat": -300, "out": 100, "srcnat": 300}
    known = bridge if chain.family == "bridge" else PRIORITIES
    number = name.replace(" ", "")
    chain.priority = known[name] if name in known else int(number) if number.lstrip("-").isdigit() else 0
    chain.priority += int(f"{sign}{offset}") if sign else 0
    chain.nat = kind == "nat"


def _interface(texts: list[str]) -> str:
    """The one incoming interface that the rule matches; empty: any, or several."""
    for name, after, last in zip(texts, texts[1:], [*texts[2:], ""], strict=False):
        if name in ("iif", "iifname"):
            found = last if after == "==" else after
            return found.strip('"') if INTERFACE.fullmatch(found) and found != "vmap" else ""
    return ""
