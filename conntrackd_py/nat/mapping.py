"""Endpoint-independent mappings: a source keeps one outer address and port for all destinations (RFC 4787 4.1, 5).

For TCP and UDP connections of SNAT and MASQUERADE rules with `mapping = "endpoint-independent"`.

- A mapping belongs to one inside endpoint (address, port, protocol, zone) and one range of outer addresses.
- No other mapping has its outer endpoint, and no connection of a source rule had it when the mapping was made.
- It is alive while a connection from inside uses it, and `lifetime` ms longer. Then it refuses first packets from
  outside. Its endpoint rests: for `rest` ms more only the same inside endpoint gets it (RFC 6888, requirement 8).
- An unanswered connection from outside keeps no mapping alive: nobody outside can hold it open (RFC 4787 4.3).
- Bounds: `limit` mappings, `host_limit` of one inside address. A refusal is counted; no mapping is evicted.
"""

from collections import OrderedDict
from typing import Final, final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.split_dict import SplitDict
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPPROTO_TCP, IPPROTO_UDP, IPS_CONFIRMED, IPS_SEEN_REPLY, MANIP_DST, MANIP_SRC
from conntrackd_py.nat.binding import info_of, inverted, range_of
from conntrackd_py.nat.carrier.block_choice import BlockChoice
from conntrackd_py.nat.carrier.block_space import Block
from conntrackd_py.nat.carrier.blocks import Blocks
from conntrackd_py.nat.interfaces import Interfaces
from conntrackd_py.nat.ports import Picker, Ports, port_class
from conntrackd_py.nat.range import Range
from conntrackd_py.nat.rules import FILTER_ADDRESS, FILTER_NONE, Independent, NatRule
from conntrackd_py.nat.ruleset import Ruleset
from conntrackd_py.nat.usage.port_usage import PortUsage
from conntrackd_py.reasons import MAPPING_LIMIT

RANDOM_TRIES: Final = 128  # ports tried at random, so that they cannot be foreseen (RFC 6056)
SWEEP: Final = 512  # ports tried in a row after that


@final
class Mapping:
    """inside: source_key of the packets from inside. outer: destination_key of the answers, likewise in bytes."""

    def __init__(self, inside: bytes, outer: bytes, rule: NatRule, length: int) -> None:
        self.inside = inside
        self.outer = outer
        self.rule: NatRule | None = rule  # None: after a reload no rule has it; first packets from outside are refused
        self.pool = pool_of(rule, outer[:length])
        self.length = length  # of an address
        self.connections = 0
        self.holding = 0  # of these, from inside
        self.until = 0  # ms: alive until then, unless connections hold it
        self.latest: NfConn | None = None  # the newest connection from outside
        self.block: Block | None = None  # which has its outer port
        self.peers: dict[bytes, int] = {}  # with filtering by address: connections by outside address

    @property
    def address(self) -> bytes:
        return self.outer[: self.length]

    @property
    def port(self) -> int:
        return port_of(self.outer, self.length)

    @property
    def protonum(self) -> int:
        return self.outer[self.length + 2]

    def inside_range(self) -> Range:
        address, port = self.inside[: self.length], port_of(self.inside, self.length)
        return Range(address, address, port, port)


@final
class Endpoints(Picker):
    """All mappings. `attached[2 * slot + manip]`: the one that translates source or destination of a connection."""

    def __init__(
        self, ports: Ports, usage: PortUsage, interfaces: Interfaces, tunables: Tunables, blocks: Blocks
    ) -> None:
        self.ports = ports
        self.blocks = blocks
        self.usage = usage
        self.interfaces = interfaces
        self.by_inside: SplitDict[Mapping] = SplitDict()  # inside and pool
        self.by_outer: SplitDict[Mapping] = SplitDict()
        self.hosts: dict[bytes, int] = {}  # mappings by inside address
        self.attached: list[Mapping | None] = []
        self.resting: OrderedDict[bytes, Mapping] = OrderedDict()  # without connections, by outer endpoint
        self.count = 0
        self.allocated = 0
        self.refused = 0  # by a limit
        self.filtered = 0  # first packets from outside
        self.inbound = 0  # connections from outside
        self.conflicts = 0  # connections for whose destination another connection has the endpoint
        self.host_limit = 0  # 0: none
        self.tune(tunables)

    def tune(self, tunables: Tunables) -> None:
        self.limit = tunables.nat_mapping_max
        self.lifetime = tunables.nat_mapping_lifetime * 1000
        self.rest = self.blocks.rest = tunables.nat_port_rest * 1000

    # --- from inside --------------------------------------------------------------------------------

    def source(self, ct: NfConn, current: bytes, wanted: Range, rule: NatRule, rules: Ruleset) -> bytes:
        """The tuple to translate `current` to, by the mapping of its source; empty: `ports.refusal` says why."""
        joined = self.ports.joined(current, wanted, ct)
        if joined:
            return joined  # ct is about to join the connection that came from outside
        inside = tuples.source_key(current)
        mapping = self.by_inside.get(inside + pool_of(rule, wanted.low))
        chosen = b""
        if mapping is not None and wanted.holds(mapping.address, mapping.port):
            chosen = self._by(mapping, current)
            if self.ports.used(chosen, ct):
                self.conflicts += 1
                if rule.port_block:
                    return BlockChoice(self.blocks, self.ports, ct, current, wanted, rule, rules, self.ports).choose()
                return self.ports.unique(current, wanted, ct, MANIP_SRC)
        elif self.full(tuples.src(current)):
            self.refused += 1
            self.ports.refusal = MAPPING_LIMIT
        else:
            chosen = self._choose(ct, current, wanted, rule, rules)
            mapping = self.add(inside, tuples.source_key(chosen), rule, len(wanted.low)) if chosen else None
        if mapping is not None and chosen:
            mapping.rule = rule
            self.attach(ct, mapping, MANIP_SRC)
        return chosen

    def _by(self, mapping: Mapping, current: bytes) -> bytes:
        return tuples.with_src(current, mapping.address, mapping.port)

    def full(self, host: bytes) -> bool:
        """Whether a limit forbids one more mapping of this inside address."""
        return self.count >= self.limit or 0 < self.host_limit <= self.hosts.get(host, 0)

    def _choose(self, ct: NfConn, current: bytes, wanted: Range, rule: NatRule, rules: Ruleset) -> bytes:
        """A free outer endpoint: one address a source (paired), its own port if it is free."""
        if rule.port_block:
            return BlockChoice(self.blocks, self.ports, ct, current, wanted, rule, rules, self).choose()
        own = tuples.l4src(current)
        t = tuples.with_src(current, wanted.pick(tuples.src(current), b""), own)
        low, high = (wanted.port_low, wanted.port_high) if wanted.has_ports else port_class(own)
        if low <= own <= high and not wanted.random and self.suits(t, ct, rules):
            return t
        found = b""
        if rule.independent is not None and rule.independent.parity:
            found = self._search(t, low + ((low ^ own) & 1), high, 2, ct, rules)
        return found or self._search(t, low, high, 1, ct, rules)

    def _search(self, t: bytes, low: int, high: int, step: int, ct: NfConn, rules: Ruleset) -> bytes:
        size = (high - low) // step + 1
        address = tuples.src(t)
        at = 0
        for tries in range(min(size * 2, RANDOM_TRIES) + min(size, SWEEP)):
            at = self.ports.randomness.below(size) if tries < min(size * 2, RANDOM_TRIES) else (at + 1) % size
            t = tuples.with_src(t, address, low + at * step)
            if self.suits(t, ct, rules):
                return t
        return b""

    def suits(self, t: bytes, ct: NfConn, rules: Ruleset) -> bool:
        """Whether no mapping, connection, destination rule or service of the router uses the outer endpoint."""
        address, port = tuples.src(t), tuples.l4src(t)
        if tuples.source_key(t) in self.by_outer or self.usage.in_use(address, tuples.protonum(t), port):
            return False
        if self.ports.bound.has(tuples.protonum(t), address, port) or self.ports.used(t, ct):
            return False
        back = inverted(t, ct.l4proto)
        for link in self.interfaces.local.get(address, ()):
            rule = rules.destination(info_of(ct, back), link)
            if rule is not None and rule.match.dport is not None:
                return False
        return True

    def add(self, inside: bytes, outer: bytes, rule: NatRule, length: int) -> Mapping:
        """A new mapping. length: of an address."""
        mapping = Mapping(inside, outer, rule, length)
        self.by_inside[inside + mapping.pool] = mapping
        self.by_outer[outer] = mapping
        if self.blocks.active:
            mapping.block = self.blocks.hold_mapping(inside, outer, length)
        self.count += 1
        self.allocated += 1
        host = inside[: mapping.length]
        self.hosts[host] = self.hosts.get(host, 0) + 1
        return mapping

    # --- from outside -------------------------------------------------------------------------------

    def destination(self, ct: NfConn, current: bytes, now: int) -> Mapping | None:
        """The mapping to which a first packet from outside is addressed; attached to ct if it may use it.

        What may not is to be dropped: a connection with the router would take the tuple that the inside host needs
        when it calls the sender.
        """
        mapping = self.by_outer.get(tuples.destination_key(current, False))
        if mapping is None:
            return None
        rule = mapping.rule
        policy = rule.independent if rule is not None else None
        if rule is None or policy is None:
            self.filtered += 1
            return mapping
        inside = self.from_inside(rule, ct)
        if inside and not policy.hairpin:
            return None
        self._answered(mapping, now)
        alive = mapping.holding > 0 or now < mapping.until
        if alive and (inside or _admits(mapping, policy, tuples.src(current))):
            self.attach(ct, mapping, MANIP_DST)
            mapping.latest = ct
            self.inbound += 1
        else:
            self.filtered += 1
        return mapping

    def _answered(self, mapping: Mapping, now: int) -> None:
        """The inside host has answered the last connection from outside: that is use from inside."""
        latest = mapping.latest
        if latest is not None and latest.status & IPS_SEEN_REPLY:
            self._extend(mapping, now)

    def from_inside(self, rule: NatRule, ct: NfConn) -> bool:
        """Whether ct comes from where the sources of this rule are, not from where its packets leave."""
        wanted = rule.match
        if wanted.out_interface is not None:
            return not rule.leaves_by(self.interfaces.name(ct.iif))
        return wanted.source is not None and wanted.source.has(tuples.src(ct.original))

    def hairpin(self, ct: NfConn) -> Mapping | None:
        """The mapping that translated the destination of ct, if ct is from inside: its source needs a mapping too."""
        mapping = self.of(ct, MANIP_DST)
        if mapping is None or mapping.rule is None or mapping.rule.independent is None:
            return None
        return mapping if mapping.rule.independent.hairpin and self.from_inside(mapping.rule, ct) else None

    def outer_range(self, mapping: Mapping, current: bytes) -> Range:
        """The range of the rule of a mapping, for another source; MASQUERADE: its own address."""
        own = mapping.address
        if mapping.rule is None:
            return Range(own, own)
        if mapping.rule.deterministic:
            return range_of(mapping.rule, self.interfaces, 0, current)
        to = mapping.rule.to
        return to if to.low else Range(own, own, to.port_low, to.port_high, to.random)

    # --- connections and time -----------------------------------------------------------------------

    def of(self, ct: NfConn, manip: int) -> Mapping | None:
        at = 2 * ct.slot + manip
        return self.attached[at] if at < len(self.attached) else None

    def attach(self, ct: NfConn, mapping: Mapping, manip: int) -> None:
        """From now on, until `detach`, the mapping translates the source or the destination of ct."""
        while len(self.attached) <= 2 * ct.slot + 1:
            self.attached.append(None)
        self.attached[2 * ct.slot + manip] = mapping
        self.resting.pop(mapping.outer, None)
        mapping.connections += 1
        if manip == MANIP_SRC:
            mapping.holding += 1
            self._count_peer(mapping, tuples.src(ct.reply), 1)

    def detach(self, ct: NfConn) -> None:
        """ct has ended."""
        mapping = self.of(ct, MANIP_SRC)
        if mapping is not None:
            self._count_peer(mapping, tuples.src(ct.reply), -1)
            mapping.holding -= 1
            self._extend(mapping, _ended(ct))
            self._leave(ct, mapping, MANIP_SRC)
        mapping = self.of(ct, MANIP_DST)
        if mapping is not None:
            if ct.status & IPS_SEEN_REPLY:
                self._extend(mapping, _ended(ct))
            if mapping.latest is ct:
                mapping.latest = None
            self._leave(ct, mapping, MANIP_DST)

    def _leave(self, ct: NfConn, mapping: Mapping, manip: int) -> None:
        self.attached[2 * ct.slot + manip] = None
        mapping.connections -= 1
        if not mapping.connections:
            self.resting[mapping.outer] = mapping

    def _extend(self, mapping: Mapping, now: int) -> None:
        if mapping.until < now + self.lifetime:
            mapping.until = now + self.lifetime

    def _count_peer(self, mapping: Mapping, address: bytes, more: int) -> None:
        rule = mapping.rule
        if more < 0 and not mapping.peers:
            return
        if more > 0 and (rule is None or rule.independent is None or rule.independent.filtering != FILTER_ADDRESS):
            return
        count = mapping.peers.get(address, 0) + more
        if count > 0:
            mapping.peers[address] = count
        else:
            mapping.peers.pop(address, None)

    def expire(self, now: int, budget: int) -> None:
        """Delete mappings whose endpoint has rested, oldest first, then blocks."""
        left = budget
        while self.resting and left > 0:
            left -= 1
            outer = next(iter(self.resting))
            mapping = self.resting[outer]
            if mapping.until + self.rest > now:
                break
            del self.resting[outer]
            self._remove(mapping)
        self.blocks.expire(now, budget)

    def next_expiry(self) -> int:
        for mapping in self.resting.values():
            return min(mapping.until + self.rest, self.blocks.next_expiry())
        return self.blocks.next_expiry()

    def _remove(self, mapping: Mapping) -> None:
        if mapping.block is not None:
            self.blocks.release_mapping(mapping.block, mapping.outer, mapping.length)
        self.by_inside.discard(mapping.inside + mapping.pool, mapping)
        self.by_outer.discard(mapping.outer, mapping)
        self.count -= 1
        host = mapping.inside[: mapping.length]
        left = self.hosts[host] - 1
        if left:
            self.hosts[host] = left
        else:
            del self.hosts[host]

    def replace_rules(self, rules: list[NatRule]) -> None:
        """Each mapping goes on under the first rule that could have made it, each holder of a block under its rules."""
        makers = [rule for rule in rules if rule.independent is not None]
        for mapping in [mapping for _, mapping in self.by_outer.items()]:
            mapping.rule = None
            for rule in makers:
                if _could_make(rule, mapping):
                    mapping.rule = rule
                    break
        former = self.blocks.replace_rules(rules)
        if former is not None:
            self.blocks.claim(self.ports.table.slots)
            for mapping in [mapping for part in self.by_outer.parts for mapping in part.values()]:
                mapping.block = self.blocks.hold_mapping(mapping.inside, mapping.outer, mapping.length)
            self.blocks.settle(former)


def _could_make(rule: NatRule, mapping: Mapping) -> bool:
    match = rule.match
    if pool_of(rule, mapping.address) != mapping.pool or not match.fits_protocol(mapping.protonum):
        return False
    return match.source is None or match.source.has(mapping.inside[: mapping.length])


def _admits(mapping: Mapping, policy: Independent, address: bytes) -> bool:
    if policy.filtering == FILTER_ADDRESS:
        return address in mapping.peers
    return policy.filtering == FILTER_NONE


def _ended(ct: NfConn) -> int:
    """When ct ended, in ms; the sweep may be late."""
    return ct.timeout if ct.status & IPS_CONFIRMED and ct.timeout < ct.due else ct.due


def independent(rule: NatRule | None, ct: NfConn) -> bool:
    """Whether the rule gives the source of ct a mapping. The router's own connections get none, as in the kernel."""
    if rule is None or rule.independent is None or not ct.iif:
        return False
    return tuples.protonum(ct.original) in (IPPROTO_TCP, IPPROTO_UDP)


def port_of(key: bytes, length: int) -> int:
    """The port in a source_key or destination_key with an address of this length."""
    return key[length] << 8 | key[length + 1]


def pool_of(rule: NatRule, address: bytes) -> bytes:
    """What tells the outer ranges of one inside endpoint apart: the first address and port."""
    return (rule.to.low or address) + rule.to.port_low.to_bytes(2, "big")
