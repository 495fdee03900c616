"""Hook operations: what sits at a hook, in the order of its priority (nf_hook_ops).

Each is a thin name for work that lives in another room, so that the pipeline can be read as a list.
"""

from abc import ABC, abstractmethod
from typing import final

from conntrackd_py.conntrack.core import Conntrack
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import PRI_CONFIRM, PRI_CONNTRACK, PRI_NAT_DST, PRI_NAT_SRC
from conntrackd_py.nat.core import Nat


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
        return self.core.conntrack_in(skb, now)


@final
class NatDestination(HookOp):
    name = "DNAT"
    priority = PRI_NAT_DST

    def __init__(self, nat: Nat) -> None:
        self.nat = nat

    def run(self, skb: Skb, now: int) -> int:
        return self.nat.destination(skb, now)


@final
class NatSource(HookOp):
    name = "SNAT"
    priority = PRI_NAT_SRC

    def __init__(self, nat: Nat) -> None:
        self.nat = nat

    def run(self, skb: Skb, now: int) -> int:
        return self.nat.source(skb, now)


@final
class Confirm(HookOp):
    name = "confirm"
    priority = PRI_CONFIRM

    def __init__(self, core: Conntrack) -> None:
        self.core = core

    def run(self, skb: Skb, now: int) -> int:
        return self.core.confirm(skb, now)
