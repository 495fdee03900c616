"""Offload: the kernel forwards the packets of established connections, by tuple, and no queue sees them.

    flows     tuple of an arriving packet -> the mark that its first visit would write; with a counter

- The two elements of a connection are added together and deleted together, in acknowledged transactions. Its elements
  by mark (mark_maps) stay until its slot is released: a packet that the kernel has recognised is translated as long as
  it is under way.
- The connection is the daemon's again before anything about it changes: before it ends, before an operator changes it,
  before the tracker sees a SYN, FIN or RST, before other rules are in force.
- A packet that leaves by another interface than the connection's has no element in `leaves`, so the daemon sees it.
- The counters are read in turns. Packets refresh the timeout when they are read. A timeout that is over is believed
  only after another look at the counters.
"""

from collections import OrderedDict
from typing import Final, final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.core import Conntrack, Extension
from conntrackd_py.conntrack.gc import NEVER
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import (
    IP_CT_ESTABLISHED,
    IP_CT_ESTABLISHED_REPLY,
    IPPROTO_TCP,
    IPPROTO_UDP,
    IPS_ASSURED,
    IPS_EXPECTED,
    IPS_OFFLOAD,
    IPS_SEEN_REPLY,
    MANIP_SRC,
    ORIGINAL,
    REPLY,
)
from conntrackd_py.engine.mark_codec import MarkCodec, done_bit
from conntrackd_py.engine.mark_maps import FLOWS, PAUSE, Element, MarkMaps
from conntrackd_py.nat.binding import status_bit
from conntrackd_py.wire import tcp

AFTER: Final = 16  # packets that a connection must have had
MOST_CONNECTIONS: Final = 16384  # offloaded at once
A_TURN: Final = 64  # connections that are added, read or deleted at once; PAUSE is between two additions
TURN: Final = 20  # ms between two turns
READ_EVERY: Final = 1000  # ms between two looks at the counters of a connection, if its turn has come
LEAST_LIFETIME: Final = 10_000  # ms: a connection with a shorter timeout could end before its turn
MOST_WAITING: Final = 1000  # ms: it may have waited so long for its transaction
FLAGS_AT: Final = 13  # of TCP
UNIT: Final = 64  # bytes: of NfConn.volume
MOST_UNITS: Final = 32767

# why connections returned to the daemon
RETURNED_ENDED: Final = 0
RETURNED_FLAGS: Final = 1
RETURNED_CHANGED: Final = 2
RETURNED_RULES: Final = 3
RETURNED_ADDRESS: Final = 4
RETURNED_FAILED: Final = 5
RETURNED_NAMES: Final = ("ended", "tcp_flags", "changed", "rules", "address", "failed")


@final
class Seen:
    """The counters of a connection when they were read last."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.counters = [0, 0, 0, 0]  # packets and bytes, original and reply


@final
class Offload(Extension):
    """on: the settings want it. allowed: no rule must see every packet."""

    def __init__(self, core: Conntrack, codec: MarkCodec, mark_maps: MarkMaps) -> None:
        self.core = core
        self.codec = codec
        self.mark_maps = mark_maps
        self.on = False
        self.allowed = False
        self.after = AFTER
        self.bytes = 0  # that a connection must have had, if that is reached first; 0: only packets count
        self.slots: OrderedDict[int, Seen] = OrderedDict()  # offloaded; those read longest ago first
        self.waiting: dict[int, NfConn] = {}  # by slot: those to be added next
        self.leaving = -1  # why all connections return, in turns; -1: they do not
        self.turned = 0  # ms: of the last turn
        self.next_at = 0  # ms: no addition before
        self.total = 0  # connections that were offloaded
        self.refused = 0  # connections that were not: too many
        self.failures = 0  # the kernel refused a transaction
        self.returned_by = [0] * len(RETURNED_NAMES)
        core.extensions.append(self)

    # --- to the kernel -----------------------------------------------------------------------------

    def meet(self, skb: Skb, ct: NfConn, now: int) -> None:
        """Count a packet that the engine accepted at its first visit; maybe ct is to be offloaded."""
        if not ct.status & IPS_ASSURED:
            return
        if ct.visits < self.after and not (self.bytes and self._voluminous(skb, ct)):
            ct.visits += 1
            return
        ct.visits = 0
        ct.volume = 0
        if skb.ctinfo in (IP_CT_ESTABLISHED, IP_CT_ESTABLISHED_REPLY) and self._eligible(ct, now):
            if len(self.waiting) < A_TURN or ct.slot in self.waiting:
                self.waiting[ct.slot] = ct
            else:
                self.refused += 1  # its next packets try again

    def _voluminous(self, skb: Skb, ct: NfConn) -> bool:
        """Add this packet to the volume of ct; whether it is enough."""
        volume: int = ct.volume
        volume += (max(len(skb.data), skb.length) + UNIT // 2) // UNIT
        ct.volume = min(volume, MOST_UNITS)
        return volume * UNIT >= self.bytes

    def _eligible(self, ct: NfConn, now: int) -> bool:
        if not self.allowed or self.leaving >= 0 or self.mark_maps.maps is None or self.mark_maps.failed:
            return False
        if (
            ct.status & (IPS_OFFLOAD | IPS_EXPECTED)
            or not ct.status & IPS_SEEN_REPLY
            or not self.mark_maps.mappable(ct)
        ):
            return False
        if tuples.protonum(ct.original) not in (IPPROTO_TCP, IPPROTO_UDP) or not ct.l4proto.in_use(ct):
            return False
        if tuples.zone(ct.original) or tuples.zone(ct.reply):
            return False
        return ct.l4proto.lifetime(ct) >= LEAST_LIFETIME and ct.remaining(now) > LEAST_LIFETIME - MOST_WAITING

    def settle(self, now: int) -> None:
        """Between two batches of packets: add the connections that wait, delete the elements of released slots."""
        if self.waiting and now >= self.next_at:
            self._add(now)
        self.mark_maps.settle()
        if self.mark_maps.maps is None and (self.slots or self.leaving >= 0):
            self._forget()

    def _add(self, now: int) -> None:
        self.next_at = now + PAUSE
        room = MOST_CONNECTIONS - max(len(self.slots), len(self.mark_maps.mapped))
        chosen: dict[int, NfConn] = {}
        elements: list[Element] = []
        for ct in self.waiting.values():
            if not self._eligible(ct, now):
                continue
            if len(chosen) >= room:
                self.refused += 1
                continue
            chosen[ct.slot] = ct
            elements += self._own(ct)
            if ct.slot not in self.mark_maps.mapped:
                elements += self.mark_maps.elements(ct)
        self.waiting.clear()
        maps = self.mark_maps.maps
        if not chosen or maps is None:
            return
        if not maps.add(elements):
            self._fail()
            return
        self.total += len(chosen)
        for slot, ct in chosen.items():
            if slot not in self.mark_maps.mapped:
                self.mark_maps.keep(ct, self.mark_maps.elements(ct))
            self.slots[slot] = Seen(now)
            ct.status |= IPS_OFFLOAD
            ct.l4proto.offloaded(ct, True)

    def _own(self, ct: NfConn) -> list[Element]:
        """The elements of ct in `flows`."""
        flows: list[Element] = []
        done = done_bit(self.codec.mask)
        for direction, ctinfo in ((ORIGINAL, IP_CT_ESTABLISHED), (REPLY, IP_CT_ESTABLISHED_REPLY)):
            mark = self.codec.field(ct.slot, ctinfo)
            mine = ct.tuple(direction)
            family = 4 if tuples.address_length(mine) == 4 else 6
            again = ct.status & status_bit(MANIP_SRC, direction) or (direction == ORIGINAL and ct.masquerade)
            flows.append(Element(family, FLOWS, mark if again else mark | done, mine))
        return flows

    # --- what the kernel has forwarded ---------------------------------------------------------------

    def turn(self, now: int) -> None:
        """Read the counters of some connections, or return some if all must return."""
        if now < self._due():
            return
        self.turned = now
        due: list[NfConn] = []
        for slot, seen in self.slots.items():
            if len(due) >= A_TURN or (self.leaving < 0 and seen.at + READ_EVERY > now):
                break
            ct = self.core.table.at(slot)
            assert ct is not None
            due.append(ct)
        if self.leaving < 0:
            self._read(due, now)
            return
        self._take(due, self.leaving, now)
        maps = self.mark_maps.maps
        if not self.slots and maps is not None:
            self.leaving = -1
            if not maps.recognise(True):
                self._fail()

    def next_turn(self) -> int:
        """When there is work again, in ms; NEVER when nothing is offloaded."""
        return min(self._due(), self.next_at) if self.waiting else self._due()

    def _due(self) -> int:
        if self.leaving >= 0:
            return self.turned + TURN
        for seen in self.slots.values():
            return max(self.turned + TURN, seen.at + READ_EVERY)
        return NEVER

    def _read(self, connections: list[NfConn], now: int) -> None:
        maps = self.mark_maps.maps
        if not connections or maps is None or self.mark_maps.failed:
            return
        counted = maps.counters([element for ct in connections for element in self._own(ct)])
        if not counted:
            self._fail()
            return
        self._account(connections, counted, now)
        for ct in connections:
            self.slots.move_to_end(ct.slot)

    def _account(self, connections: list[NfConn], counted: list[int], now: int) -> None:
        """counted: packets and bytes of both directions, of each connection."""
        for at, ct in enumerate(connections):
            seen = self.slots[ct.slot]
            seen.at = now
            counters = counted[4 * at : 4 * at + 4]
            if counters == seen.counters:
                continue
            ct.refresh(now, ct.l4proto.lifetime(ct))
            for direction in (ORIGINAL, REPLY):
                packets = counters[2 * direction] - seen.counters[2 * direction]
                if self.core.accounting and packets:
                    ct.account(direction, counters[2 * direction + 1] - seen.counters[2 * direction + 1], packets)
            seen.counters = counters

    def renewed(self, ct: NfConn, now: int) -> None:
        if ct.slot in self.slots:
            self._read([ct], now)

    # --- back to the daemon --------------------------------------------------------------------------

    def take_back(self, ct: NfConn, reason: int, now: int) -> None:
        """Nothing to do for a connection that is not offloaded."""
        if ct.slot in self.slots and self.core.table.at(ct.slot) is ct:
            self._take([ct], reason, now)

    def take_all_back(self, reason: int) -> None:
        """No packet is recognised from now on; the elements go in turns."""
        maps = self.mark_maps.maps
        if maps is None or not self.slots or self.leaving >= 0:
            return
        self.leaving = reason
        if not maps.recognise(False):
            self._fail()

    def _take(self, connections: list[NfConn], reason: int, now: int) -> None:
        maps = self.mark_maps.maps
        if not connections or maps is None:
            return
        elements = [element for ct in connections for element in self._own(ct)]
        counted = maps.delete_counted(elements) if not self.mark_maps.failed else []
        if counted:
            self._account(connections, counted, now)
        else:
            self._fail()
        for ct in connections:
            self._returned(ct, reason)

    def _returned(self, ct: NfConn, reason: int) -> None:
        del self.slots[ct.slot]
        ct.status &= ~IPS_OFFLOAD
        ct.visits = 0
        ct.volume = 0
        ct.l4proto.offloaded(ct, False)
        self.returned_by[reason] += 1

    def returned(self, ct: NfConn, skb: Skb, now: int) -> None:
        if skb.protonum == IPPROTO_TCP and skb.data[skb.dataoff + FLAGS_AT] & (tcp.SYN | tcp.FIN | tcp.RST):
            self.take_back(ct, RETURNED_FLAGS, now)

    def destroyed(self, ct: NfConn) -> None:
        self.take_back(ct, RETURNED_ENDED, ct.due)

    def _fail(self) -> None:
        """The maps end at the next `settle`: packets whose verdict is not sent yet may need them."""
        self.failures += 1
        self.mark_maps.failed = True

    def _forget(self) -> None:
        """The maps are gone, and with them all elements."""
        for slot in list(self.slots):
            ct = self.core.table.at(slot)
            assert ct is not None
            self._returned(ct, RETURNED_FAILED)
        self.leaving = -1
