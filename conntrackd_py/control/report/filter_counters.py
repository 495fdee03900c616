"""Counters of the filter's rules and chains, for the metrics and for `status`."""

from typing import Final

from conntrackd_py.const import HOOK_NAMES, VERDICT_NAMES
from conntrackd_py.filter.policy import ACTIONS, DROP, REJECT, Policy

SHOWN: Final = 16
REFUSE: Final = (ACTIONS[DROP], ACTIONS[REJECT])

Counted = list[tuple[tuple[str, str, str], tuple[int, int]]]  # three labels, packets and bytes


def rules(policy: Policy | None) -> Counted:
    """Rule, action and comment of each rule. A rule for several hooks is one rule."""
    every = [rule for chains in (policy.chains if policy else []) for chain in chains for rule in chain.rules]
    once = {id(rule): rule for rule in every}.values()
    return [((rule.label, ACTIONS[rule.action], rule.comment), (rule.packets, rule.bytes)) for rule in once]


def chains(policy: Policy | None) -> Counted:
    """Hook, chain and default verdict of each chain."""
    return [
        ((HOOK_NAMES[chain.hook].lower(), chain.label, VERDICT_NAMES[chain.default]), (chain.packets, chain.bytes))
        for chains in (policy.chains if policy else [])
        for chain in chains
    ]


def refusing(policy: Policy | None) -> list[dict[str, object]]:
    """Rules and defaults (`default of CHAIN HOOK`) that refused packets, most packets first, SHOWN at most."""
    found = rules(policy)
    found += [
        ((f"default of {chain} {hook}", verdict, ""), counts) for (hook, chain, verdict), counts in chains(policy)
    ]
    refused = [one for one in found if one[0][1] in REFUSE and one[1][0]]
    refused.sort(key=lambda one: -one[1][0])
    return [
        {"rule": rule, "comment": comment, "action": action, "packets": packets, "bytes": size}
        for (rule, action, comment), (packets, size) in refused[:SHOWN]
    ]
