"""Port blocks: each inside address has outer ports of its own, in blocks (RFC 6888, requirement 14; RFC 7422 2).

For SNAT and MASQUERADE rules with `port_block`. The engine's blocks are `engine.nat.blocks`.

- A block has one host: an inside address, in the zone of its answers. It serves all protocols with ports, and ICMP
  identifiers.
- Connections and mappings hold a block, and nothing else says whose it is. So it is the same after a restart. A block
  that two hosts hold, after a change of rules, is contested: nobody gets a port of it until it is empty.
- An empty block rests for `rest` ms. Meanwhile its host may use it again.
- The router's own connections have no block.
- Bound: the blocks of the outer ranges.
"""

from collections import OrderedDict
from typing import Final, final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.split_dict import SplitDict
from conntrackd_py.const import (
    ICMP_PROTOCOLS,
    IPS_CONFIRMED,
    IPS_DST_NAT,
    IPS_DYING,
    IPS_EXPECTED,
    IPS_SRC_NAT,
)
from conntrackd_py.nat.binding import leads_to
from conntrackd_py.nat.carrier.block_space import Block, Space
from conntrackd_py.nat.interfaces import Interfaces
from conntrackd_py.nat.ports import mapping_of
from conntrackd_py.nat.rules import NAT_MASQUERADE, NatRule

MOST_EVENTS: Final = 65_536
NEVER: Final = 1 << 62


@final
class BlockEvent:
    """A block was allocated or released. inside, outer: 4 or 16 bytes; low, high: its first and last port.

    label: of the rule, for example `nat[2]`; empty if no rule allocated it. when: engine time, in ms.
    """

    def __init__(
        self, allocated: bool, inside: bytes, outer: bytes, low: int, high: int, label: str, when: int
    ) -> None:
        self.allocated = allocated
        self.inside = inside
        self.outer = outer
        self.low = low
        self.high = high
        self.label = label
        self.when = when


@final
class Blocks:
    """All blocks of all rules. While `recording`, each change is an event, MOST_EVENTS at most between two drains."""

    def __init__(self, interfaces: Interfaces) -> None:
        self.interfaces = interfaces
        self.rest = 0  # ms
        self.now = 0
        self.active = False  # a rule has blocks
        self.idle = False  # the rules are not applied: the kernel translates, or nobody
        self.rules: list[NatRule] = []  # with blocks
        self.ranges: list[Space] = []  # of SNAT rules
        self.addresses: dict[bytes, Space] = {}  # of MASQUERADE rules, by outer address, while it has blocks
        self.by_place: SplitDict[Block] = SplitDict()  # outer address and first port
        self.resting: OrderedDict[bytes, Block] = OrderedDict()  # without holders, by place
        self.attached: list[Block | None] = []  # by slot of a connection
        self.outers: list[bytes] = []  # likewise: which outer address and port of the block it holds
        self.conflicts = 0  # blocks that became contested
        self.changing = False  # the rules change: `settle` records what comes of it
        self.recording = False
        self.events: list[BlockEvent] = []
        self.events_lost = 0  # not recorded: `events` was full

    # --- holders ---------------------------------------------------------------------------------------

    def of(self, ct: NfConn) -> Block | None:
        return self.attached[ct.slot] if ct.slot < len(self.attached) else None

    def hold(self, ct: NfConn) -> None:
        """ct has its outer port from now on, until `release`."""
        outer = outer_of(ct)
        if not outer or self.of(ct) is not None:
            return
        inside = ct.original if ct.status & IPS_SRC_NAT else ct.reply
        block = self._enter(outer, host_key(tuples.src(inside), tuples.zone(ct.reply)), ct.born)
        if block is None:
            return
        while len(self.attached) <= ct.slot:
            self.attached.append(None)
            self.outers.append(b"")
        self.attached[ct.slot], self.outers[ct.slot] = block, outer
        block.add(tuples.protonum(ct.original), port_in(outer))

    def release(self, ct: NfConn) -> None:
        """ct has ended."""
        block = self.of(ct)
        if block is not None:
            self.attached[ct.slot] = None
            ended = ct.timeout if ct.status & IPS_CONFIRMED and ct.timeout < ct.due else ct.due
            self._leave(block, tuples.protonum(ct.original), port_in(self.outers[ct.slot]), ended + self.rest)

    def hold_mapping(self, inside: bytes, outer: bytes, length: int) -> Block | None:
        """A mapping has its outer endpoint from now on. inside, outer, length: as in nat.mapping."""
        zone = int.from_bytes(inside[length + 3 :], "big")
        block = self._enter(outer[: length + 2], host_key(inside[:length], zone), self.now)
        if block is not None:
            block.add(outer[length + 2], port_in(outer[: length + 2]))
        return block

    def release_mapping(self, block: Block, outer: bytes, length: int) -> None:
        """A mapping has rested."""
        self._leave(block, outer[length + 2], port_in(outer[: length + 2]), self.now)

    def _enter(self, outer: bytes, host: bytes, since: int) -> Block | None:
        """The block with this outer address and port, which a connection of this host holds; None: no space has it."""
        address, port = outer[:-2], port_in(outer)
        space = self.find(address, port)
        if space is None:
            return None
        place = place_of(address, space.block_at(port))
        block = self.by_place.get(place)
        if block is None:
            block = Block(address, space.block_at(port), space.size, host, self._label(address, port), since)
            self.add(space, block)
        elif block.host != host and not block.contested:
            block.contested = True
            self.conflicts += 1
        self.resting.pop(place, None)
        block.since = min(block.since, since)
        return block

    def _leave(self, block: Block, protonum: int, port: int, until: int) -> None:
        block.remove(protonum, port)
        block.until = max(block.until, until)
        if not block.counts:
            self.resting[place_of(block.outer, block.low)] = block

    def at(self, address: bytes, port: int) -> Block | None:
        """The block that has this outer port."""
        space = self.find(address, port)
        return self.by_place.get(place_of(address, space.block_at(port))) if space is not None else None

    # --- blocks ----------------------------------------------------------------------------------------

    def add(self, space: Space, block: Block) -> None:
        """A new block, allocated to its host."""
        if space not in self.ranges:
            self.addresses[block.outer] = space
        self.by_place[place_of(block.outer, block.low)] = block
        space.take(block)
        self._record(True, block)

    def expire(self, now: int, budget: int) -> None:
        """Release blocks that have rested, oldest first."""
        self.now = now
        while self.resting and budget > 0:
            budget -= 1
            place = next(iter(self.resting))
            block = self.resting[place]
            if block.until > now:
                return
            del self.resting[place], self.by_place[place]
            space = self.find(block.outer, block.low)
            if space is not None:
                space.free(block)
                if not space.allocated:
                    self.addresses.pop(block.outer, None)
            self._record(False, block)

    def next_expiry(self) -> int:
        for block in self.resting.values():
            return block.until
        return NEVER

    def _record(self, allocated: bool, block: Block) -> None:
        if not self.recording or self.changing:
            return
        if len(self.events) >= MOST_EVENTS:
            self.events_lost += 1
            return
        event = BlockEvent(allocated, block.inside, block.outer, block.low, block.high, block.label, self.now)
        self.events.append(event)

    def drain_events(self) -> list[BlockEvent]:
        """The events since the last call, oldest first."""
        events, self.events = self.events, []
        return events

    # --- rules -----------------------------------------------------------------------------------------

    def replace_rules(self, rules: list[NatRule]) -> list[Block] | None:
        """Use the ranges of these source rules. None: they are the same.

        Otherwise every block is forgotten: enter all holders again, then `settle` with what is returned.
        """
        before = [_form(rule) for rule in self.rules]
        self.rules = [rule for rule in rules if rule.port_block]
        if before == [_form(rule) for rule in self.rules]:
            return None
        former = [block for _, block in self.by_place.items()]
        self.by_place, self.resting, self.attached, self.outers = SplitDict(), OrderedDict(), [], []
        self.ranges, self.addresses = [], {}
        self.active = len(self.rules) > 0
        self.changing = True
        for rule in self.rules:
            if rule.action != NAT_MASQUERADE and self.find(rule.to.low, rule.to.port_low) is None:
                self.ranges.append(_space(rule, rule.to.low, rule.to.high))
        return former

    def claim(self, slots: list[NfConn | None]) -> None:
        """Enter the connections that hold a port of a block: after a restart, an import or a change of rules."""
        for ct in slots if self.active and not self.idle else []:
            if ct is not None and not ct.status & IPS_DYING:
                self.hold(ct)

    def settle(self, former: list[Block]) -> None:
        """What has the same place and host as before goes on; all else has ended or begun."""
        self.changing = False
        gone = {place_of(block.outer, block.low): block for block in former}
        begun = []
        for place, block in self.by_place.items():
            known = gone.get(place)
            if known is not None and (known.host, known.high) == (block.host, block.high):
                del gone[place]
                block.since, block.label = known.since, known.label
            else:
                begun.append(block)
        for block in gone.values():
            self._record(False, block)
        for block in begun:
            self._record(True, block)

    def spaces_of(self, rule: NatRule) -> list[Space]:
        """The spaces of a rule; of MASQUERADE one for each outer address."""
        if rule.action != NAT_MASQUERADE:
            space = self.find(rule.to.low, rule.to.port_low)
            return [space] if space is not None else []
        own = [address for address in self.interfaces.local if leads_to(rule, self.interfaces, address)]
        return [self.space(rule, address) for address in own]

    def space(self, rule: NatRule, address: bytes) -> Space:
        """The space from which the rule allocates; address: the first of its outer ones."""
        return self.find(address, rule.to.port_low) or _space(rule, address, address)

    def find(self, address: bytes, port: int) -> Space | None:
        """The space that has this outer port."""
        for space in self.ranges:
            if space.holds(address, port):
                return space
        known = self.addresses.get(address)
        if known is None:
            for rule in self.rules:
                if rule.action == NAT_MASQUERADE and leads_to(rule, self.interfaces, address):
                    known = _space(rule, address, address)
                    break
        return known if known is not None and known.holds(address, port) else None

    def _label(self, address: bytes, port: int) -> str:
        """Of the first rule with this outer port."""
        for rule in self.rules:
            if leads_to(rule, self.interfaces, address) and rule.to.port_low <= port <= rule.to.port_high:
                return rule.label
        return ""


def _form(rule: NatRule) -> tuple[int, bytes, bytes, int, int, int]:
    """What its spaces depend on."""
    return rule.action, rule.to.low, rule.to.high, rule.to.port_low, rule.to.port_high, rule.port_block


def _space(rule: NatRule, low: bytes, high: bytes) -> Space:
    addresses = int.from_bytes(high, "big") - int.from_bytes(low, "big") + 1
    return Space(low, addresses, rule.to.port_low, rule.to.port_high, rule.port_block)


def outer_of(ct: NfConn) -> bytes:
    """The outer address and port that ct holds; empty if it holds none.

    The port to which a helper's expected connection came from outside counts, too.
    """
    if not ct.iif or not has_port(ct):
        return b""
    if ct.status & IPS_SRC_NAT:
        return mapping_of(ct)
    if ct.status & (IPS_EXPECTED | IPS_DST_NAT) == IPS_EXPECTED | IPS_DST_NAT:
        return tuples.dst(ct.original) + tuples.l4(ct.original)[2:]
    return b""


def has_port(ct: NfConn) -> bool:
    """Whether NAT may choose a port or an identifier for ct."""
    return ct.l4proto.ports or tuples.protonum(ct.original) in ICMP_PROTOCOLS


def host_key(inside: bytes, zone: int) -> bytes:
    """What has blocks of its own: an inside address in the zone of its answers."""
    return zone.to_bytes(2, "big") + inside


def place_of(address: bytes, low: int) -> bytes:
    return address + low.to_bytes(2, "big")


def port_in(outer: bytes) -> int:
    """The port of an address and port."""
    return outer[-2] << 8 | outer[-1]
