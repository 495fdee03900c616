"""Which hooks queue packets to the daemon. The steering rules and the daemon both use this plan.

A visit is one pass of a packet through a queue. Forwarded packets make two (PREROUTING, POSTROUTING), packets to the
router two (PREROUTING, INPUT) and packets of the router two (OUTPUT, POSTROUTING).
The priority of a hook's table decides: raw (-300) is before the kernel's own tracking; mangle is before the packet
leaves; security is after the filter table, so packets that the administrator drops are never confirmed.
"""

from dataclasses import dataclass
from typing import Final

from conntrackd_py.const import LOCAL_IN, LOCAL_OUT, POST_ROUTING, PRE_ROUTING
from conntrackd_py.settings.schema import FAMILIES, NAT, NFLOG, OBSERVE, Queue, Settings

PRE_CHAIN: Final = "CONNTRACKD_PY_PRE"
OUT_CHAIN: Final = "CONNTRACKD_PY_OUT"
IN_CHAIN: Final = "CONNTRACKD_PY_IN"
POST_CHAIN: Final = "CONNTRACKD_PY_POST"

COPIED: Final = 256  # bytes of a packet that NFLOG copies: both headers with options, and those quoted in an ICMP error
THRESHOLD: Final = 32  # copies that the kernel collects before it sends them


@dataclass(frozen=True)
class Visit:
    """base: the built-in chain of `table` that jumps to `chain`."""

    hook: int  # as in the queue message
    table: str
    base: str
    chain: str
    notrack: bool = False  # the kernel does not track the packet
    defrag: bool = False  # the kernel reassembles fragments first
    forwarded_only: bool = False  # packets of the router itself are not queued

    @property
    def queue_index(self) -> int:
        """0: the ingress queue, 1: the egress queue."""
        return 1 if self.hook in (LOCAL_IN, POST_ROUTING) else 0

    @property
    def interface_option(self) -> str:
        """`-i` or `-o`, for the interface that this hook knows."""
        return "-o" if self.hook in (LOCAL_OUT, POST_ROUTING) else "-i"


@dataclass(frozen=True)
class Plan:
    """visits: in the order of a packet. queue: number of the ingress queue. group: of NFLOG, 0: packets are queued."""

    visits: tuple[Visit, ...]
    queue: int
    bypass: bool  # packets pass while no program is bound to the queue
    families: tuple[str, ...]
    exclude_interfaces: tuple[str, ...]
    group: int = 0

    @property
    def queues(self) -> int:
        """Number of consecutive queues, from `queue`."""
        return 0 if self.group else 1 + max((visit.queue_index for visit in self.visits), default=0)


def plan(settings: Settings) -> Plan:
    """The plan of these settings."""
    copies = settings.mode == OBSERVE and settings.observe.via == NFLOG
    return Plan(
        visits=_observing(settings) if settings.mode == OBSERVE else _tracking(settings),
        queue=settings.queue.first,
        bypass=copies or (settings.queue.fail_open and settings.mode != NAT),
        families=settings.steering.families,
        exclude_interfaces=settings.steering.exclude_interfaces,
        group=settings.observe.group if copies else 0,
    )


def closed() -> Plan:
    """For a wrong configuration: no daemon is bound to the queue, so nothing is forwarded.

    The router stays reachable, so that the administrator can correct the configuration.
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
