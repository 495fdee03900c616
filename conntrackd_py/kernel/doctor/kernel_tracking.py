"""Whether rules in force need the kernel's own tracking: decides steering.kernel_conntrack = auto."""

from typing import Final

from conntrackd_py.kernel.doctor.findings import Context, at
from conntrackd_py.kernel.doctor.overlap import doubled
from conntrackd_py.kernel.doctor.ruleset import CT_WRITE, OFFLOAD, TEMPLATE, TRANSLATE, Chain, Rule, Ruleset
from conntrackd_py.kernel.steering.iptables_rules import PREFIX
from conntrackd_py.settings.schema import Settings

LOOPBACK: Final = "lo"
FLOWTABLE: Final = "a flowtable would forward packets past the daemon: "


def decided(settings: Settings, ruleset: Ruleset) -> tuple[bool, str]:
    """(keep, reason). A flowtable without the kernel's tracking offloads nothing."""
    context = Context(settings)
    rules = [
        (chain, rule)
        for chain in ruleset.chains.values()
        if not chain.name.startswith(PREFIX) and context.steered(chain.family) and ruleset.bases(chain)
        for rule in chain.rules
        if LOOPBACK not in (rule.in_interface, rule.out_interface)
    ]
    for chain, rule in rules:
        if OFFLOAD in rule.does:
            return False, FLOWTABLE + _where(chain, rule)
    for chain, rule in rules:
        if _needs(context, ruleset, chain, rule):
            return True, f"needed by {_where(chain, rule)}"
    if ruleset.unread:
        return True, f"rules not understood: {ruleset.unread}"
    return False, "no rule needs it"


def _needs(context: Context, ruleset: Ruleset, chain: Chain, rule: Rule) -> bool:
    """A match of UNTRACKED was written for packets that the kernel does not track."""
    if TRANSLATE in rule.does:
        hooks = {base.hook for base in ruleset.bases(chain)}
        return not doubled(context.settings, chain.family, bool(hooks & {"postrouting", "input"}), rule)
    if rule.does & {TEMPLATE, CT_WRITE} or rule.restores:
        return True
    return rule.ct and (rule.inverted or "untracked" not in (rule.states or ()))


def _where(chain: Chain, rule: Rule) -> str:
    return at(chain, rule, "", "", "", "").where
