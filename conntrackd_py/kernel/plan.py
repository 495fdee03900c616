"""Where packets are handed to the daemon: the one list that both the steering rules and the daemon read.

A visit is one stop of a packet at the queue. Forwarded packets make two (PREROUTING, POSTROUTING), the
router's own make two as well (PREROUTING, INPUT inward; OUTPUT, POSTROUTING outward).
The tables are chosen by their priority: raw (-300) comes before the kernel's own tracking, mangle before
anything is sent, security after the filter table, so that what the administrator drops is never confirmed.
"""

from dataclasses import dataclass
from typing import Final

from conntrackd_py.const import LOCAL_IN, LOCAL_OUT, POST_ROUTING, PRE_ROUTING
from conntrackd_py.settings.schema import FAMILIES, NAT, OBSERVE, Queue, Settings

PRE_CHAIN: Final = "CONNTRACKD_PY_PRE"
OUT_CHAIN: Final = "CONNTRACKD_PY_OUT"
IN_CHAIN: Final = "CONNTRACKD_PY_IN"
POST_CHAIN: Final = "CONNTRACKD_PY_POST"


@dataclass(frozen=True)
class Visit:
    """One stop. `base` is the built-in chain of `table` that jumps to our `chain`."""

    hook: int  # as the packet's queue message names it
    table: str
    base: str
    chain: str
    notrack: bool = False  # keep the kernel's own tracking off the packet
    defrag: bool = False  # have the kernel put fragments together first
    forwarded_only: bool = False  # the router's own packets pass by

    @property
    def lane(self) -> int:
        """0 where packets come in, 1 where they have been seen before: added to the number of the queue."""
        return 1 if self.hook in (LOCAL_IN, POST_ROUTING) else 0

    @property
    def interface_option(self) -> str:
        """`-i` or `-o`, whichever interface is known at this hook."""
        return "-o" if self.hook in (LOCAL_OUT, POST_ROUTING) else "-i"


@dataclass(frozen=True)
class Plan:
    """All visits of a configuration, in the order a packet makes them, and how they are queued."""

    visits: tuple[Visit, ...]
    queue: int
    bypass: bool  # let packets pass while nothing is bound to the queue
    families: tuple[str, ...]
    exclude_interfaces: tuple[str, ...]

    @property
    def queues(self) -> int:
        """How many queues in a row it takes, from `queue` on."""
        return 1 + max((visit.lane for visit in self.visits), default=0)


def plan(settings: Settings) -> Plan:
    """The plan of these settings."""
    return Plan(
        visits=_observing(settings) if settings.mode == OBSERVE else _tracking(settings),
        queue=settings.queue.first,
        bypass=settings.queue.fail_open and settings.mode != NAT,
        families=settings.steering.families,
        exclude_interfaces=settings.steering.exclude_interfaces,
    )


def closed() -> Plan:
    """For a configuration that cannot be read: no daemon reads this queue, so nothing is forwarded.

    The router itself stays reachable, so that the administrator can correct the configuration.
    """
    forward = Visit(POST_ROUTING, "mangle", "POSTROUTING", POST_CHAIN, forwarded_only=True)
    return Plan((forward,), queue=Queue.first, bypass=False, families=FAMILIES, exclude_interfaces=())


def _observing(settings: Settings) -> tuple[Visit, ...]:
    pre = Visit(PRE_ROUTING, "raw", "PREROUTING", PRE_CHAIN)
    out = Visit(LOCAL_OUT, "raw", "OUTPUT", OUT_CHAIN)
    return (pre, out) if settings.steering.local else (pre,)


def _tracking(settings: Settings) -> tuple[Visit, ...]:
    local = settings.steering.local
    pre = Visit(PRE_ROUTING, "raw", "PREROUTING", PRE_CHAIN, notrack=True, defrag=True)
    post = Visit(POST_ROUTING, "mangle", "POSTROUTING", POST_CHAIN, forwarded_only=not local)
    if not local:
        return (pre, post)
    inward = Visit(LOCAL_IN, "security", "INPUT", IN_CHAIN)
    out = Visit(LOCAL_OUT, "raw", "OUTPUT", OUT_CHAIN, notrack=True)
    return (pre, inward, out, post)
