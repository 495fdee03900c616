"""Choosing the translated tuple: unique among all connections, as close to the original as the rule allows.

The kernel's order (get_unique_tuple): the unchanged tuple; a mapping that this source already has; an address by
hash; the same port; then a search of the port range from a random offset, in shrinking windows, with an upper bound.
"""

from abc import ABC, abstractmethod
from typing import Final, final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import L4Proto, NfConn
from conntrackd_py.conntrack.randomness import Randomness
from conntrackd_py.conntrack.table import Table
from conntrackd_py.const import ICMP_PROTOCOLS, MANIP_DST, MANIP_SRC
from conntrackd_py.nat.binding import inverted
from conntrackd_py.nat.interfaces import Interfaces
from conntrackd_py.nat.range import Range
from conntrackd_py.nat.ruleset import Ruleset
from conntrackd_py.nat.usage.bound_ports import BoundPorts
from conntrackd_py.nat.usage.mappings import Mappings
from conntrackd_py.reasons import NAT_EXHAUSTED

ATTEMPTS: Final = 128
LEAST_ATTEMPTS: Final = 16


class Picker(ABC):
    @abstractmethod
    def suits(self, t: bytes, ct: NfConn, rules: Ruleset) -> bool:
        """Whether the new connection ct may have the outer endpoint that is the source of t."""


@final
class Ports(Picker):
    """Finds free tuples, and keeps the mappings of each source that changed its address or port."""

    def __init__(self, table: Table, randomness: Randomness, interfaces: Interfaces | None = None) -> None:
        self.table = table
        self.bound = BoundPorts(interfaces or Interfaces())
        self.randomness = randomness
        self.mappings = Mappings()
        self.refusal = NAT_EXHAUSTED  # why no tuple was found for the last source

    def used(self, t: bytes, ct: NfConn) -> bool:
        return self.table.taken(inverted(t, ct.l4proto), ct)

    def free(self, t: bytes, wanted: Range, ct: NfConn, manip: int) -> bool:
        """Whether no connection uses t and, for a forwarded source, no socket of the router holds its port."""
        if self.used(t, ct):
            return False
        if manip != MANIP_SRC or not ct.iif or (wanted.has_ports and wanted.port_low == wanted.port_high):
            return True
        return not self.bound.has(tuples.protonum(t), tuples.src(t), tuples.l4src(t))

    def suits(self, t: bytes, ct: NfConn, rules: Ruleset) -> bool:
        return not self.used(t, ct) and not self.bound.has(tuples.protonum(t), tuples.src(t), tuples.l4src(t))

    def unique(self, current: bytes, wanted: Range, ct: NfConn, manip: int) -> bytes:
        """The tuple to translate `current` to; empty when the range is exhausted.

        A destination is never refused: the source binding resolves a collision.
        """
        if manip == MANIP_SRC:
            joined = self.joined(current, wanted, ct)
            if joined:
                return joined
        if manip == MANIP_SRC and not wanted.random:
            if wanted.holds(tuples.src(current), tuples.l4src(current)):
                if not self.used(current, ct):
                    return current
            else:
                mapped = self.same_mapping(current, wanted, ct)
                if mapped:
                    return mapped
        t = self._with_address(current, wanted, manip)
        if not wanted.random and self._keeps_port(t, wanted, ct, manip):
            return t
        return self._search(t, wanted, ct, manip)

    def _with_address(self, current: bytes, wanted: Range, manip: int) -> bytes:
        source = tuples.src(current)
        address = wanted.pick(source, tuples.dst(current))
        if manip == MANIP_SRC:
            return tuples.with_src(current, address, tuples.l4src(current))
        return tuples.with_dst(current, address, tuples.l4(current))

    def _keeps_port(self, t: bytes, wanted: Range, ct: NfConn, manip: int) -> bool:
        if not wanted.has_ports:
            return self.free(t, wanted, ct, manip)
        port = choosable(t, ct.l4proto, manip)
        if wanted.base or not wanted.port_low <= port <= wanted.port_high:
            return False
        return wanted.port_low == wanted.port_high or self.free(t, wanted, ct, manip)

    def _search(self, t: bytes, wanted: Range, ct: NfConn, manip: int) -> bytes:
        l4proto = ct.l4proto
        query = l4proto.protonum in ICMP_PROTOCOLS
        if not l4proto.ports and not query:
            return t if manip == MANIP_DST or not self.used(t, ct) else b""
        if wanted.has_ports:
            low, high = wanted.port_low, wanted.port_high
        elif manip == MANIP_DST:
            return t
        else:
            low, high = (0, 65535) if query else port_class(tuples.l4src(t))
        size = high - low + 1
        offset = 0 if manip == MANIP_DST and not wanted.random else self.randomness.below(65536)
        if wanted.base:
            offset = choosable(t, l4proto, manip) - wanted.base & 0xFFFF
        attempts = min(size, ATTEMPTS)
        while True:
            for i in range(attempts):
                t = with_choice(t, l4proto, manip, low + (offset + i) % size)
                if self.free(t, wanted, ct, manip):
                    return t
            if attempts >= size or attempts < LEAST_ATTEMPTS:
                return t if manip == MANIP_DST else b""
            attempts //= 2
            offset = self.randomness.below(65536)

    def joined(self, current: bytes, wanted: Range, ct: NfConn) -> bytes:
        """The source mapping of the confirmed connection with ct's original tuple; empty if there is none.

        Both ends sent a first packet. At confirm ct joins that connection; another port would split it in two.
        """
        other = self.table.find(ct.original)
        if other is None:
            return b""
        answer = other.reply if other.original == ct.original else other.original
        t = tuples.with_src(current, tuples.dst(answer), answering(answer, ct.l4proto))
        if not wanted.holds(tuples.src(t), tuples.l4src(t)):
            return b""
        return t if tuples.bare(inverted(t, ct.l4proto)) == tuples.bare(answer) else b""

    def same_mapping(self, current: bytes, wanted: Range, ct: NfConn) -> bytes:
        """The mapping of another connection of this source, if the range holds it and it is free."""
        for mapping in self.mappings.of(tuples.source_key(current), tuples.address_length(current)):
            address, port = mapping[:-2], int.from_bytes(mapping[-2:], "big")
            if wanted.holds(address, port):
                t = tuples.with_src(current, address, port)
                if self.free(t, wanted, ct, MANIP_SRC):
                    return t
        return b""

    def keep_mapping(self, ct: NfConn, wanted: Range) -> None:
        """Keep a source mapping for `same_mapping`, if it may serve another connection of its source."""
        if wanted.low == wanted.high and answer_port(ct) == tuples.l4src(ct.original):
            return
        self.remember(ct)

    def remember(self, ct: NfConn) -> None:
        ct.remembered = self.mappings.add(tuples.source_key(ct.original), mapping_of(ct))

    def drop_mapping(self, ct: NfConn) -> None:
        if ct.remembered:
            ct.remembered = False
            self.mappings.remove(tuples.source_key(ct.original), mapping_of(ct))


def mapping_of(ct: NfConn) -> bytes:
    """Address and port (or id) that the source was mapped to."""
    return tuples.dst(ct.reply) + answer_port(ct).to_bytes(2, "big")


def answer_port(ct: NfConn) -> int:
    """The port (or id) that the source was mapped to: the destination of answers."""
    return answering(ct.reply, ct.l4proto)


def answering(answer: bytes, l4proto: L4Proto) -> int:
    """The destination port (or id) of an answer."""
    return tuples.l4dst(answer) if l4proto.ports else tuples.l4src(answer)


def choosable(t: bytes, l4proto: L4Proto, manip: int) -> int:
    """The port or ICMP id that this manip may change."""
    return tuples.l4dst(t) if l4proto.ports and manip == MANIP_DST else tuples.l4src(t)


def with_choice(t: bytes, l4proto: L4Proto, manip: int, value: int) -> bytes:
    """t with that port or id replaced."""
    if l4proto.ports and manip == MANIP_DST:
        return tuples.with_dst(t, tuples.dst(t), tuples.l4(t)[:2] + value.to_bytes(2, "big"))
    return tuples.with_src(t, tuples.src(t), value)


def port_class(port: int) -> tuple[int, int]:
    """The range for a port: a privileged port stays privileged, because some services require it of clients."""
    if port < 512:
        return 1, 511
    return (600, 1023) if port < 1024 else (1024, 65535)
