"""nft text -> the same text with `ct state` and `ct direction` as matches of the packet mark.

Only the translated matches change; every other byte stays. A rule of which a part cannot be translated stays whole.
"""

import re
from typing import Final, final

from conntrackd_py.kernel.doctor.findings import Context
from conntrackd_py.kernel.doctor.ruleset import Ruleset
from conntrackd_py.kernel.translate import places
from conntrackd_py.kernel.translate.marks import CTINFO_OF, DIRECTIONS, Marks, UntranslatableError, ctinfos
from conntrackd_py.kernel.translate.nft_scan import Found, Scan, Word
from conntrackd_py.kernel.translate.places import KEPT, PARTLY, Remark, Translation

KEYS: Final = {"state": CTINFO_OF, "direction": DIRECTIONS}
INCLUDE: Final = re.compile(r"[ \t]*include[ \t]")
Edit = tuple[int, int, str]  # (begin, end, new text)


TABLE: Final = re.compile(r"(?:# Warning: table .*\n)?table (\w+) (\S+) \{(?:[^\n]*\n(?!\}))*[^\n]*\n\}\n")


def without(listing: str, tables: set[tuple[str, str]]) -> str:
    """The text of `nft list ruleset` without these tables, each (family, name)."""
    return TABLE.sub(lambda found: "" if (found[1], found[2]) in tables else found[0], listing)


def translate(text: str, context: Context) -> Translation:
    scan = Scan(text)
    ruleset = Ruleset(list(scan.chains.values()))
    done = Translation(text)
    edits: list[Edit] = []
    noted = set()
    for found in scan.found:
        if places.is_ours(found.chain):
            continue
        new = _edits(found, context, Marks(context.mask), ruleset, done, text)
        edits += new
        if new and not ruleset.bases(found.chain) and found.chain.key not in noted:
            noted.add(found.chain.key)
            done.remarks.append(places.not_reached(found.chain, _line(text, found)))
    done.remarks += [Remark(KEPT, number, "translate the included file too", line) for number, line in _includes(text)]
    done.text = _edited(text, edits)
    return done


def _includes(text: str) -> list[tuple[int, str]]:
    """(number of the line, line) of every include statement."""
    lines = enumerate(text.split("\n"), 1)
    return [(number, line.strip()) for number, line in lines if INCLUDE.match(line)]


def _edited(text: str, edits: list[Edit]) -> str:
    parts = []
    last = 0
    for begin, end, new in sorted(edits):
        parts += [text[last:begin], new]
        last = end
    return "".join((*parts, text[last:]))


def _line(text: str, found: Found) -> int:
    return text.count("\n", 0, found.words[0].begin) + 1


def _edits(found: Found, context: Context, marks: Marks, ruleset: Ruleset, done: Translation, text: str) -> list[Edit]:
    """The changes of one rule; reports why it stays, or why the mark is no full replacement."""
    report = done.remarks.append
    try:
        edits = _Matches(found.words, marks).edits
        if not edits:
            return []
        nowhere, why = places.no_state(context, ruleset, found.chain)
        if nowhere:
            raise UntranslatableError(why)
        kind = places.unqueued(context, ruleset, found.chain, found.rule)
        if kind == places.BOTH and found.replaces:
            raise UntranslatableError(
                "one rule is replaced, and packets of steering.exclude_interfaces need another one"
            )
    except UntranslatableError as error:
        report(Remark(KEPT, _line(text, found), str(error), found.rule.text))
        return []
    if kind == places.NEVER_QUEUED:
        return []
    if why:
        report(Remark(PARTLY, _line(text, found), why, found.rule.text))
    done.translated += 1
    return edits + ([_also(found, marks, text)] if kind == places.BOTH else [])


def _also(found: Found, marks: Marks, text: str) -> Edit:
    """The rule as it is, for packets without the daemon's mark, before the translated one."""
    begin = found.words[0].begin
    indent = text[text.rfind("\n", 0, begin) + 1 : begin]
    again = found.prefix or (indent if not indent.strip() else "")
    return (begin, begin, f"{marks.unset_nft()} {found.rule.text}\n{again}")


@final
class _Matches:
    """The changes of all ct expressions in the words of a rule. Raises UntranslatableError."""

    def __init__(self, words: list[Word], marks: Marks) -> None:
        self.words = words
        self.marks = marks
        self.edits: list[Edit] = []
        for at, word in enumerate(words):
            if word.text == "ct":
                self._expression(at)

    def _text(self, at: int) -> str:
        return self.words[at].text if at < len(self.words) else ""

    def _expression(self, at: int) -> None:
        key, after = self._text(at + 1), self._text(at + 2)
        if key not in KEYS:
            raise UntranslatableError(f"ct {key}: the packet mark does not have this")
        if after == "." or (at and self._text(at - 1) == "."):
            raise UntranslatableError(f"ct {key} is a part of a concatenation")
        if after == "vmap":
            self._vmap(at, key)
            return
        operator = after if after in ("==", "!=", "!") else ""
        begin = at + 2 + bool(operator)
        names, end = self._set(begin) if self._text(begin) == "{" else self._list(begin)
        if operator in ("==", "!=") and len(names) > 1 and self._text(begin) != "{":
            raise UntranslatableError(
                f"ct {key} {operator} compares with all of the names together; write them in braces"
            )
        wanted = ctinfos(names, KEYS[key], operator in ("!=", "!"))
        if not wanted:
            raise UntranslatableError("it matches no packet")
        self.edits.append((self.words[at].begin, self.words[end - 1].end, self.marks.nft(wanted)))

    def _list(self, at: int) -> tuple[list[str], int]:
        """Names between commas or bars, and the place after them."""
        names = [self._text(at)]
        while self._text(at + 1) in (",", "|"):
            at += 2
            names.append(self._text(at))
        return names, at + 1

    def _set(self, at: int) -> tuple[list[str], int]:
        """The names of an anonymous set, and the place after its brace."""
        names: list[str] = []
        for place in range(at + 1, len(self.words)):
            word = self.words[place].text
            if word == "}":
                return names, place + 1
            if word != ",":
                names.append(word)
        raise UntranslatableError("a brace is missing")

    def _vmap(self, at: int, key: str) -> None:
        """Each element once for every ctinfo of its name."""
        if self._text(at + 3) != "{":
            raise UntranslatableError(f"ct {key} with a named map")
        self.edits.append((self.words[at].begin, self.words[at + 1].end, self.marks.key))
        begin = at + 4
        for place in range(begin, len(self.words)):
            if self._text(place) in (",", "}"):
                if place > begin:
                    self._element(begin, place, key)
                begin = place + 1
            if self._text(place) == "}":
                return
        raise UntranslatableError("a brace is missing")

    def _element(self, begin: int, end: int, key: str) -> None:
        name = self.words[begin]
        if name.text == "*":
            return
        values = [self.marks.value(ctinfo) for ctinfo in sorted(ctinfos([name.text], KEYS[key], False))]
        between = [word.text for word in self.words[begin + 1 : end]]
        if ":" not in between or between[0] == ".":
            raise UntranslatableError("an element of the verdict map is not one name and its verdict")
        verdict = " ".join(between)
        again = "".join(f"{value} {verdict}, " for value in values[:-1])
        self.edits.append((name.begin, name.end, again + values[-1]))
