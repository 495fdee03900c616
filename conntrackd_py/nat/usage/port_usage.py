"""Ports in use by outer address and protocol, updated when a connection is bound and when it ends.

A port counts once for all its destinations, whether a rule or `conntrack -I` chose it. Each pool that maps to the
address counts the ports in its own range.
Bound: LIMIT pairs of address and protocol; connections of further pairs count only in `uncounted`.
"""

from typing import Final, final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.const import ICMP_PROTOCOLS, IPPROTO_ICMP, IPPROTO_ICMPV6
from conntrackd_py.nat.binding import leads_to
from conntrackd_py.nat.interfaces import Interfaces
from conntrackd_py.nat.ports import answer_port
from conntrackd_py.nat.rules import NAT_ACCEPT, NAT_MASQUERADE, NatRule
from conntrackd_py.nat.usage.pool import IDS, UNPRIVILEGED, PoolUsage

LIMIT: Final = 4_096
SPARSE: Final = 4_096  # ports in a dict; with more, a list of all ports is smaller


@final
class Share:
    """The ports of one outer address that belong to one pool."""

    def __init__(self, usage: PoolUsage) -> None:
        self.usage = usage
        self.ports = 0


@final
class Outer:
    """One outer address and protocol: connections by port."""

    def __init__(self) -> None:
        self.ports = 0
        self.sparse: dict[int, int] = {}
        self.dense: list[int] = []
        self.shares: list[Share] = []

    def add(self, port: int) -> None:
        if self._add(port, 1) == 1:
            self._moved(port, 1)

    def remove(self, port: int) -> None:
        if self._add(port, -1) == 0:
            self._moved(port, -1)

    def join(self, usage: PoolUsage) -> None:
        """Count the ports for this pool too, also those already in use."""
        for share in self.shares:
            if share.usage is usage:
                return
        share = Share(usage)
        share.ports = self._within(usage.low, usage.high)
        self.shares.append(share)
        usage.moved(0, share.ports)

    def _add(self, port: int, more: int) -> int:
        """Change the number of connections of a port; returns the new number."""
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
            usage = share.usage
            if usage.low <= port <= usage.high:
                usage.moved(share.ports, share.ports + more)
                share.ports += more

    def _within(self, low: int, high: int) -> int:
        if self.dense:
            return sum(1 for count in self.dense[low : high + 1] if count)
        return sum(1 for port in self.sparse if low <= port <= high)


@final
class PortUsage:
    def __init__(self, interfaces: Interfaces, limit: int = LIMIT) -> None:
        self.interfaces = interfaces
        self.limit = limit
        self.outers: dict[bytes, Outer] = {}  # address and protocol number
        self.uncounted = 0  # connections, ever

    def add(self, ct: NfConn, rule: NatRule | None) -> None:
        """Count a connection when its source has been bound; rule None: by `conntrack -I`."""
        protonum = tuples.protonum(ct.reply)
        if not ct.l4proto.ports and protonum not in ICMP_PROTOCOLS:
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
            outer.join(usage_of(rule, protonum))
        outer.add(answer_port(ct))

    def in_use(self, address: bytes, protonum: int, port: int) -> bool:
        """Whether a connection of a source rule has this port, or may have it: it may not be counted."""
        outer = self.outers.get(address + tuples.PROTO_BYTE[protonum])
        if outer is None:
            return len(self.outers) >= self.limit
        return (outer.dense[port] if outer.dense else outer.sparse.get(port, 0)) > 0

    def remove(self, ct: NfConn) -> None:
        if not ct.port_counted:
            return
        ct.port_counted = False
        key = _key(ct, tuples.protonum(ct.reply))
        outer = self.outers[key]
        outer.remove(answer_port(ct))
        if not outer.ports:
            del self.outers[key]

    def replace_rules(self, rules: list[NatRule]) -> None:
        """Count the ports in use for the pools of these source rules and of no others."""
        for rule in rules:
            rule.pool.usage = {}
        for key, outer in self.outers.items():
            address, protonum = key[:-1], key[-1]
            outer.shares = []
            for rule in rules:
                if rule.match.fits_protocol(protonum) and leads_to(rule, self.interfaces, address):
                    outer.join(usage_of(rule, protonum))

    def limit_of(self, rule: NatRule, protonum: int) -> tuple[int, int]:
        """The number of outer addresses of the rule now, and of ports on each."""
        low, high = span(rule, protonum)
        return _addresses(rule, self.interfaces, _lengths(rule, protonum)), high - low + 1


def usage_of(rule: NatRule, protonum: int) -> PoolUsage:
    usage = rule.pool.usage.get(protonum)
    if usage is None:
        low, high = span(rule, protonum)
        usage = PoolUsage(low, high)
        rule.pool.usage[protonum] = usage
    return usage


def span(rule: NatRule, protonum: int) -> tuple[int, int]:
    """The first and last port (id) of the rule's range for a source above 1023."""
    if rule.to.has_ports:
        return rule.to.port_low, rule.to.port_high
    return IDS if protonum in ICMP_PROTOCOLS else UNPRIVILEGED


def _key(ct: NfConn, protonum: int) -> bytes:
    return tuples.dst(ct.reply) + tuples.PROTO_BYTE[protonum]


def _lengths(rule: NatRule, protonum: int) -> tuple[int, ...]:
    """Lengths of the addresses to which the rule can translate packets of this protocol."""
    wanted = {4: 4, 6: 16}.get(rule.match.family, 0)
    possible = {IPPROTO_ICMP: 4, IPPROTO_ICMPV6: 16}.get(protonum, 0)
    return tuple(length for length in (4, 16) if wanted in (0, length) and possible in (0, length))


def _addresses(rule: NatRule, interfaces: Interfaces, lengths: tuple[int, ...]) -> int:
    if rule.action == NAT_ACCEPT:
        return 0
    if rule.action != NAT_MASQUERADE:
        fits = len(rule.to.low) in lengths
        return int.from_bytes(rule.to.high, "big") - int.from_bytes(rule.to.low, "big") + 1 if fits else 0
    found: dict[bytes, None] = {}
    for link in interfaces.links.values():
        if rule.leaves_by(link.name):
            for length in lengths:
                if length in link.preferred:
                    found[link.preferred[length]] = None
    return len(found)
