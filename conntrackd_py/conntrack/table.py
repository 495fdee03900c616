"""The table: all connections, by tuple and by slot.

    hash         both tuples of every confirmed connection
    routed       connections with both ends translated, or in a zone, by the tuple of a packet between its two visits
    pending      both tuples of every unconfirmed connection (its packet is between two hooks)
    slots        all connections by slot, also the dying, so that packets between two visits find them
    unconfirmed  by slot, oldest first
    dying        removed from the hash, oldest first, until the slot is released

What grows with the table grows in small steps: split dicts, and a queue of blocks. A growing list is moved, not read.

Invariants:
- A tuple in the hash belongs to one connection. Unconfirmed connections may share tuples: both ends may send first.
  The choice of a source and confirm are one step, so the choice must avoid only the tuples in the hash and those whose
  source was bound early (nat/core.py).
- A slot is reused only after release().
- `len(table)` is confirmed plus unconfirmed, which nf_conntrack_max limits, as in the kernel.

A small map that is read oldest first is an OrderedDict, in every room: the first entry of a dict costs a step for each
entry deleted before it.
"""

from collections import OrderedDict, deque
from typing import final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.host_limit import HostLimit
from conntrackd_py.conntrack.split_dict import SplitDict
from conntrackd_py.const import IPS_CONFIRMED, IPS_DYING, IPS_NAT_MASK, IPS_SRC_NAT_DONE


@final
class Table:
    def __init__(self) -> None:
        self.hash: SplitDict[NfConn] = SplitDict()
        self.routed: SplitDict[NfConn] = SplitDict()
        self.pending: SplitDict[NfConn] = SplitDict()
        self.waiting: dict[bytes, dict[int, NfConn]] = {}  # by slot: others with a tuple that `pending` finds for one
        self.slots: list[NfConn | None] = []
        self.free: list[int] = []
        self.unconfirmed: OrderedDict[int, NfConn] = OrderedDict()
        self.dying: deque[NfConn] = deque()
        self.confirmed = 0
        self.last_id = 0
        self.hosts = HostLimit()

    def __len__(self) -> int:
        return self.confirmed + len(self.unconfirmed)

    def find(self, t: bytes) -> NfConn | None:
        return self.hash.get(t)

    def at(self, slot: int) -> NfConn | None:
        return self.slots[slot] if 0 <= slot < len(self.slots) else None

    def taken(self, answer: bytes, ct: NfConn) -> bool:
        """Whether another connection has this tuple: confirmed, or its source bound before its last hook."""
        owner = self.hash.get(answer)
        if owner is None:
            owner = self.pending.get(answer)
            if owner is not None and not (owner.status & IPS_SRC_NAT_DONE and owner.reply == answer):
                return False
        return owner is not None and owner is not ct

    def twin(self, ct: NfConn) -> NfConn | None:
        """The confirmed connection with the tuples of unconfirmed ct, in either direction (nf_ct_match, _reverse).

        Zones are not compared: a packet now would be looked up in the zone of the other direction.
        """
        other = self.hash.get(ct.original)
        if other is None:
            return None
        answer = other.reply if other.original == ct.original else other.original
        return other if tuples.bare(answer) == tuples.bare(ct.reply) else None

    def allocate(self, ct: NfConn) -> None:
        """Give ct a slot and an id and put it on the unconfirmed list."""
        self._take_slot(ct)
        self.unconfirmed[ct.slot] = ct
        first = self.pending.get(ct.original)
        if first is not None:
            self.pending[ct.original] = ct
            self._wait(ct.original, first)
        self._add_pending(ct, ct.original)
        self._add_pending(ct, ct.reply)

    def _add_pending(self, ct: NfConn, t: bytes) -> None:
        """Enter t in `pending`, with and without its zone, unless it finds another connection."""
        if self.pending.setdefault(t, ct) is not ct:
            self._wait(t, ct)
        if tuples.zone(t):
            self.pending.setdefault(tuples.bare(t), ct)

    def _wait(self, t: bytes, ct: NfConn) -> None:
        """ct has the tuple t too: `pending` finds it when the others with t have left."""
        self.waiting.setdefault(t, {})[ct.slot] = ct

    def _remove_key(self, ct: NfConn, t: bytes) -> None:
        self.pending.discard(t, ct)
        if tuples.zone(t):
            self.pending.discard(tuples.bare(t), ct)
        others = self.waiting.get(t)
        if others is None:
            return
        others.pop(ct.slot, None)
        if self.pending.get(t) is None:
            for slot, other in others.items():
                self.pending[t] = other
                del others[slot]
                break
        if not others:
            del self.waiting[t]

    def _take_slot(self, ct: NfConn) -> None:
        if self.free:
            ct.slot = self.free.pop()
            self.slots[ct.slot] = ct
        else:
            ct.slot = len(self.slots)
            self.slots.append(ct)
        self.last_id = self.last_id % 0x7FFFFFFF + 1
        ct.id = self.last_id
        if self.hosts.limit:
            self.hosts.add(ct)

    def alter_reply(self, ct: NfConn, reply: bytes) -> None:
        """Change the reply tuple of an unconfirmed connection."""
        if ct.reply != ct.original:
            self._remove_key(ct, ct.reply)
        ct.reply = reply
        self._add_pending(ct, reply)

    def translate(self, ct: NfConn, reply: bytes, status: int) -> None:
        """Change the reply tuple of ct, confirmed or not, and set IPS_* bits. The caller makes sure that it is free."""
        if not ct.status & IPS_CONFIRMED:
            self.alter_reply(ct, reply)
            ct.status |= status
            return
        self._remove_hash(ct)
        ct.reply = reply
        ct.status |= status
        self._add_hash(ct)

    def _remove_pending(self, ct: NfConn) -> None:
        del self.unconfirmed[ct.slot]
        self._remove_key(ct, ct.original)
        self._remove_key(ct, ct.reply)

    def insert(self, ct: NfConn) -> bool:
        """Confirm: move ct from the unconfirmed list into the hash; False when a tuple is taken."""
        if not self._add(ct):
            return False
        self._remove_pending(ct)
        return True

    def adopt(self, ct: NfConn) -> bool:
        """Insert a connection that an operator made, confirmed at once; False when a tuple is taken."""
        if not self._add(ct):
            return False
        self._take_slot(ct)
        return True

    def restore(self, ct: NfConn, slot: int) -> bool:
        """Insert a confirmed connection of a journal into its slot; False when the slot or a tuple is taken.

        fill_free() must follow after the last one.
        """
        slots = self.slots
        while len(slots) <= slot:
            slots.append(None)
        if slots[slot] is not None or not self._add(ct):
            return False
        ct.slot = slot
        slots[slot] = ct
        if self.hosts.limit:
            self.hosts.add(ct)
        if ct.id > self.last_id:
            self.last_id = ct.id
        return True

    def fill_free(self) -> None:
        """List the empty slots, lowest first."""
        self.free = [slot for slot in range(len(self.slots) - 1, -1, -1) if self.slots[slot] is None]

    def _add(self, ct: NfConn) -> bool:
        if not self._add_hash(ct):
            return False
        self.confirmed += 1
        ct.status |= IPS_CONFIRMED
        ct.l4proto.entries[ct.state] += 1
        return True

    def _add_hash(self, ct: NfConn) -> bool:
        if self.hash.setdefault(ct.original, ct) is not ct:
            return False
        if self.hash.setdefault(ct.reply, ct) is not ct:
            del self.hash[ct.original]
            return False
        if _needs_routed(ct):
            self.routed[tuples.routed(ct.original, ct.reply)] = ct
            self.routed[tuples.routed(ct.reply, ct.original)] = ct
        return True

    def _remove_hash(self, ct: NfConn) -> None:
        del self.hash[ct.original]
        if ct.reply != ct.original:
            del self.hash[ct.reply]
        if _needs_routed(ct):
            self._remove_routed(ct)

    def remove(self, ct: NfConn) -> None:
        """Remove ct from the hash or `pending`; it keeps its slot, dying, until release()."""
        if ct.status & IPS_CONFIRMED:
            self._remove_hash(ct)
            self.confirmed -= 1
            ct.l4proto.entries[ct.state] -= 1
        else:
            self._remove_pending(ct)
        if self.hosts.limit:
            self.hosts.remove(ct)
        ct.status |= IPS_DYING
        self.dying.append(ct)

    def _remove_routed(self, ct: NfConn) -> None:
        self.routed.discard(tuples.routed(ct.original, ct.reply), ct)
        self.routed.discard(tuples.routed(ct.reply, ct.original), ct)

    def find_routed(self, t: bytes) -> NfConn | None:
        """The connection whose packets have tuple t between their two visits: destination translated, source not yet.

        It may be unconfirmed. There may be others: two destinations may be translated into one.
        """
        ct = self.hash.get(t)
        if ct is None:
            ct = self.pending.get(t)
        if ct is not None:
            other = ct.reply if ct.original == t else ct.original
            if tuples.dst(t) == tuples.src(other):
                return ct
        return self.routed.get(t)

    def release(self, ct: NfConn) -> None:
        """Free the slot of a dying connection, usually of the oldest or of the one that has just ended."""
        if self.dying[0] is ct:
            self.dying.popleft()
        elif self.dying[-1] is ct:
            self.dying.pop()
        else:
            self.dying.remove(ct)
        self.slots[ct.slot] = None
        self.free.append(ct.slot)


def _needs_routed(ct: NfConn) -> bool:
    """Whether neither tuple of ct is the one its packets have between their two visits."""
    return ct.status & IPS_NAT_MASK == IPS_NAT_MASK or tuples.zone(ct.original) != 0 or tuples.zone(ct.reply) != 0
