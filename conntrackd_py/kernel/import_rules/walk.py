"""The chains of a firewall -> its NAT and raw rules in the order of matching, each with all conditions that lead to it.

A jump adds its conditions to the rules of the chain that it names. A return takes its packets away from the rest of its
chain; where nothing follows in the callers it is ACCEPT. What cannot be expressed is reported, and then has no effect.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, final

from conntrackd_py.kernel.import_rules.conditions import Conditions, Value, at_hook, combined, without
from conntrackd_py.kernel.translate.marks import UntranslatableError
from conntrackd_py.match.words import ParseError

ACCEPT, RETURN, JUMP, GOTO, NAT, RAW = "accept", "return", "jump", "goto", "nat", "raw"
DEEPEST: Final = 16
MOST_RULES: Final = 10_000
MOST_STEPS: Final = 100_000  # rules visited, those of a chain again at each jump
HOOKS: Final = ("prerouting", "output", "input", "postrouting")
POLICY: Final = "a policy drop has no counterpart"
NO_MARK: Final = "the daemon translates destinations before the rules of mangle set a mark"


class UnusableError(Exception):
    """The whole text cannot be used."""


@dataclass
class Entry:
    """A rule as it stands in the text. action: of NAT and RAW, or the chain of a jump. keys: of the TOML table."""

    line: int
    text: str
    does: str = ""
    when: Conditions = field(default_factory=dict)
    action: str = ""
    keys: dict[str, object] = field(default_factory=dict)
    problem: str = ""  # why it cannot be translated


@dataclass
class Base:
    """A base chain. kind: NAT or RAW. family: ip, ip6 or inet."""

    kind: str
    hook: str
    priority: int
    family: str
    entries: list[Entry]
    chains: dict[str, list[Entry]]  # the chains of its table that have no hook
    last: bool = True  # no other base chain sees the packets that this one accepts

    def begin(self) -> Conditions:
        names = {"ip": "ipv4", "ip6": "ipv6"}
        return {"family": Value((names[self.family],))} if self.family in names else {}


@dataclass
class Found:
    """A rule of the configuration. through: the jumps that lead to it."""

    entry: Entry
    base: Base
    when: Conditions
    through: tuple[Entry, ...] = ()
    action: str = ""


def rules(bases: list[Base], report: Callable[[Entry, str], None]) -> list[Found]:
    """All rules of a kind, hook by hook. report: is called with what cannot be translated, and why."""
    found: list[Found] = []
    for hook in HOOKS:
        here = sorted((base for base in bases if base.hook == hook), key=lambda base: base.priority)
        for at, base in enumerate(here):
            later = {other.family for other in here[at + 1 :]}
            base.last = not later or (base.family != "inet" and later.isdisjoint((base.family, "inet")))
        for base in here:
            found += _Walk(base, report).found
    return _without_idle_accepts(found)


def _without_idle_accepts(found: list[Found]) -> list[Found]:
    """Leave out ACCEPT rules after which no rule of their hook translates."""
    kept: list[Found] = []
    translating: set[str] = set()
    for one in reversed(found):
        if one.action != "ACCEPT":
            translating.add(one.base.hook)
        if one.base.hook in translating:
            kept.append(one)
    return kept[::-1]


@dataclass
class _Level:
    """The state of the walk in one chain."""

    live: list[Conditions]  # what reaches the next rule
    through: tuple[Entry, ...]  # the jumps that lead here
    tail: bool  # what returns from here meets no other rule
    last: bool = False  # the rule is the last one of the chain
    gone: list[Conditions] = field(default_factory=list)  # accepted without a rule for it


@final
class _Walk:
    def __init__(self, base: Base, report: Callable[[Entry, str], None]) -> None:
        self.base = base
        self.report = report
        self.found: list[Found] = []
        self.steps = 0
        self._chain(base.entries, _Level([base.begin()], (), tail=base.last and base.kind == NAT))

    def _chain(self, entries: list[Entry], level: _Level) -> list[Conditions]:
        """Returns what a rule accepts without a rule for it."""
        if len(level.through) > DEEPEST:
            raise UnusableError(f"line {level.through[-1].line}: chains jump too deep, or in a circle")
        self.steps += len(entries)
        if self.steps > MOST_STEPS:
            raise UnusableError("too many rules are reached by jumps")
        for at, entry in enumerate(entries):
            level.last = at + 1 == len(entries)
            try:
                if entry.problem:
                    raise UntranslatableError(entry.problem)
                matched = self._matched(entry, level.live)
                if matched:
                    self._act(entry, matched, level)
            except UntranslatableError as error:
                self.report(entry, str(error))
            except ParseError as error:
                self.report(entry, error.why)
        return level.gone

    def _matched(self, entry: Entry, live: list[Conditions]) -> list[Conditions]:
        when = at_hook(entry.when, self.base.hook)
        if when is None:
            return []
        if "mark" in when and self.base.kind == NAT and self.base.hook in ("prerouting", "output"):
            raise UntranslatableError(NO_MARK)
        return [both for piece in live if (both := combined(piece, when)) is not None]

    def _act(self, entry: Entry, matched: list[Conditions], level: _Level) -> None:
        if entry.does in (NAT, RAW):
            self._emit(entry, matched, level, entry.action)
        elif (entry.does == ACCEPT and self.base.kind == NAT and self.base.last) or (
            entry.does == RETURN and level.tail
        ):
            self._emit(entry, matched, level, "ACCEPT")
        elif entry.does in (ACCEPT, RETURN):
            level.live = without(level.live, at_hook(entry.when, self.base.hook) or {})
            if entry.does == ACCEPT:
                level.gone += matched
        else:
            self._jump(entry, matched, level)

    def _jump(self, entry: Entry, matched: list[Conditions], level: _Level) -> None:
        target = self.base.chains.get(entry.action)
        if target is None:
            raise UntranslatableError(f"the chain {entry.action} is missing")
        goto = entry.does == GOTO
        left = level.live
        if goto and not level.last and not level.tail:  # the end of the target is a return from this chain
            left = without(left, at_hook(entry.when, self.base.hook) or {})
        taken = self._chain(target, _Level(matched, (*level.through, entry), level.tail and (level.last or goto)))
        if goto and level.tail and not level.last:
            self._emit(entry, matched, level, "ACCEPT")
        for one in taken:
            left = without(left, one)
        level.live = left
        level.gone += taken

    def _emit(self, entry: Entry, matched: list[Conditions], level: _Level, action: str) -> None:
        for when in matched:
            self.found.append(Found(entry, self.base, when, level.through, action))
        if len(self.found) > MOST_RULES:
            raise UnusableError(f"more than {MOST_RULES} rules")
