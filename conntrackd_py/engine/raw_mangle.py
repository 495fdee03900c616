"""Raw and mark rules: iptables' raw table with its CT target, and CONNMARK.

raw, priority -300: exempt a packet from tracking (notrack), or set how a new connection is tracked: zone, helper,
trackers with other timeouts or another TCP tracker. The first rule that matches decides.
mangle, priority -150: set the connection's mark, save it from the packet's, restore it, or set labels. Every rule that
matches acts, in order. The bits of the packet mark that carry the connection never change.
"""

from typing import Final, final

from conntrackd_py.conntrack.conn import L4Proto
from conntrackd_py.conntrack.core import Conntrack
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import (
    HOOK_NAMES,
    IP_CT_UNTRACKED,
    IPCT_LABEL,
    IPCT_MARK,
    LOCAL_OUT,
    NF_ACCEPT,
    PRE_ROUTING,
    PRI_MANGLE,
    PRI_RAW,
)
from conntrackd_py.engine.hooks import HookOp
from conntrackd_py.match.match import Match, PacketInfo

MARK_SET: Final = 0  # connection mark: clear the bits of mask, XOR value
MARK_SAVE: Final = 1  # packet mark -> connection mark, within mask
MARK_RESTORE: Final = 2  # connection mark -> packet mark, within mask
LABEL_SET: Final = 3  # set the bits of value among the connection's labels
MARK_ACTIONS: Final = ("set", "save", "restore", "label")

M32: Final = 0xFFFFFFFF


@final
class RawRule:
    """protos: trackers by protocol number; None: the usual ones. helper: its name."""

    def __init__(
        self,
        match: Match,
        *,
        notrack: bool = False,
        zone_original: int = 0,
        zone_reply: int = 0,
        protos: list[L4Proto] | None = None,
        helper: str = "",
        hooks: tuple[int, ...] = (PRE_ROUTING, LOCAL_OUT),
    ) -> None:
        self.match = match
        self.hooks = hooks
        self.notrack = notrack
        self.zone_original = zone_original
        self.zone_reply = zone_reply
        self.protos = protos
        self.helper = helper


@final
class MarkRule:
    def __init__(
        self,
        match: Match,
        action: int,
        value: int = 0,
        mask: int = M32,
        hooks: tuple[int, ...] = (PRE_ROUTING, LOCAL_OUT),
    ) -> None:
        self.match = match
        self.action = action
        self.value = value
        self.mask = mask
        self.hooks = hooks


@final
class Raw(HookOp):
    name = "raw"
    priority = PRI_RAW

    def __init__(self, rules: list[RawRule], names: dict[int, str]) -> None:
        self.rules = rules
        self.names = names

    def run(self, skb: Skb, now: int) -> int:
        info = PacketInfo(self.names)
        for rule in self.rules:
            if skb.hook not in rule.hooks or not rule.match.matches(skb, info, now):
                continue
            if rule.notrack:
                skb.ctinfo = IP_CT_UNTRACKED
            skb.zone_original = rule.zone_original
            skb.zone_reply = rule.zone_reply
            skb.protos = rule.protos
            skb.helper = rule.helper
            break
        return NF_ACCEPT


@final
class Mangle(HookOp):
    """carried: the bits of the packet mark that carry the connection."""

    name = "mangle"
    priority = PRI_MANGLE

    def __init__(self, core: Conntrack, rules: list[MarkRule], names: dict[int, str], carried: int) -> None:
        self.core = core
        self.rules = rules
        self.names = names
        self.free = ~carried & M32

    def run(self, skb: Skb, now: int) -> int:
        if skb.ct is None:
            return NF_ACCEPT
        info = PacketInfo(self.names)
        for rule in self.rules:
            if rule.match.matches(skb, info, now):
                self._act(rule, skb, now)
        return NF_ACCEPT

    def _act(self, rule: MarkRule, skb: Skb, now: int) -> None:
        ct = skb.ct
        if ct is None:
            return
        mask = rule.mask
        mark, labels = ct.mark, ct.labels
        if rule.action == MARK_SET:
            ct.mark = (mark & ~mask ^ rule.value) & M32
        elif rule.action == MARK_SAVE:
            mask &= self.free
            ct.mark = mark & ~mask & M32 | skb.mark & mask
        elif rule.action == MARK_RESTORE:
            mask &= self.free
            skb.mark = skb.mark & ~mask & M32 | mark & mask
        else:
            ct.labels |= rule.value
        if ct.mark != mark or ct.labels != labels:
            self.core.changed(ct, IPCT_MARK if ct.labels == labels else IPCT_LABEL, now)


def mangles_by_hook(core: Conntrack, rules: list[MarkRule], names: dict[int, str], carried: int) -> list[Mangle | None]:
    """By hook, the operation of its rules; None where a hook has no rules."""
    found: list[Mangle | None] = []
    for hook in range(len(HOOK_NAMES)):
        here = [rule for rule in rules if hook in rule.hooks]
        found.append(Mangle(core, here, names, carried) if here else None)
    return found
