"""Which hooks queue packets to the daemon. The steering rules and the daemon both use this plan.

A visit is one pass of a packet through a queue. Forwarded packets make two (PREROUTING, POSTROUTING), packets to the
router two (PREROUTING, INPUT) and packets of the router two (OUTPUT, POSTROUTING). A packet with the bit "done" in its
mark makes no second visit, unless a source rule has the interface by which it leaves: no mark spares the translation.
The priority of a hook's table decides: raw (-300) is before the kernel's own tracking; mangle is before the packet
leaves; security is after the filter table, so packets that the administrator drops are never confirmed.

With `keep` the kernel tracks the packets too. It sees the inside view of every connection: replies are translated
before it tracks them, sources after it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, summarize_address_range
from typing import Final, NamedTuple

from conntrackd_py.const import LOCAL_IN, LOCAL_OUT, MANIP_DST, POST_ROUTING, PRE_ROUTING
from conntrackd_py.engine.mark_codec import done_bit, done_early, established, known_mark, not_a_field, valid_bit
from conntrackd_py.nat.interfaces import Interfaces
from conntrackd_py.nat.rules import FILTER_ADDRESS_PORT, NAT_ACCEPT, NatRule
from conntrackd_py.nat.ruleset import Ruleset
from conntrackd_py.settings.schema import AUTO, FAMILIES, KEEP, NAT, NFLOG, OBSERVE, OFF, Queue, Settings
from conntrackd_py.settings.schema import HEADERS as HEADERS_ONLY

PRE_CHAIN: Final = "CONNTRACKD_PY_PRE"
OUT_CHAIN: Final = "CONNTRACKD_PY_OUT"
IN_CHAIN: Final = "CONNTRACKD_PY_IN"
POST_CHAIN: Final = "CONNTRACKD_PY_POST"

NEW: Final = "new"  # name of the queue of new connections
KNOWN_QUEUES: Final = 2  # the first of them, counted from `queue`
COPIED: Final = 256  # bytes of a packet that NFLOG copies: both headers with options, and those quoted in an ICMP error
THRESHOLD: Final = 32  # copies that the kernel collects before it sends them

# What a rule of a visit does.
CLEAR: Final = "clear"  # value: a bit of the mark, and the bits to clear with it
EXCLUDE: Final = "exclude"
FIRST_ERROR_HIDDEN: Final = "first error, hidden"  # value: a network
FIRST_ERROR: Final = "first error"
OWN: Final = "own"
DONE: Final = "done"  # value: a mark and its mask
FORWARDED: Final = "forwarded"  # the same
NOTRACK: Final = "notrack"
LEAVING: Final = "leaving"  # the reason of QUEUE and QUEUE_BYPASS for one interface
QUEUE: Final = "queue"  # value: number
QUEUE_BYPASS: Final = "queue, bypass"  # value: number
COPY: Final = "copy"  # value: NFLOG group
DEFRAG: Final = "defrag"

WHY: Final = {
    CLEAR: "a packet from elsewhere, for example out of a tunnel, has not made its last visit",
    EXCLUDE: "not queued",
    FIRST_ERROR_HIDDEN: "an error of this router about a first packet: it would show the address behind a DNAT rule",
    FIRST_ERROR: "an ICMP error or RST of this router about the first packet of a connection: a queue would drop it",
    OWN: "packets of this router are not queued",
    DONE: "the daemon has nothing more to do with this packet",
    FORWARDED: "the kernel has translated or forwarded this packet by the maps of the daemon",
    NOTRACK: "the kernel does not track the packet",
    LEAVING: "to the daemon: a source rule can match a packet that leaves by this interface",
    QUEUE: "to the daemon; after its verdict the packet continues at the next hook with the daemon's mark",
    QUEUE_BYPASS: "to the daemon, if it runs; after its verdict the packet continues at the next hook",
    COPY: "the kernel sends copies of the headers to the daemon; the packet goes on at once",
    DEFRAG: "never reached; the presence of this rule makes the kernel reassemble fragments",
}

ANY_INTERFACE: Final = "+"
IPV6: Final = "ipv6"
MOST_NAMES: Final = 32  # of source rules; with more, one visit costs less than their rules
Names = tuple[tuple[str, bool], ...]  # of interfaces, and whether all others are meant
ANYTHING: Final = (ANY_INTERFACE, False)
_PLAIN: Final = re.compile(r"[\w.:@-]+\+?", re.ASCII)


class Step(NamedTuple):
    """One rule of a visit; iptables_rules.py and nft_rules.py write it. interface: only packets of this one.

    invert: only packets of the others.
    """

    what: str
    value: str = ""
    interface: str = ANY_INTERFACE
    invert: bool = False
    mark: str = ""  # only packets with this value/mask of the mark: those of known connections

    @property
    def why(self) -> str:
        what = LEAVING if self.what in (QUEUE, QUEUE_BYPASS) and self.interface != ANY_INTERFACE else self.what
        return f"known connections: {WHY[what]}" if self.mark else WHY[what]


@dataclass(frozen=True)
class Visit:
    """base: the built-in chain of iptables' `table` that jumps to `chain`."""

    hook: int  # as in the queue message
    table: str
    base: str
    chain: str
    notrack: bool = False  # the kernel does not track the packet
    defrag: bool = False  # the kernel reassembles fragments first
    forwarded_only: bool = False  # packets of the router itself are not queued
    errors_pass: bool = False  # errors of the router about a first packet are not queued

    @property
    def queue_index(self) -> int:
        """0: the ingress queue, 1: the egress queue."""
        return 1 if self.hook in (LOCAL_IN, POST_ROUTING) else 0

    @property
    def outward(self) -> bool:
        """Whether this hook knows the outgoing interface, not the incoming one."""
        return self.hook in (LOCAL_OUT, POST_ROUTING)


@dataclass(frozen=True)
class Plan:
    """visits: in the order of a packet. queue: number of the ingress queue. group: of NFLOG, 0: packets are queued."""

    visits: tuple[Visit, ...]
    queue: int
    bypass: bool  # packets pass while no program is bound to the queue
    families: tuple[str, ...]
    exclude_interfaces: tuple[str, ...]
    program: str = AUTO  # nft, iptables or auto
    hidden: tuple[str, ...] = ()  # networks behind DNAT rules: errors about a first packet to them are dropped; `keep`
    keep: bool = False  # the kernel tracks the packets too
    group: int = 0  # NFLOG group of the copies; 0: packets are queued
    known: bool = False  # known connections have a queue of their own at PREROUTING (kernel/maps)
    offload: bool = False  # the kernel forwards packets of established connections (kernel/maps)
    spared: bool = False  # the kernel translates packets of some connections: no second visit (kernel/maps)
    headers: bool = False  # at POSTROUTING too; in both only the headers of large packets are copied
    mark_mask: int = 0  # 0: every packet makes all its visits
    leaving: Mapping[str, Names] = field(default_factory=dict)  # by family: interfaces with a source rule
    why: str = field(default="", compare=False)  # the reason for `keep` or against it

    @property
    def queues(self) -> int:
        """Number of consecutive queues, from `queue`."""
        if self.known:
            return KNOWN_QUEUES + 1 + self.headers
        return 0 if self.group else 1 + max((visit.queue_index for visit in self.visits), default=0)

    @property
    def queue_names(self) -> dict[int, str]:
        """What each queue holds, by number. With `known` the first queue holds new connections only."""
        names = (NEW if self.known else "first", "last", "known", "established")
        return {self.queue + at: name for at, name in enumerate(names[: self.queues])}

    def steps(self, visit: Visit, family: str) -> list[Step]:
        """The rules of a visit, in order."""
        steps = [Step(EXCLUDE, interface=name) for name in self.exclude_interfaces]
        if self.mark_mask and visit.queue_index == 0:
            # Marks of known packets stay. All other packets that are queued get a new mark.
            stays = self.known and visit.hook == PRE_ROUTING
            clear = Step(CLEAR, f"{done_bit(self.mark_mask):#x}/{not_a_field(self.mark_mask):#x}")
            steps[:0] = [clear._replace(interface=step.interface) for step in steps] if stays else [clear]
        if self.spared and visit.hook == POST_ROUTING:
            steps.insert(0, self._forwarded(*known_mark(self.mark_mask)))
        if visit.errors_pass:
            if visit.hook == POST_ROUTING:
                steps += [Step(FIRST_ERROR_HIDDEN, name) for name in self.hidden if (":" in name) == (family == IPV6)]
            steps.append(Step(FIRST_ERROR))
        if visit.forwarded_only:
            steps.append(Step(OWN))
        if visit.notrack:
            steps.append(Step(NOTRACK))
        if self.offload and visit.hook == PRE_ROUTING:
            steps.append(self._forwarded(valid_bit(self.mark_mask), valid_bit(self.mark_mask)))
        if self.group:
            steps.append(Step(COPY, str(self.group)))
        else:
            steps += self._queueing(visit, family)
        if visit.defrag:
            steps.append(Step(DEFRAG))
        return steps

    def _forwarded(self, value: int, mask: int) -> Step:
        return Step(FORWARDED, f"{value:#x}/{mask:#x}")

    def _queueing(self, visit: Visit, family: str) -> list[Step]:
        """Packets that leave by an interface with a source rule are queued whatever their mark says."""
        queues = self._queues(visit)
        if not visit.queue_index:
            return queues
        names = self.leaving.get(family, ()) if visit.hook == POST_ROUTING else ()
        if ANYTHING in names:
            return queues
        done = [Step(DONE, f"{value:#x}/{mask:#x}") for value, mask in done_early(self.mark_mask)]
        named = [one._replace(interface=name, invert=invert) for name, invert in names if done for one in queues]
        return [*named, *done, *queues]

    def _queues(self, visit: Visit) -> list[Step]:
        """Known connections first."""
        what, number = QUEUE_BYPASS if self.bypass else QUEUE, self.queue + visit.queue_index
        marks: list[tuple[int, int]] = []
        if self.known and visit.hook == PRE_ROUTING:
            marks = [known_mark(self.mark_mask)]
        elif self.headers and visit.hook == POST_ROUTING:
            marks = established(self.mark_mask)
        known = [Step(what, str(number + KNOWN_QUEUES), mark=f"{value:#x}/{mask:#x}") for value, mask in marks]
        return [*known, Step(what, str(number))]


def plan(settings: Settings, *, keep: bool = False, why: str = "") -> Plan:
    """The plan of these settings. keep: the decision if steering.kernel_conntrack is auto; why: its reason."""
    observing, wish = settings.mode == OBSERVE, settings.steering.kernel_conntrack
    copies = observing and settings.observe.via == NFLOG
    known = settings.queue.known_first and not observing and settings.steering.mark_mask != 0
    offload, headers = known and settings.offload.mode != OFF, known and settings.queue.large_packets == HEADERS_ONLY
    keep = observing or wish == KEEP or (wish == AUTO and keep)
    return Plan(
        visits=_observing(settings) if observing else _tracking(settings, keep=keep),
        queue=settings.queue.first,
        bypass=copies or (settings.queue.fail_open and settings.mode != NAT),
        families=settings.steering.families,
        exclude_interfaces=settings.steering.exclude_interfaces,
        program=settings.steering.program,
        hidden=_hidden(settings.nat) if keep and settings.mode == NAT else (),
        keep=keep,
        group=settings.observe.group if copies else 0,
        known=known,
        offload=offload,
        spared=offload or (headers and settings.mode == NAT),
        headers=headers,
        mark_mask=0 if observing else settings.steering.mark_mask,
        leaving={name: _leaving(settings.nat, name) for name in FAMILIES} if settings.mode == NAT else {},
        why=why,
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


def _tracking(settings: Settings, *, keep: bool) -> tuple[Visit, ...]:
    """Conntrack matches of `errors_pass` turn on the kernel's tracking and with it its defragmentation."""
    local = settings.steering.local
    pre = Visit(PRE_ROUTING, "raw", "PREROUTING", PRE_CHAIN, notrack=not keep, defrag=not keep)
    post = Visit(POST_ROUTING, "mangle", "POSTROUTING", POST_CHAIN, forwarded_only=not local, errors_pass=keep)
    if not local:
        return (pre, post)
    inward = Visit(LOCAL_IN, "security", "INPUT", IN_CHAIN)
    out = Visit(LOCAL_OUT, "raw", "OUTPUT", OUT_CHAIN, notrack=not keep, errors_pass=keep)
    return (pre, inward, out, post)


def _hidden(rules: tuple[NatRule, ...]) -> tuple[str, ...]:
    """The networks to which DNAT rules and mappings translate. The kernel does not know the outer addresses."""
    found: dict[str, None] = {}
    for rule in rules:
        sources = rule.match.source
        admits = rule.independent is not None and rule.independent.filtering != FILTER_ADDRESS_PORT
        if admits and sources is not None and not sources.invert:
            found |= dict.fromkeys(_networks(*sources.bounds))
        for to in rule.ranges if rule.translates(MANIP_DST) and rule.to.low else ():
            found |= dict.fromkeys(_networks(to.low, to.high))
    return tuple(found)


def _networks(*bounds: bytes) -> list[str]:
    """The networks of address ranges: first and last address of each."""
    found: list[str] = []
    for low, high in zip(bounds[::2], bounds[1::2], strict=True):
        found += [_text(network) for network in summarize_address_range(ip_address(low), ip_address(high))]
    return found


def _leaving(rules: tuple[NatRule, ...], family: str) -> Names:
    """The interfaces by which source rules of this family translate; ANYTHING if they are not a few plain names."""
    found: dict[tuple[str, bool], None] = {}
    for rule in Ruleset(list(rules), Interfaces()).source_rules:
        if rule.action == NAT_ACCEPT or rule.match.family not in (0, 6 if family == IPV6 else 4):
            continue
        names = rule.match.out_interface
        if names is None or (names.invert and len(names.names) > 1) or not all(map(_PLAIN.fullmatch, names.names)):
            return (ANYTHING,)
        found |= dict.fromkeys((name, names.invert) for name in names.names)
    return tuple(found) if len(found) <= MOST_NAMES else (ANYTHING,)


def _text(network: IPv4Network | IPv6Network) -> str:
    return str(network) if network.num_addresses > 1 else str(network.network_address)
