"""The rules in force, one by one: what bypasses, shadows, doubles or breaks conntrackd-py.

docs/firewall.md lists the findings by code. Each function here judges one rule for one code, or a few that belong
together.
"""

from collections.abc import Callable
from typing import Final

from conntrackd_py.const import PRI_MANGLE, PRI_RAW
from conntrackd_py.kernel.doctor.findings import CTINFOS, ERROR, INFO, WARNING, Context, Finding, at
from conntrackd_py.kernel.doctor.overlap import doubled
from conntrackd_py.kernel.doctor.ruleset import (
    ACCEPT,
    CT_WRITE,
    DROP,
    NOTRACK,
    OFFLOAD,
    PRI_SECURITY,
    QUEUE,
    RETURN,
    TEMPLATE,
    TPROXY,
    TRANSLATE,
    Chain,
    Rule,
    Ruleset,
)
from conntrackd_py.kernel.steering.iptables_rules import PREFIX

Judge = Callable[[Context, Ruleset, Chain, Rule], Finding | None]

TRANSLATED: Final = {"dnat", "snat"}  # in state matches of iptables, in status matches of nft
SKIPPED: Final = {
    "prerouting": "The daemon sees them first at POSTROUTING: no DNAT rule applies, and the kernel tracks them.",
    "input": "The daemon does not confirm connections whose first packet this rule accepts.",
    "output": "The daemon sees them first at POSTROUTING: no DNAT rule applies, and the kernel tracks them.",
    "postrouting": "These packets leave untranslated and their connections are not confirmed.",
}


def examine(context: Context, ruleset: Ruleset) -> list[Finding]:
    found: list[Finding] = []
    for chain in ruleset.chains.values():
        if chain.name.startswith(PREFIX) or not context.steered(chain.family) or not ruleset.bases(chain):
            continue
        jump = next((place for place, rule in enumerate(chain.rules) if _is_jump(rule)), len(chain.rules))
        reached = [rule for rule in chain.rules[:jump] if not context.excludes(rule)]
        if jump < len(chain.rules):
            found += [_before_jump(context, chain, rule) for rule in reached if _ends(ruleset, chain, rule)]
            if not context.plan.group:  # NFLOG ends no chain
                found += [_behind_jump(chain, rule) for rule in chain.rules[jump:] if not _is_jump(rule)]
        unused = context.notrack and all(base.nat for base in ruleset.bases(chain))
        for rule in reached:
            judged = [judge(context, ruleset, chain, rule) for judge in ((_kernel_nat,) if unused else JUDGES)]
            found += [finding for finding in judged if finding is not None]
        found += _late_drop(ruleset, chain)
    return found


def _is_jump(rule: Rule) -> bool:
    return any(name.startswith(PREFIX) for name in rule.jumps)


def _ends(ruleset: Ruleset, chain: Chain, rule: Rule) -> bool:
    """Whether packets may leave the chain here without a drop."""
    return bool({ACCEPT, QUEUE} & ruleset.effects(chain, rule)) or RETURN in rule.does


def _before_jump(context: Context, chain: Chain, rule: Rule) -> Finding:
    what = "This rule accepts packets before the daemon's queue rule in the same chain. "
    what += "The daemon gets no copy of them." if context.observing else SKIPPED.get(chain.hook, "")
    severity = ERROR if context.translating and chain.hook == "postrouting" else WARNING
    remedy = "Delete the rule, or move it to a chain of another table. Only drops belong here."
    return at(chain, rule, severity, "before-jump", what, remedy)


def _behind_jump(chain: Chain, rule: Rule) -> Finding:
    what = "This rule comes after the daemon's queue rule. Queued packets never reach it."
    remedy = "Run `conntrackd-py rules install` again: it moves the daemon's jumps to the end of their chains."
    return at(chain, rule, WARNING, "behind-jump", what, remedy)


def _ct_match(context: Context, ruleset: Ruleset, chain: Chain, rule: Rule) -> Finding | None:
    """With NOTRACK a state match sees UNTRACKED, and every other ct match fails."""
    if not rule.ct or CT_WRITE in rule.does:
        return None
    if not context.notrack:
        return _translation_match(context, ruleset, chain, rule)
    states = rule.states or set()
    if rule.states is not None and rule.inverted != ("untracked" in states):
        return _matches_everything(context, chain, rule)
    bases = ruleset.bases(chain)
    what = "The kernel does not track queued packets, so this rule never matches."
    effects = ruleset.effects(chain, rule)
    if ACCEPT in effects and (dropping := [base.name for base in bases if ruleset.drops(base)]):
        what += f" {', '.join(sorted(set(dropping)))} drops the packets that this rule accepted."
        return at(chain, rule, ERROR, "ct-match", what, _instead(context, chain, {base.hook for base in bases}, rule))
    if DROP in effects:
        what += " The packets that it dropped now pass on to the later rules."
    return at(chain, rule, WARNING, "ct-match", what, _instead(context, chain, {base.hook for base in bases}, rule))


def _translation_match(context: Context, ruleset: Ruleset, chain: Chain, rule: Rule) -> Finding | None:
    """The kernel tracks the inside view, so it knows only its own translations."""
    if not context.settings.nat or not context.translating or not TRANSLATED & ((rule.states or set()) | rule.statuses):
        return None
    what = "The kernel does not know the daemon's translation: this rule matches none of its connections."
    if ACCEPT in ruleset.effects(chain, rule) and any(ruleset.drops(base) for base in ruleset.bases(chain)):
        what += " They are dropped, unless another rule accepts them."
    remedy = "Accept the translated address and port instead: the kernel sees destinations after their translation."
    return at(chain, rule, WARNING, "ct-match", what, remedy)


def _matches_everything(context: Context, chain: Chain, rule: Rule) -> Finding | None:
    """`new,untracked` accepts what may begin a connection; that is right for UNTRACKED packets too."""
    if not {ACCEPT, DROP} & rule.does or (ACCEPT in rule.does and rule.states == {"new", "untracked"}):
        return None
    verb = "drops" if DROP in rule.does else "accepts"
    what = f"Every queued packet is UNTRACKED, so the state match always matches: the rule {verb} more than before."
    return at(chain, rule, ERROR, "ct-match", what, _instead(context, chain, set(), rule))


USE_FILTER: Final = (
    "The packet mark does not have this here. Match addresses, ports or interfaces instead; the ct match can become a "
    "[[filter.rule]] of the daemon."
)


def _instead(context: Context, chain: Chain, hooks: set[str], rule: Rule) -> str:
    """The match that replaces the ct match. OUTPUT comes before the daemon writes the mark."""
    if not context.mask or hooks == {"output"} or not CTINFOS.keys() & (rule.states or set()):
        return USE_FILTER
    one_each = ", one rule each" if chain.backend != "nft" and rule.states != {"invalid"} else ""
    return f"Match the packet mark instead{one_each}: {context.marks(rule.states or set(), chain.backend)}."


EXCLUDE_INSIDE: Final = (
    "Add the interface of the translated hosts (docker0, for example) to steering.exclude_interfaces, or write it as a "
    "[[nat]] rule."
)


def _kernel_nat(context: Context, ruleset: Ruleset, chain: Chain, rule: Rule) -> Finding | None:
    if TRANSLATE not in rule.does or context.observing:
        return None
    hooks = {base.hook for base in ruleset.bases(chain)}
    label = doubled(context.settings, chain.family, bool(hooks & {"postrouting", "input"}), rule)
    if not context.notrack:
        if label:
            what = f"The kernel and {label} both translate these packets, or some."
            return at(chain, rule, ERROR, "kernel-nat", what, "Delete this rule.")
        what = "The kernel translates these packets, no [[nat]] rule does. The daemon sees one direction untranslated."
        return at(chain, rule, INFO, "kernel-nat", what, EXCLUDE_INSIDE)
    what = "The kernel's NAT never sees queued packets, so this rule does nothing."
    if label:
        return at(chain, rule, WARNING, "kernel-nat", f"{what} {label} covers them, or some.", "Delete this rule.")
    remedy = "Write it as a [[nat]] rule in mode nat, or exclude its interface with steering.exclude_interfaces."
    return at(chain, rule, ERROR, "kernel-nat", f"{what} No [[nat]] rule covers them: they stay untranslated.", remedy)


def between(ruleset: Ruleset, chain: Chain) -> set[str]:
    """The hooks where the chain sees packets between their two visits."""
    return {
        base.hook
        for base in ruleset.bases(chain)
        if base.hook == "forward"
        or (base.hook in ("prerouting", "output") and base.priority > PRI_RAW)
        or (base.hook == "input" and base.priority <= PRI_SECURITY)
        or (base.hook == "postrouting" and base.priority <= PRI_MANGLE)
    }


def _mark_write(context: Context, ruleset: Ruleset, chain: Chain, rule: Rule) -> Finding | None:
    hooks = between(ruleset, chain)
    bits = rule.writes_mark & context.mask
    if not bits or not hooks or (rule.restores and context.notrack):
        return None
    what = f"This rule overwrites the bits {bits:#x} of the packet mark, which belong to the daemon (mark_mask)."
    what += " The daemon must look up the connection again and can find a wrong one; the state in the mark is lost."
    remedy = f"Write only your bits: {context.own_mark(chain.backend)}. Or change steering.mark_mask."
    # At OUTPUT only translated packets carry the daemon's mark.
    return at(chain, rule, WARNING if hooks == {"output"} else ERROR, "mark-write", what, remedy)


def _mark_match(context: Context, ruleset: Ruleset, chain: Chain, rule: Rule) -> Finding | None:
    bits = rule.compares_mark & context.mask
    if not bits & ~context.state_bits or not between(ruleset, chain) - {"output"}:
        return None
    what = f"This rule compares the bits {bits:#x} of the packet mark, which the daemon sets (mark_mask)."
    match = "meta mark and {:#x} == VALUE" if chain.backend == "nft" else "--mark VALUE/{:#x}"
    remedy = f"Compare only your bits: `{match.format(context.own_bits)}`."
    return at(chain, rule, WARNING, "mark-match", what, remedy)


def _ct_write(context: Context, ruleset: Ruleset, chain: Chain, rule: Rule) -> Finding | None:
    if not context.notrack or not (rule.restores or rule.does & {CT_WRITE, TEMPLATE}):
        return None
    if TEMPLATE in rule.does:
        what = "This rule gives the packet a connection template. NOTRACK then has no effect: the kernel tracks it too."
        remedy = "Delete the rule; a [[raw]] rule sets zones, timeouts and helpers."
        return at(chain, rule, ERROR, "ct-template", what, remedy)
    what = "Queued packets have no connection of the kernel, so this rule has no effect."
    if rule.restores:
        remedy = f"Use a [[connmark]] rule with `restore = {context.own_bits:#x}`."
        return at(chain, rule, ERROR, "ct-write", f"{what} The mark is not restored.", remedy)
    return at(chain, rule, WARNING, "ct-write", what, "Use a [[connmark]] or [[raw]] rule.")


def _others(context: Context, ruleset: Ruleset, chain: Chain, rule: Rule) -> Finding | None:
    if NOTRACK in rule.does:
        what = "The kernel does not track these packets, but the daemon does."
        remedy = "Write it as a [[raw]] rule with `notrack = true`."
        return at(chain, rule, INFO if context.observing else WARNING, "notrack", what, remedy)
    if OFFLOAD in rule.does:
        return _offload(context, chain, rule)
    if QUEUE in rule.does:
        return _queue(context, chain, rule)
    if TPROXY in rule.does:
        what = "TPROXY delivers these packets to a local socket. The daemon sees them at PREROUTING and INPUT."
        return at(chain, rule, INFO, "tproxy", what, f"Give --tproxy-mark and `ip rule` only bits of {MASK_OF_USER}.")
    return None


MASK_OF_USER: Final = "your part of the mark (outside steering.mark_mask)"


def _offload(context: Context, chain: Chain, rule: Rule) -> Finding:
    remedy = "Remove the `flow add` rules: the daemon must see every packet."
    if context.notrack:
        what = "The kernel does not track queued packets, so this rule offloads nothing. Connections that are already "
        what += "in the flowtable still bypass the daemon."
        return at(chain, rule, WARNING, "offload", what, remedy)
    what = "The flowtable forwards these packets past PREROUTING and POSTROUTING: the daemon does not see them."
    return at(chain, rule, ERROR, "offload", what, remedy)


def _queue(context: Context, chain: Chain, rule: Rule) -> Finding:
    ours = range(context.plan.queue, context.plan.queue + context.plan.queues)
    if any(number in ours for number in rule.queues):
        what = "This rule sends packets to a queue of the daemon from a place that the daemon does not expect."
        remedy = "Give one of both other queue numbers: queue.first in the configuration, or --queue-num here."
        return at(chain, rule, ERROR, "queue", what, remedy)
    what = "Another program gets these packets between the daemon's visits. Its verdict skips the rest of this chain."
    return at(chain, rule, INFO, "queue", what, f"The program may change only {MASK_OF_USER}.")


def _late_drop(ruleset: Ruleset, chain: Chain) -> list[Finding]:
    late = (chain.hook == "postrouting" and chain.priority > PRI_MANGLE) or (
        chain.hook == "input" and chain.priority > PRI_SECURITY
    )
    if not late or not ruleset.drops(chain):
        return []
    what = "This chain drops packets after the daemon's last visit: their connections are confirmed, their source is "
    what += "translated."
    return [at(chain, None, INFO, "late-drop", what, "Drop in a chain of the hook forward or input, priority filter.")]


JUDGES: Final[tuple[Judge, ...]] = (_ct_match, _kernel_nat, _mark_write, _mark_match, _ct_write, _others)
