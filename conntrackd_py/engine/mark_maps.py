"""Translation by mark: the kernel rewrites packets of chosen connections, the daemon judges them and sets the mark.

A map of the kernel leads from the mark's field (valid, ctinfo, slot) to an address, another one to a port. The kernel
looks up the field after the first visit (destination) and after the last visit (source). Only ESTABLISHED packets of
forwarded TCP and UDP connections are rewritten so.

- The elements of a connection are in the kernel before the verdict on a packet that depends on them.
- They stay until the slot of the connection is released. So every packet that carries the mark finds them, and a
  connection that gets the slot later never does. The end of a connection changes nothing: its later packets belong to
  another slot.
- A packet that the daemon rewrites in spite of the maps gets the same values twice.
- A connection also has elements that spare its packets the second visit: the kernel translates their source before the
  queue (kernel/maps/flows.py). They are used only while no rule must see forwarded packets (`spare`).
- A connection of small packets gets elements after AFTER packets that the daemon rewrote. They are added at a first
  visit: then no packet of this connection waits for its second visit, and none is overtaken.
- The bit "last visit done" of a packet whose source the kernel rewrites is set by the kernel, with the source. Without
  an element the packet has no such bit, and the leak table drops it.
- UDP without a checksum is rewritten by the daemon: the kernel would give it one, a wrong one.
"""

import sys
from abc import ABC, abstractmethod
from typing import Final, NamedTuple, final

from mypy_extensions import mypyc_attr

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.core import Conntrack
from conntrackd_py.conntrack.skb import Skb, forwarded
from conntrackd_py.const import (
    IP_CT_ESTABLISHED,
    IP_CT_ESTABLISHED_REPLY,
    IPPROTO_TCP,
    IPPROTO_UDP,
    IPS_CONFIRMED,
    IPS_DYING,
    IPS_HELPER,
    IPS_SEQ_ADJUST,
    MANIP_DST,
    MANIP_SRC,
    ORIGINAL,
    POST_ROUTING,
    PRE_ROUTING,
    REPLY,
)
from conntrackd_py.engine.mark_codec import MarkCodec, not_a_field
from conntrackd_py.nat.binding import status_bit
from conntrackd_py.nat.rewrite.rewriter import Rewriter
from conntrackd_py.wire.ip import V6_HEADER
from conntrackd_py.wire.packet import u16

LARGE: Final = 1500  # bytes: a longer packet makes its connection worth the elements
MOST_CONNECTIONS: Final = 16384  # with elements at once
MOST_AT_ONCE: Final = 128  # connections that get elements in one transaction
MOST_SMALL_CONNECTIONS: Final = MOST_CONNECTIONS * 3 // 4  # the others are for connections with large packets
MOST_SMALL: Final = 64  # connections of small packets that wait for a transaction
PAUSE: Final = 50  # ms between two transactions: each makes programs that list a ruleset begin again
AFTER: Final = 8  # packets that the daemon rewrote, before a connection without large ones gets elements
INTERFACE: Final = 4  # bytes of an index

FLOWS: Final = "flows"
LEAVES: Final = "leaves"
SOURCES: Final = "sources"


class Element(NamedTuple):
    """An element of the map or set of this name and family.

    saddr, daddr, sport, dport: mark -> value. leaves: mark and value, the index of an interface in host order,
    addresses and a port; it spares the second visit. sources: mark and value, the address that may leave with it.
    flows: value, a tuple -> mark (offload.py).
    """

    family: int  # 4 or 6
    map: str
    mark: int
    value: bytes


@mypyc_attr(allow_interpreted_subclasses=True)  # kernel/maps is not compiled
class Maps(ABC):
    """The maps in the kernel. Each call is one transaction, done when it returns."""

    @abstractmethod
    def add(self, elements: list[Element]) -> bool:
        """False: none was added."""

    @abstractmethod
    def delete(self, elements: list[Element]) -> bool:
        """False: the state of the maps is unknown."""

    @abstractmethod
    def delete_counted(self, elements: list[Element]) -> list[int]:
        """Delete elements. For each element of `flows`, in their order: packets, bytes. Empty: state unknown."""

    @abstractmethod
    def counters(self, elements: list[Element]) -> list[int]:
        """The same of elements of `flows` that stay."""

    @abstractmethod
    def recognise(self, on: bool) -> bool:
        """Whether the kernel looks packets up in `flows`, from now on. False: state unknown."""

    @abstractmethod
    def spare(self, on: bool) -> bool:
        """Whether packets in `leaves` are spared the second visit, from now on. False: state unknown."""

    @abstractmethod
    def close(self) -> None:
        """Remove the maps with all elements."""


@final
class MarkMaps(Rewriter):
    def __init__(self, core: Conntrack, codec: MarkCodec) -> None:
        self.core = core
        self.codec = codec
        self.maps: Maps | None = None  # None: the daemon rewrites every packet
        self.mapped: dict[int, list[Element]] = {}  # by slot
        self.released_slots: list[int] = []  # whose elements are deleted before a slot is used again
        self.waiting: dict[int, NfConn] = {}  # connections that get elements with the next transaction, by slot
        self.next_at = 0  # ms: no transaction before
        self.sparing = True  # no rule must see forwarded packets
        self.small = True  # connections of small packets get elements too
        self.total = 0  # connections that got elements
        self.refused = 0  # connections that did not: too many, or the kernel refused
        self.failed = False
        core.extensions.append(self)

    def attach(self, maps: Maps) -> None:
        """Use these maps, in which nothing was changed yet."""
        self.maps = maps
        if not self.sparing:
            self.failed = not maps.spare(False)

    def spare(self, on: bool) -> None:
        """Whether the second visit of a packet that the kernel translates may be spared: from now on."""
        if on == self.sparing:
            return
        self.sparing = on
        if self.maps is not None and not self.maps.spare(on):
            self.failed = True

    def takes(self, skb: Skb, ct: NfConn, now: int) -> bool:
        if self.maps is None or not self._possible(skb, ct):
            return False
        if skb.hook == POST_ROUTING and skb.mark & self.codec.mask != self.codec.field(ct.slot, skb.ctinfo):
            return False  # another rule overwrote the mark
        if ct.slot not in self.mapped and not (skb.length > LARGE and self.put(ct, now)):
            self._count(ct)
            return False
        skb.by_mark = True
        return True

    def _count(self, ct: NfConn) -> None:
        """Count a packet that the daemon rewrites; maybe ct gets elements at a first visit."""
        if not self.small or not self.sparing or self.failed:
            return
        ct.visits += 1
        if ct.visits < AFTER:
            return
        ct.visits = 0
        if not self.mappable(ct):
            return
        if len(self.waiting) >= MOST_SMALL or len(self.mapped) + MOST_AT_ONCE > MOST_SMALL_CONNECTIONS:
            self.refused += 1  # its next packets try again
            return
        self.waiting[ct.slot] = ct

    def first_visit(self, now: int) -> None:
        """Between two first visits: the connections that wait get their elements."""
        if self.maps is not None and not self.failed and now >= self.next_at:
            self._put_waiting(self.maps, now)

    def _possible(self, skb: Skb, ct: NfConn) -> bool:
        if skb.ctinfo not in (IP_CT_ESTABLISHED, IP_CT_ESTABLISHED_REPLY):
            return False
        if not (skb.hook == PRE_ROUTING or (skb.hook == POST_ROUTING and forwarded(skb))):
            return False
        return rewritable(skb)

    def put(self, ct: NfConn, now: int) -> bool:
        """Give ct its elements; False if it gets none now."""
        if ct.slot in self.mapped:
            return True
        if self.maps is None or self.failed or not self.mappable(ct):
            return False
        if now < self.next_at or len(self.mapped) + MOST_AT_ONCE > MOST_CONNECTIONS:
            self.refused += 1
            if len(self.waiting) + 1 < MOST_AT_ONCE:
                self.waiting[ct.slot] = ct
            return False
        self.waiting[ct.slot] = ct
        return self._put_waiting(self.maps, now)

    def _put_waiting(self, maps: Maps, now: int) -> bool:
        waiting: list[NfConn] = []
        for slot, ct in self.waiting.items():
            if self.core.table.at(slot) is ct and slot not in self.mapped and self.mappable(ct):
                waiting.append(ct)
        self.waiting.clear()
        if not waiting:
            return False
        self.next_at = now + PAUSE
        found = [self.elements(ct) for ct in waiting]
        if not maps.add([element for elements in found for element in elements]):
            self.refused += 1
            self.failed = True  # until `settle`: packets whose verdict is not sent yet may need the other elements
            return False
        for at, ct in enumerate(waiting):
            self.keep(ct, found[at])
        return True

    def mappable(self, ct: NfConn) -> bool:
        """Whether the kernel can rewrite its packets."""
        if ct.status & (IPS_CONFIRMED | IPS_DYING | IPS_HELPER | IPS_SEQ_ADJUST) != IPS_CONFIRMED or ct.source_early:
            return False  # a helper needs whole packets
        return ct.iif > 0 and ct.oif > 0 and ct.slot + 1 < self.codec.slots  # forwarded, and the mark holds the slot

    def keep(self, ct: NfConn, elements: list[Element]) -> None:
        """ct has got these elements."""
        self.mapped[ct.slot] = elements
        self.total += 1

    def elements(self, ct: NfConn) -> list[Element]:
        found: list[Element] = []
        flip = not_a_field(self.codec.mask)  # valid off, done on
        for direction, ctinfo in ((ORIGINAL, IP_CT_ESTABLISHED), (REPLY, IP_CT_ESTABLISHED_REPLY)):
            mark = self.codec.field(ct.slot, ctinfo)
            mine, other = ct.tuple(direction), ct.tuple(1 - direction)
            family = 4 if tuples.address_length(mine) == 4 else 6
            interface: int = ct.oif if direction == ORIGINAL else ct.iif
            found.append(Element(family, LEAVES, mark, leaving(interface, tuples.routed(mine, other))))
            found.append(Element(family, SOURCES, mark ^ flip, tuples.dst(other)))
            if ct.status & status_bit(MANIP_SRC, direction):
                found.append(Element(family, "saddr", mark, tuples.dst(other)))
                if tuples.l4src(mine) != tuples.l4dst(other):
                    found.append(Element(family, "sport", mark, tuples.l4(other)[2:]))
            if ct.status & status_bit(MANIP_DST, direction):
                found.append(Element(family, "daddr", mark, tuples.src(other)))
                if tuples.l4dst(mine) != tuples.l4src(other):
                    found.append(Element(family, "dport", mark, tuples.l4(other)[:2]))
        return found

    def destroyed(self, ct: NfConn) -> None:
        """Its elements stay: packets of ct may still carry its mark."""

    def released(self, ct: NfConn) -> None:
        if ct.slot in self.mapped:
            self.released_slots.append(ct.slot)

    def settle(self) -> None:
        """Delete the elements of released slots. Between two packets that are handled: no verdict waits to be sent."""
        if self.released_slots and self.maps is not None:
            gone: list[Element] = []
            for slot in self.released_slots:
                gone += self.mapped.pop(slot)
            self.released_slots.clear()
            if not self.maps.delete(gone):
                self.failed = True
        if self.failed:
            self.close()

    def close(self) -> None:
        """The daemon rewrites every packet from now on."""
        if self.maps is not None:
            self.maps.close()
            self.maps = None
        self.mapped.clear()
        self.waiting.clear()
        self.released_slots.clear()


def leaving(interface: int, t: bytes) -> bytes:
    """The value of an element of `leaves`. t: the tuple before the source is translated."""
    return interface.to_bytes(INTERFACE, sys.byteorder) + tuples.src(t) + tuples.dst(t) + tuples.l4(t)[:2]


def rewritable(skb: Skb) -> bool:
    """Whether the kernel rewrites addresses and ports of this packet right."""
    if skb.version == 6 and skb.dataoff != V6_HEADER:
        return False  # nftables may see another header behind the extensions
    if skb.protonum == IPPROTO_UDP:
        return skb.dataoff + 8 <= skb.end and u16(skb.data, skb.dataoff + 6) != 0
    return skb.protonum == IPPROTO_TCP and skb.dataoff + 20 <= skb.end
