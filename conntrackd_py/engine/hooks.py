"""Hook operations: what sits at a hook, in the order of its priority (nf_hook_ops).

Each calls one function of another room; the pipeline is the list of them.
"""

from abc import ABC, abstractmethod
from typing import Final, final

from conntrackd_py.conntrack.confirm import confirm
from conntrackd_py.conntrack.core import Conntrack
from conntrackd_py.conntrack.lookup import conntrack_in
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import (
    IP_CT_RELATED_REPLY,
    IPS_CONFIRMED,
    IPS_DYING,
    IPS_HELPER,
    IPS_SEQ_ADJUST,
    NF_ACCEPT,
    NF_DROP,
    PRI_CONFIRM,
    PRI_CONNTRACK,
    PRI_FILTER,
    PRI_HELPER,
    PRI_NAT_DST,
    PRI_NAT_SRC,
    PRI_SEQADJ,
    PRI_TCPMSS,
)
from conntrackd_py.engine.rejects import Rejects
from conntrackd_py.filter.policy import Policy
from conntrackd_py.filter.reject import ADMIN_PROHIBITED
from conntrackd_py.helpers.core import Helpers
from conntrackd_py.nat.core import Nat
from conntrackd_py.nat.rewrite.mss import Mss
from conntrackd_py.reasons import BLOCK_LIMIT, END_FILTERED, FILTER_REJECT, MAPPING_LIMIT, NAT_EXHAUSTED

NO_PORT: Final = (NAT_EXHAUSTED, MAPPING_LIMIT, BLOCK_LIMIT)


class HookOp(ABC):
    """One operation; `run` returns NF_ACCEPT to go on or NF_DROP."""

    name: str = ""
    priority: int = 0

    @abstractmethod
    def run(self, skb: Skb, now: int) -> int: ...


@final
class ConntrackIn(HookOp):
    name = "conntrack_in"
    priority = PRI_CONNTRACK

    def __init__(self, core: Conntrack) -> None:
        self.core = core

    def run(self, skb: Skb, now: int) -> int:
        return conntrack_in(self.core, skb, now)


@final
class NatDestination(HookOp):
    name = "DNAT"
    priority = PRI_NAT_DST

    def __init__(self, nat: Nat, rejects: Rejects | None = None) -> None:
        self.nat = nat
        self.rejects = rejects

    def run(self, skb: Skb, now: int) -> int:
        verdict = self.nat.destination(skb, now)
        if verdict == NF_DROP:
            _reject_exhausted(self.nat, self.rejects, skb, now)
        return verdict


@final
class Filter(HookOp):
    """One for each hook. A connection whose first packet is dropped ends, as in the kernel."""

    name = "filter"
    priority = PRI_FILTER

    def __init__(self, core: Conntrack, policy: Policy, rejects: Rejects, hook: int) -> None:
        self.core = core
        self.policy = policy
        self.rejects = rejects
        self.hook = hook

    def run(self, skb: Skb, now: int) -> int:
        if self.policy.evaluate(skb, self.hook, now) == NF_ACCEPT:
            return NF_ACCEPT
        verdict = self.core.drop(skb, skb.reason)
        if skb.reason == FILTER_REJECT:
            self.rejects.answer(skb, self.hook, now)
        ct = skb.ct
        if ct is not None and not ct.status & (IPS_CONFIRMED | IPS_DYING):
            self.core.kill(ct, END_FILTERED, now)
        return verdict


@final
class ClampMss(HookOp):
    name = "TCPMSS"
    priority = PRI_TCPMSS

    def __init__(self, mss: Mss) -> None:
        self.mss = mss

    def run(self, skb: Skb, now: int) -> int:
        self.mss.clamp(skb)
        return NF_ACCEPT


@final
class NatSource(HookOp):
    name = "SNAT"
    priority = PRI_NAT_SRC

    def __init__(self, nat: Nat, rejects: Rejects | None = None) -> None:
        self.nat = nat
        self.rejects = rejects

    def run(self, skb: Skb, now: int) -> int:
        verdict = self.nat.source(skb, now)
        if verdict == NF_DROP:
            _reject_exhausted(self.nat, self.rejects, skb, now)
        return verdict


def _reject_exhausted(nat: Nat, rejects: Rejects | None, skb: Skb, now: int) -> None:
    """Answer a dropped packet of another host, if no port was free for it, with ICMP 3/13 (RFC 5508 REQ-8)."""
    if rejects is not None and nat.rejects_exhausted and skb.reason in NO_PORT and skb.indev:
        skb.reject = ADMIN_PROHIBITED
        rejects.answer(skb, skb.hook, now)


@final
class SeqAdjust(HookOp):
    """What a packet acknowledges; the helper adjusts its own number when it leaves."""

    name = "seqadj"
    priority = PRI_SEQADJ

    def __init__(self, helpers: Helpers) -> None:
        self.helpers = helpers

    def run(self, skb: Skb, now: int) -> int:
        ct = skb.ct
        if ct is not None and ct.status & IPS_SEQ_ADJUST:
            self.helpers.acknowledge(skb, ct)
        return NF_ACCEPT


@final
class Help(HookOp):
    name = "helper"
    priority = PRI_HELPER

    def __init__(self, helpers: Helpers) -> None:
        self.helpers = helpers

    def run(self, skb: Skb, now: int) -> int:
        ct = skb.ct
        if ct is None or not ct.status & (IPS_HELPER | IPS_SEQ_ADJUST) or skb.ctinfo == IP_CT_RELATED_REPLY:
            return NF_ACCEPT
        return self.helpers.leave(skb, ct, now)


@final
class Confirm(HookOp):
    name = "confirm"
    priority = PRI_CONFIRM

    def __init__(self, core: Conntrack) -> None:
        self.core = core

    def run(self, skb: Skb, now: int) -> int:
        return confirm(self.core, skb, now)
