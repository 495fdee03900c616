"""Where the packet mark replaces ct state, and what a translation reports."""

from dataclasses import dataclass, field
from typing import Final

from conntrackd_py.kernel.doctor.examine import between
from conntrackd_py.kernel.doctor.findings import FAMILIES, Context
from conntrackd_py.kernel.doctor.ruleset import Chain, Rule, Ruleset
from conntrackd_py.kernel.steering.iptables_rules import PREFIX

KEPT: Final = "not translated"  # the rule is as before
PARTLY: Final = "translated in part"  # some packets of the chain do not match any more, or never did
NOTE: Final = "note"


@dataclass(frozen=True)
class Remark:
    """About a rule of the text, or a chain. line: of the text, from 1."""

    kind: str
    line: int
    why: str
    rule: str


@dataclass
class Translation:
    """text: the ruleset, changed only in the translated matches. remarks: by line."""

    text: str
    translated: int = 0  # rules
    remarks: list[Remark] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return all(remark.kind == NOTE for remark in self.remarks)


# What to do with a rule about packets that are not queued (steering.exclude_interfaces).
ONLY_QUEUED: Final = 0  # the rule matches none of them
NEVER_QUEUED: Final = 1  # the rule matches nothing else: it stays
BOTH: Final = 2  # the rule stays too, for packets without the daemon's mark


def no_state(context: Context, ruleset: Ruleset, chain: Chain) -> tuple[bool, str]:
    """Whether the mark has the state for no packet of the chain; and why for some or all of them."""
    if not ruleset.bases(chain):
        return False, ""
    problems = {base.key: _problem(context, ruleset, base) for base in ruleset.bases(chain)}
    whys = sorted({why for why, _ in problems.values() if why})
    return all(nowhere for _, nowhere in problems.values()), "; ".join(whys)


def _problem(context: Context, ruleset: Ruleset, base: Chain) -> tuple[str, bool]:
    """Why packets of a base chain have no state in the mark, and whether none has."""
    if base.family not in FAMILIES or not context.steered(base.family):
        return "packets of this family are not queued, so ct state works", True
    if base.nat:
        return "NAT chains of the kernel never see queued packets", True
    if base.hook == "output":
        return "OUTPUT: the packet mark has no state there", True
    if base.hook == "input" and not context.settings.steering.local:
        return "INPUT with steering.local = false: the daemon does not see what the router sends", True
    if base.hook not in between(ruleset, base):
        return f"{base.hook.upper()}, priority {base.priority}: not between the two visits of a packet", True
    if base.hook == "postrouting":
        return "POSTROUTING: packets of the router itself have no state in the mark", False
    return "", False


def unqueued(context: Context, ruleset: Ruleset, chain: Chain, rule: Rule) -> int:
    """ONLY_QUEUED, NEVER_QUEUED or BOTH. Loopback packets are not forwarded, and usually accepted by a rule."""
    names = context.settings.steering.exclude_interfaces
    if rule.in_interface and not rule.in_interface.endswith(("+", "*")):
        return NEVER_QUEUED if context.excluded.has(rule.in_interface) else ONLY_QUEUED
    if any(name != "lo" for name in names):
        return BOTH
    entries = [base for base in ruleset.bases(chain) if base.hook in ("input", "prerouting")]
    return BOTH if names and any(not ruleset.accepts_loopback(base) for base in entries) else ONLY_QUEUED


def is_ours(chain: Chain) -> bool:
    return chain.name.startswith(PREFIX) or chain.table.startswith(PREFIX.lower().rstrip("_"))


def not_reached(chain: Chain, line: int) -> Remark:
    why = "no base chain of this text jumps here; in OUTPUT the packet mark has no state"
    return Remark(NOTE, line, why, f"chain {chain.name}")
