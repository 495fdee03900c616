"""Ports in use by outer address and protocol: kept when a connection is bound and when it ends, so nothing is walked.

A port counts once, however many destinations it serves and whichever rule or hand gave it. Each pool that leads to the
address has its share of them: the ports it may choose.
Bound: LIMIT pairs of address and protocol; connections of further ones are counted in `uncounted` and nowhere else.
"""

from typing import Final, final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.const import IPPROTO_ICMP, IPPROTO_ICMPV6
from conntrackd_py.nat.binding import leads_to
from conntrackd_py.nat.interfaces import Interfaces
from conntrackd_py.nat.pool import IDS, UNPRIVILEGED, Use
from conntrackd_py.nat.ports import answer_port
from conntrackd_py.nat.rules import ANY_PROTO, NAT_ACCEPT, NAT_MASQUERADE, NatRule

LIMIT: Final = 4_096
SPARSE: Final = 4_096  # ports in a dict; beyond it a list of all ports is smaller


@final
class Share:
    """The ports of one outer address that belong to one pool."""

    def __init__(self, use: Use) -> None:
        self.use = use
        self.ports = 0


@final
class Outer:
    """One outer address and protocol: connections by port."""

    def __init__(self) -> None:
        self.ports = 0
        self.sparse: dict[int, int] = {}
        self.dense: list[int] = []
        self.shares: list[Share] = []

    def take(self, port: int) -> None:
        if self._add(port, 1) == 1:
            self._moved(port, 1)

    def give(self, port: int) -> None:
        if self._add(port, -1) == 0:
            self._moved(port, -1)

    def join(self, use: Use) -> None:
        """From now on the ports count for this pool, too; also those in use already."""
        for share in self.shares:
            if share.use is use:
                return
        share = Share(use)
        share.ports = self._within(use.low, use.high)
        self.shares.append(share)
        use.moved(0, share.ports)

    def _add(self, port: int, more: int) -> int:
        """Connections that have the port now."""
        if self.dense:
            count = self.dense[port] + more
            self.dense[port] = count
            return count
        count = self.sparse.get(port, 0) + more
        if count:
            self.sparse[port] = count
        else:
            del self.sparse[port]
        if len(self.sparse) > SPARSE:
            self.dense = [0] * 65536
            for known, connections in self.sparse.items():
                self.dense[known] = connections
            self.sparse = {}
        return count

    def _moved(self, port: int, more: int) -> None:
        self.ports += more
        for share in self.shares:
            use = share.use
            if use.low <= port <= use.high:
                use.moved(share.ports, share.ports + more)
                share.ports += more

    def _within(self, low: int, high: int) -> int:
        if self.dense:
            return sum(1 for count in self.dense[low : high + 1] if count)
        return sum(1 for port in self.sparse if low <= port <= high)


@final
class PortUse:
    def __init__(self, interfaces: Interfaces, limit: int = LIMIT) -> None:
        self.interfaces = interfaces
        self.limit = limit
        self.outers: dict[bytes, Outer] = {}  # address and protocol number
        self.uncounted = 0  # connections, ever

    def take(self, ct: NfConn, rule: NatRule | None) -> None:
        """Count a connection whose source this rule has just bound; None: it was bound by hand."""
        protonum = tuples.protonum(ct.reply)
        if not ct.l4proto.ports and not is_query(protonum):
            return
        key = _key(ct, protonum)
        outer = self.outers.get(key)
        if outer is None:
            if len(self.outers) >= self.limit:
                self.uncounted += 1
                return
            outer = Outer()
            self.outers[key] = outer
        ct.port_counted = True
        if rule is not None:
            outer.join(use_of(rule, protonum))
        outer.take(answer_port(ct))

    def give(self, ct: NfConn) -> None:
        """The connection ended."""
        if not ct.port_counted:
            return
        ct.port_counted = False
        key = _key(ct, tuples.protonum(ct.reply))
        outer = self.outers[key]
        outer.give(answer_port(ct))
        if not outer.ports:
            del self.outers[key]

    def replace_rules(self, rules: list[NatRule]) -> None:
        """Count for the pools of these source rules, and no others, what is in use."""
        for rule in rules:
            rule.pool.uses = {}
        for key, outer in self.outers.items():
            address, protonum = key[:-1], key[-1]
            outer.shares = []
            for rule in rules:
                if rule.protonum in (ANY_PROTO, protonum) and leads_to(rule, self.interfaces, address):
                    outer.join(use_of(rule, protonum))

    def limit_of(self, rule: NatRule, protonum: int) -> tuple[int, int]:
        """How many outer addresses the rule has now, and how many ports on each of them."""
        low, high = span(rule, protonum)
        return _addresses(rule, self.interfaces, _lengths(rule, protonum)), high - low + 1


def use_of(rule: NatRule, protonum: int) -> Use:
    use = rule.pool.uses.get(protonum)
    if use is None:
        low, high = span(rule, protonum)
        use = Use(low, high)
        rule.pool.uses[protonum] = use
    return use


def span(rule: NatRule, protonum: int) -> tuple[int, int]:
    """The first and last port (id) that the rule chooses for a source above 1023."""
    if rule.port_high:
        return rule.port_low, rule.port_high
    return IDS if is_query(protonum) else UNPRIVILEGED


def is_query(protonum: int) -> bool:
    """Whether it has ids instead of ports."""
    return protonum in (IPPROTO_ICMP, IPPROTO_ICMPV6)


def _key(ct: NfConn, protonum: int) -> bytes:
    return tuples.dst(ct.reply) + tuples.PROTO_BYTE[protonum]


def _lengths(rule: NatRule, protonum: int) -> tuple[int, ...]:
    """Of the addresses that the rule can translate packets of this protocol to."""
    wanted = {4: 4, 6: 16}.get(rule.family, 0)
    possible = {IPPROTO_ICMP: 4, IPPROTO_ICMPV6: 16}.get(protonum, 0)
    return tuple(length for length in (4, 16) if wanted in (0, length) and possible in (0, length))


def _addresses(rule: NatRule, interfaces: Interfaces, lengths: tuple[int, ...]) -> int:
    if rule.action == NAT_ACCEPT:
        return 0
    if rule.action != NAT_MASQUERADE:
        fits = len(rule.to_low) in lengths
        return int.from_bytes(rule.to_high, "big") - int.from_bytes(rule.to_low, "big") + 1 if fits else 0
    found: dict[bytes, None] = {}
    for link in interfaces.links.values():
        if rule.out_interface is None or rule.out_interface.matches(link.name):
            for length in lengths:
                if length in link.preferred:
                    found[link.preferred[length]] = None
    return len(found)
