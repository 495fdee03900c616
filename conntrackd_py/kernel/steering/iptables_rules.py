"""The steering rules of iptables: a Plan -> iptables-restore text, and iptables-save text -> the daemon's rules in it.

The rules are in chains named CONNTRACKD_PY_*, each with one jump at the end of its base chain: an accepted packet
continues at the next hook, so rules after the jump never see it.
Nothing here runs a program; iptables.py does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from conntrackd_py.kernel.steering.plan import (
    ANY_INTERFACE,
    CLEAR,
    COPIED,
    COPY,
    DEFRAG,
    DONE,
    EXCLUDE,
    FIRST_ERROR,
    FIRST_ERROR_HIDDEN,
    FORWARDED,
    NOTRACK,
    OWN,
    PRE_CHAIN,
    QUEUE,
    QUEUE_BYPASS,
    THRESHOLD,
    Plan,
    Step,
    Visit,
)

PREFIX: Final = "CONNTRACKD_PY_"

# Order of installation; removal is in reverse. So a packet that meets only a part of the rules is dropped for lack of a
# connection, never sent untranslated.
TABLES: Final = ("mangle", "security", "raw")

# Marker rule: the table did not exist before `rules install`, so `rules remove` deletes it. No packet reaches the rule,
# and it does nothing.
MARKER: Final = '-m comment --comment "conntrackd-py made this table"'

# EXPECTED: the first packet of a connection that a helper of the kernel expects is RELATED too.
_FIRST_ERROR: Final = "-m conntrack --ctstate RELATED -m conntrack ! --ctstatus EXPECTED,CONFIRMED"

SPECS: Final = {
    CLEAR: "-m mark --mark {value}/{value} -j MARK --set-xmark 0x0/{mask}",
    EXCLUDE: "-j RETURN",
    FIRST_ERROR_HIDDEN: _FIRST_ERROR + " -m conntrack --ctorigdst {value} -j DROP",
    FIRST_ERROR: _FIRST_ERROR + " -j RETURN",
    OWN: "-m addrtype --src-type LOCAL -j RETURN",
    DONE: "-m mark --mark {value}/{mask} -j RETURN",
    FORWARDED: "-m mark --mark {value}/{mask} -j RETURN",
    NOTRACK: "-j CT --notrack",
    QUEUE: "-j NFQUEUE --queue-num {value}",
    QUEUE_BYPASS: "-j NFQUEUE --queue-num {value} --queue-bypass",
    COPY: f"-j NFLOG --nflog-group {{value}} --nflog-size {COPIED} --nflog-threshold {THRESHOLD}",
    DEFRAG: "-m socket",
}


@dataclass(frozen=True)
class Table:
    """The daemon's part of one table as iptables-save lines, and the lines that decide how it is removed."""

    chains: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()  # -A lines of the daemon's chains
    jumps: tuple[str, ...] = ()  # -A lines of other chains that jump to these chains
    others: tuple[str, ...] = ()  # the rest of the table, without untouched base chains
    after_jump: tuple[str, ...] = ()  # those of `others` after one of the jumps in the same chain

    @property
    def created_by_us(self) -> bool:
        return any(rule.endswith(MARKER) for rule in self.rules)

    @property
    def steering(self) -> tuple[str, ...]:
        """`rules` without the marker rule."""
        return tuple(rule for rule in self.rules if not rule.endswith(MARKER))

    def by_chain(self) -> dict[str, list[str]]:
        return {chain: [rule for rule in self.steering if rule.split()[1] == chain] for chain in self.chains}

    def same_as(self, wanted: "Table") -> bool:
        """Whether the daemon's part equals that of `wanted`. The order of chains does not count."""
        return self.by_chain() == wanted.by_chain() and sorted(self.jumps) == sorted(wanted.jumps)


Tables = Mapping[str, Table]


def wanted(plan: Plan, family: str) -> dict[str, Table]:
    """The daemon's part of every table; empty for a family that is not in the plan."""
    visits = plan.visits if family in plan.families else ()
    return {
        name: Table(
            chains=tuple(visit.chain for visit in visits if visit.table == name),
            rules=tuple(rule for visit in visits if visit.table == name for rule in _rules(plan, visit, family)),
            jumps=tuple(f"-A {visit.base} -j {visit.chain}" for visit in visits if visit.table == name),
        )
        for name in TABLES
    }


def _rules(plan: Plan, visit: Visit, family: str) -> list[str]:
    rules = []
    for what, value, interface, invert, mark in _steps(plan, visit, family):
        match = f"{'! ' if invert else ''}{'-o' if visit.outward else '-i'} {interface} "
        match = "" if interface == ANY_INTERFACE else match
        match += f"-m mark --mark {mark} " if mark else ""
        bits, _, mask = value.partition("/") if what in (CLEAR, DONE, FORWARDED) else (value, "", "")
        rules.append(f"-A {visit.chain} {match}{SPECS[what].format(value=bits, mask=mask)}")
    return rules


def _steps(plan: Plan, visit: Visit, family: str) -> list[Step]:
    """Without offload the kernel translates packets behind the table mangle, so none is spared the visit there."""
    return replace(plan, spared=plan.offload).steps(visit, family)


def found(save: str) -> dict[str, Table]:
    """The tables of iptables-save text, by name. A table that does not exist is absent."""
    tables: dict[str, Table] = {}
    lines: list[str] = []
    name = ""
    for line in save.splitlines():
        if line.startswith("*"):
            name, lines = line[1:].strip(), []
        elif line == "COMMIT":
            tables[name] = _table(lines)
        elif line and not line.startswith("#"):
            lines.append(line)
    return tables


def _table(lines: list[str]) -> Table:
    chains, rules, jumps, others, after_jump = [], [], [], [], []
    jumped_from = set()
    for line in lines:
        words = line.split()
        if line.startswith(f":{PREFIX}"):
            chains.append(words[0][1:])
        elif line.startswith(f"-A {PREFIX}"):
            rules.append(line)
        elif _target(words).startswith(PREFIX):
            jumps.append(line)
            jumped_from.add(words[1])
        elif not (line.startswith(":") and words[1] == "ACCEPT"):
            others.append(line)
            if words[1] in jumped_from:
                after_jump.append(line)
    return Table(tuple(chains), tuple(rules), tuple(jumps), tuple(others), tuple(after_jump))


def _target(words: list[str]) -> str:
    """The target chain of an -A line, or an empty string."""
    return next((after for word, after in pairwise(words) if word in ("-j", "-g")), "")


def transaction(before: Tables, after: Tables) -> str:
    """iptables-restore --noflush text that replaces `before` by `after`; empty when both are empty."""
    empty = Table()
    names = TABLES if any(after[name].chains for name in after) else TABLES[::-1]
    return "".join(
        _replacement(name, before.get(name), after.get(name, empty))
        for name in names
        if before.get(name, empty).chains or after.get(name, empty).chains
    )


def _replacement(name: str, before: Table | None, after: Table) -> str:
    old = before or Table()
    lines = [f"*{name}"]
    # A chain line creates the chain, or flushes it.
    lines += [f":{chain} - [0:0]" for chain in dict.fromkeys((*after.chains, *old.chains))]
    lines += [jump.replace("-A", "-D", 1) for jump in old.jumps]
    lines += after.steering
    if after.chains and (before is None or old.created_by_us):
        lines.append(f"-A {min(after.chains)} {MARKER}")
    lines += after.jumps
    lines += [f"-X {chain}" for chain in old.chains if chain not in after.chains]
    return "\n".join((*lines, "COMMIT", ""))


def leftovers(before: Tables, now: Tables) -> dict[str, tuple[str, ...]]:
    """Tables created by the daemon that are empty now, each with the base chains of its jumps."""
    return {
        name: tuple(dict.fromkeys(jump.split()[1] for jump in table.jumps))
        for name, table in before.items()
        if table.created_by_us and name in now and not (now[name].chains or now[name].others)
    }


def explained(plan: Plan, family: str, text: str) -> str:
    """The restore text with a comment before each of the daemon's rules. iptables-restore ignores comments."""
    why = {
        rule: step.why
        for visit in plan.visits
        for rule, step in zip(_rules(plan, visit, family), _steps(plan, visit, family), strict=True)
    }
    lines = []
    for line in text.splitlines():
        if line in why:
            lines.append(f"# {why[line]}")
        lines.append(line)
    return "\n".join(lines) + "\n"


def as_wanted(now: Tables, expected: Tables) -> bool:
    """Whether the installed rules are exactly those wanted."""
    return not _differing(now, expected)


def status(now: Tables, expected: Tables) -> str:
    """`installed`, `not installed`, or `partly installed` and the tables that differ."""
    if not any(table.chains for table in now.values()):
        return "not installed"
    differing = _differing(now, expected)
    if differing:
        return f"partly installed: {', '.join(differing)} not as the configuration says"
    return "installed"


def _differing(now: Tables, expected: Tables) -> list[str]:
    empty = Table()
    return [name for name in TABLES if not now.get(name, empty).same_as(expected.get(name, empty))]


def tracked(now: Tables) -> bool:
    """Whether packets are queued at PREROUTING without NOTRACK."""
    queued = now.get("raw", Table()).by_chain().get(PRE_CHAIN, [])
    return bool(queued) and not any("notrack" in rule for rule in queued)


def bypassed(now: Tables) -> list[str]:
    """Rules after one of the jumps: queued packets never reach them. NFLOG takes no packet away."""
    queueing = {name: table for name, table in now.items() if not any("-j NFLOG" in rule for rule in table.rules)}
    return [f"{name}: {line}" for name, table in queueing.items() for line in table.after_jump]
