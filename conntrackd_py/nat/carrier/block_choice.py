"""Choosing a port in the blocks of a host, or in a new block.

In this order: the inside port, if a block of the host has it; an unused port of its blocks, at random; one of a new
block; with endpoint-dependent mapping, a port in use for another destination. So a port has one holder as long as there
are unused ones.
"""

from typing import Final, final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.const import MANIP_SRC
from conntrackd_py.nat.carrier.block_space import Block, next_bit
from conntrackd_py.nat.carrier.blocks import Blocks, has_port, host_key
from conntrackd_py.nat.ports import Picker, Ports
from conntrackd_py.nat.range import Range
from conntrackd_py.nat.rules import NatRule
from conntrackd_py.nat.ruleset import Ruleset
from conntrackd_py.reasons import BLOCK_LIMIT, NAT_EXHAUSTED

TRIES: Final = 128  # unused ports of a block that are looked at; a service of the router may have one
SHARED_TRIES: Final = 256  # ports in use that are looked at, of all blocks of a host
RELEASES: Final = 64  # blocks released at most before a new one is refused


@final
class BlockChoice:
    """The search for one connection. picker: which tuples suit it."""

    def __init__(
        self,
        blocks: Blocks,
        ports: Ports,
        ct: NfConn,
        current: bytes,
        wanted: Range,
        rule: NatRule,
        rules: Ruleset,
        picker: Picker,
    ) -> None:
        self.blocks = blocks
        self.ports = ports
        self.ct = ct
        self.current = current
        self.wanted = wanted
        self.rule = rule
        self.rules = rules
        self.picker = picker
        self.host = host_key(tuples.src(current), tuples.zone(current))
        self.space = blocks.space(rule, wanted.low)

    def choose(self) -> bytes:
        """A tuple with a port of the host's blocks; empty: `ports.refusal` says why there is none."""
        every = self.space.hosts.get(self.host, [])
        mine = [block for block in every if not block.contested]
        chosen = self._kept(mine)
        for block in mine:
            chosen = chosen or self._unused(block)
        if chosen:
            return chosen
        if len(every) >= self.rule.blocks_per_host:
            self.ports.refusal = BLOCK_LIMIT
        else:
            self.ports.refusal = NAT_EXHAUSTED
            chosen = self._in_new_block()
        return chosen or self._shared(mine)

    def _kept(self, mine: list[Block]) -> bytes:
        own = tuples.l4src(self.current)
        for block in mine:
            if block.low <= own <= block.high and not self.wanted.random:
                t = tuples.with_src(self.current, block.outer, own)
                return t if self._suits(t) else b""
        return b""

    def _unused(self, block: Block) -> bytes:
        unused = block.unused(tuples.protonum(self.current))
        chosen = b""
        if self.rule.independent is not None and self.rule.independent.parity:
            every_second = ((1 << block.size + block.size % 2) - 1) // 3
            same = every_second << ((tuples.l4src(self.current) ^ block.low) & 1)
            chosen = self._picked(block, unused & same)
        return chosen or self._picked(block, unused)

    def _picked(self, block: Block, bits: int) -> bytes:
        """One of these ports, at random."""
        tries = TRIES
        while bits and tries:
            tries -= 1
            bit = next_bit(bits, self.ports.randomness.below(block.size))
            t = tuples.with_src(self.current, block.outer, block.low + bit)
            if self._suits(t):
                return t
            bits &= ~(1 << bit)
        return b""

    def _in_new_block(self) -> bytes:
        space = self.space
        if not space.open:
            self.blocks.expire(self.blocks.now, RELEASES)
        outer, low = space.choose(self.host, self.ports.randomness.below(space.blocks))
        if not outer:
            return b""
        block = Block(outer, low, space.size, self.host, self.rule.label, self.blocks.now)
        chosen = self._kept([block]) or self._unused(block)
        if chosen:
            self.blocks.add(space, block)
        return chosen

    def _shared(self, mine: list[Block]) -> bytes:
        """A port that another connection has, for another destination."""
        for block in mine if self.picker is self.ports else []:
            offset = self.ports.randomness.below(block.size)
            for tried in range(min(block.size, SHARED_TRIES // len(mine))):
                t = tuples.with_src(self.current, block.outer, block.low + (offset + tried) % block.size)
                if self._suits(t):
                    return t
        return b""

    def _suits(self, t: bytes) -> bool:
        return self.picker.suits(t, self.ct, self.rules)


def source(
    blocks: Blocks, ports: Ports, ct: NfConn, current: bytes, wanted: Range, rule: NatRule, rules: Ruleset
) -> bytes:
    """The tuple to translate `current` to, as of Ports.unique, with a port of the blocks of its host."""
    joined = ports.joined(current, wanted, ct)
    if joined:
        return joined
    host = host_key(tuples.src(current), tuples.zone(current))
    if not has_port(ct):
        mine = blocks.space(rule, wanted.low).hosts.get(host)
        address = mine[0].outer if mine else wanted.pick(tuples.src(current), b"")
        return ports.unique(current, Range(address, address), ct, MANIP_SRC)
    if not wanted.random:
        mapped = ports.same_mapping(current, wanted, ct)
        block = blocks.at(tuples.src(mapped), tuples.l4src(mapped)) if mapped else None
        if block is not None and block.host == host and not block.contested:
            return mapped
    return BlockChoice(blocks, ports, ct, current, wanted, rule, rules, ports).choose()
