"""The steering rules of nft: a Plan -> chains of the table conntrackd_py, nft text, and its listing -> chains.

The base chains stand behind the tables of iptables, so that an accept there does not bypass them.
A chain for each queue holds only the queue rule and a drop. nft cannot write the queue rule for every kernel, so
nft_queue.py inserts it before the drop.
A base chain that stays is only flushed: the kernel drops all waiting packets when a base chain is deleted.
Nothing here runs a program; nft.py does.
"""

import re
from collections.abc import Mapping
from typing import Final

from conntrackd_py.const import LOCAL_IN, LOCAL_OUT, POST_ROUTING, PRE_ROUTING, PRI_MANGLE, PRI_RAW
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
    QUEUE,
    QUEUE_BYPASS,
    THRESHOLD,
    Plan,
    Step,
    Visit,
)
from conntrackd_py.kernel.steering.programs import NFT_FAMILY

TABLE: Final = "conntrackd_py"
ALL_BITS: Final = 0xFFFFFFFF
QUEUE_CHAIN: Final = "queue_"
_IS_QUEUE: Final = re.compile(r"queue_\d{1,5}(_bypass)?")
PRI_SECURITY: Final = 50
PLACES: Final = {
    PRE_ROUTING: ("prerouting", PRI_RAW + 1),
    LOCAL_OUT: ("output", PRI_RAW + 1),
    LOCAL_IN: ("input", PRI_SECURITY + 1),
    POST_ROUTING: ("postrouting", PRI_MANGLE + 2),  # + 1: the kernel spares packets this visit (kernel/maps/flows.py)
}

# EXPECTED: the first packet of a connection that a helper of the kernel expects is RELATED too.
ERROR_ABOUT_FIRST: Final = "ct state related ct status ! expected,confirmed"

# As `nft list` prints them.
SPECS: Final = {
    CLEAR: "meta mark & {value} == {value} meta mark set meta mark & {others}",
    EXCLUDE: "return",
    FIRST_ERROR_HIDDEN: "ct original {family} daddr {value} " + ERROR_ABOUT_FIRST + " drop",
    FIRST_ERROR: ERROR_ABOUT_FIRST + " return",
    OWN: "fib saddr type local return",
    DONE: "meta mark & {mask} == {value} return",
    FORWARDED: "meta mark & {mask} == {value} return",
    NOTRACK: "notrack",
    QUEUE: "goto queue_{value}",
    QUEUE_BYPASS: "goto queue_{value}_bypass",
    COPY: f"log group {{value}} snaplen {COPIED} queue-threshold {THRESHOLD}",
    DEFRAG: "meta l4proto tcp tproxy to :1",
}

Chains = Mapping[str, tuple[str, ...]]  # lines by chain; the first line of a base chain says its place
_BASE: Final = "type "
_HEAD: Final = re.compile(r"^\tchain (\S+) \{$")
_LISTED_QUEUE: Final = re.compile(r"^queue (?:flags (bypass) )?(?:num|to) (\d+)( bypass)?$")


def wanted(plan: Plan, family: str) -> dict[str, tuple[str, ...]]:
    """Every chain of the table; empty for a family that is not in the plan."""
    chains: dict[str, tuple[str, ...]] = {}
    for visit in plan.visits if family in plan.families else ():
        name, lines = _base(visit)
        steps = plan.steps(visit, family)
        chains[name] = (lines, *(_rule(visit, step, family) for step in steps))
        for step in steps:
            if step.what in (QUEUE, QUEUE_BYPASS):
                queue = SPECS[step.what].format(value=step.value).removeprefix("goto ")
                chains[queue] = (queue_rule(queue), "drop")
    return dict(sorted(chains.items(), key=lambda chain: not is_queue(chain[0])))


def _base(visit: Visit) -> tuple[str, str]:
    hook, priority = PLACES[visit.hook]
    return hook, f"type filter hook {hook} priority {priority}; policy accept;"


def _rule(visit: Visit, step: Step, family: str) -> str:
    value, mask, others = step.value, "", ""
    if step.what in (CLEAR, DONE, FORWARDED):
        bits = [int(number, 0) for number in value.split("/")]
        value, mask, others = (f"{number:#010x}" for number in (*bits, ALL_BITS ^ bits[1]))
    spec = SPECS[step.what].format(value=value, mask=mask, others=others, family=NFT_FAMILY[family])
    mark = ""
    if step.mark:
        mark = "meta mark & {1:#010x} == {0:#010x} ".format(*(int(number, 0) for number in step.mark.split("/")))
    return _interface(visit, step) + mark + spec


def _interface(visit: Visit, step: Step) -> str:
    name = step.interface
    if name == ANY_INTERFACE:
        return ""
    text = name[:-1] + "*" if name.endswith("+") else name.replace("*", "\\*")
    return f'{"oifname" if visit.outward else "iifname"} {"!= " if step.invert else ""}"{text}" '


def is_queue(chain: str) -> bool:
    return _IS_QUEUE.fullmatch(chain) is not None


def queue_number(chain: str) -> tuple[int, bool]:
    """(queue number, bypass) of a queue chain."""
    number, _, bypass = chain.removeprefix(QUEUE_CHAIN).partition("_")
    return int(number), bool(bypass)


def queue_rule(chain: str) -> str:
    number, bypass = queue_number(chain)
    return f"queue num {number}{' bypass' if bypass else ''}"


def found(listing: str) -> dict[str, tuple[str, ...]]:
    """The chains of `nft -s -y list table` text."""
    chains: dict[str, list[str]] = {}
    inside: list[str] | None = None
    for line in listing.splitlines():
        if head := _HEAD.match(line):
            inside = chains.setdefault(head[1], [])
        elif line == "\t}":
            inside = None
        elif inside is not None and line.strip():
            inside.append(_same_in_every_version(line.strip()))
    return {name: tuple(lines) for name, lines in chains.items()}


def tracked(now: Chains) -> bool:
    """Whether packets are queued at PREROUTING without notrack."""
    return "notrack" not in now.get("prerouting", ("notrack",))


def _same_in_every_version(line: str) -> str:
    """nft prints a queue rule in the words of iptables' target or in its own."""
    queue = _LISTED_QUEUE.match(line)
    return f"queue num {queue[2]}{' bypass' if queue[1] or queue[3] else ''}" if queue else line


def missing_queues(before: Chains, after: Chains) -> list[str]:
    """The queue chains that must be made first."""
    return [name for name in after if is_queue(name) and before.get(name) != after[name]]


def new_queues(family: str, names: list[str]) -> str:
    """nft text that makes these chains; they drop every packet."""
    lines = [f"add table {family} {TABLE}"]
    for name in names:
        at = f"{family} {TABLE} {name}"
        lines += [f"add chain {at}", f"flush chain {at}", f"add rule {at} drop"]
    return "\n".join((*lines, ""))


def transaction(family: str, before: Chains | None, after: Chains) -> str:
    """nft text that replaces everything but the queue chains of `after`. before: None without the table."""
    if not after:
        return "" if before is None else f"delete table {family} {TABLE}\n"
    old = before or {}
    rebuilt = [name for name in old if not (is_queue(name) and name in after)]
    gone = [name for name in rebuilt if name not in after or old[name][:1] != after[name][:1]]
    lines = [f"flush chain {family} {TABLE} {name}" for name in rebuilt]
    lines += [f"delete chain {family} {TABLE} {name}" for name in gone]
    lines += block(family, {name: chain for name, chain in after.items() if not is_queue(name)})
    return "\n".join((*lines, ""))


def block(family: str, chains: Chains) -> list[str]:
    lines = [f"table {family} {TABLE} {{"]
    for name, chain in chains.items():
        lines += [f"\tchain {name} {{", *(f"\t\t{line}" for line in chain), "\t}"]
    return [*lines, "}"]


def explained(plan: Plan, family: str, chains: Chains) -> str:
    """The table as nft text, a comment before each rule."""
    why = {_rule(visit, step, family): step.why for visit in plan.visits for step in plan.steps(visit, family)}
    lines = []
    for line in block(NFT_FAMILY[family], chains):
        if line.strip() in why:
            lines.append(f"\t\t# {why[line.strip()]}")
        lines.append(line)
    return "\n".join((*lines, ""))


def status(now: Chains | None, expected: Chains) -> str:
    """`installed`, `not installed`, or `partly installed` and the chains that differ."""
    if not now:
        return "not installed"
    differing = sorted(name for name in {*now, *expected} if now.get(name) != expected.get(name))
    if differing:
        return f"partly installed: {', '.join(differing)} not as the configuration says"
    return "installed"
