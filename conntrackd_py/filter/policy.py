"""The filter: chains of rules at LOCAL_IN, FORWARD and LOCAL_OUT, each with a default verdict.

As in netfilter, every chain of a hook is asked in order: accept ends the chain, drop and reject end the packet. In a
chain the first rule that matches decides, otherwise the default. A packet is matched as it is at the hook: destination
translated, source not yet.
"""

from typing import Final, final

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import FORWARD, HOOK_NAMES, LOCAL_IN, LOCAL_OUT, NF_ACCEPT, NF_DROP
from conntrackd_py.match.match import Match, PacketInfo
from conntrackd_py.reasons import FILTER_DROP, FILTER_REJECT

ACCEPT: Final = 0
DROP: Final = 1
REJECT: Final = 2
CONTINUE: Final = 3  # count, and go on to the next rule
ACTIONS: Final = ("accept", "drop", "reject", "continue")

HOOKS: Final = {"in": LOCAL_IN, "forward": FORWARD, "out": LOCAL_OUT}


@final
class FilterRule:
    """hooks: where the rule applies. reject: a kind of filter.reject, for action REJECT.

    `label` names the rule in messages and counters; `comment` is the administrator's; `name` has both.
    """

    def __init__(
        self,
        action: int,
        match: Match | None = None,
        *,
        hooks: tuple[int, ...] = (LOCAL_IN, FORWARD, LOCAL_OUT),
        reject: int = 0,
        label: str = "",
        comment: str = "",
    ) -> None:
        self.action = action
        self.match = match or Match()
        self.hooks = hooks
        self.reject = reject
        self.label = label
        self.comment = comment
        self.name = f"{label} ({comment})" if comment else label
        self.packets = 0
        self.bytes = 0


@final
class Chain:
    """family: 4, 6 or 0 for both; packets of the other family skip the chain. default: NF_ACCEPT or NF_DROP."""

    def __init__(self, hook: int, rules: list[FilterRule], default: int, family: int = 0, label: str = "") -> None:
        self.hook = hook
        self.rules = rules
        self.default = default
        self.family = family
        self.label = label
        self.name = f"default of {label} {HOOK_NAMES[hook].lower()}"
        self.packets = 0  # decided by the default
        self.bytes = 0


@final
class Policy:
    """names: interface names by index; the engine sets it."""

    def __init__(self, chains: list[Chain]) -> None:
        self.names: dict[int, str] = {}
        self.chains: list[list[Chain]] = [[], [], [], [], []]
        for chain in chains:
            self.chains[chain.hook].append(chain)

    def evaluate(self, skb: Skb, hook: int, now: int, counting: bool = True) -> int:
        """The verdict. NF_DROP sets skb.rule, and skb.reason to FILTER_DROP or FILTER_REJECT; a reject sets skb.reject.

        counting: whether the rules count the packet.
        """
        info = PacketInfo(self.names)
        for chain in self.chains[hook]:
            if chain.family and chain.family != skb.data[0] >> 4:
                continue
            if self._traverse(chain, skb, info, now, counting) == NF_DROP:
                return NF_DROP
        return NF_ACCEPT

    def _traverse(self, chain: Chain, skb: Skb, info: PacketInfo, now: int, counting: bool) -> int:
        for rule in chain.rules:
            if not rule.match.matches(skb, info, now):
                continue
            if counting:
                rule.packets += 1
                rule.bytes += len(skb.data)
            if rule.action == ACCEPT:
                return NF_ACCEPT
            if rule.action == DROP:
                skb.drop(FILTER_DROP)
                skb.rule = rule.name
                return NF_DROP
            if rule.action == REJECT:
                skb.drop(FILTER_REJECT)
                skb.rule = rule.name
                skb.reject = rule.reject
                return NF_DROP
        if counting:
            chain.packets += 1
            chain.bytes += len(skb.data)
        if chain.default == NF_DROP:
            skb.drop(FILTER_DROP)
            skb.rule = chain.name
        return chain.default
