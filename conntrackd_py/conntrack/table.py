"""The table: every connection there is, by tuple and by slot.

    hash         both tuples of every confirmed connection
    routed       connections with both ends translated, or in a zone, by the tuple of a packet between its two visits
    pending      both tuples of every unconfirmed one (its packet is between two hooks)
    slots        all of them by slot, the dying too: a packet under way still finds its connection
    unconfirmed  by slot, oldest first
    dying        removed from the hash, oldest first, until no packet can refer to them any more

Invariants:
- A tuple stands for one connection in the hash. Unconfirmed connections may share tuples: both ends may send first.
  Their source is chosen and they are confirmed in one step, so the choice only has to look at the hash, and at
  those whose source was settled early (nat/core.py).
- A slot is reused only after reaping.
- `len(table)` counts confirmed and unconfirmed against nf_conntrack_max, as the kernel's count does.

What is asked for its oldest entry is an OrderedDict, here and elsewhere: finding the first entry of a dict takes a step
for each one that was deleted before it.
"""

from collections import OrderedDict
from typing import final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.const import IPS_CONFIRMED, IPS_DYING, IPS_NAT_MASK, IPS_SRC_NAT_DONE


@final
class Table:
    def __init__(self) -> None:
        self.hash: dict[bytes, NfConn] = {}
        self.routed: dict[bytes, NfConn] = {}
        self.pending: dict[bytes, NfConn] = {}
        self.slots: list[NfConn | None] = []
        self.free: list[int] = []
        self.unconfirmed: OrderedDict[int, NfConn] = OrderedDict()
        self.dying: OrderedDict[int, NfConn] = OrderedDict()
        self.confirmed = 0
        self.last_id = 0

    def __len__(self) -> int:
        return self.confirmed + len(self.unconfirmed)

    def find(self, t: bytes) -> NfConn | None:
        return self.hash.get(t)

    def at(self, slot: int) -> NfConn | None:
        return self.slots[slot] if 0 <= slot < len(self.slots) else None

    def taken(self, answer: bytes, ct: NfConn) -> bool:
        """Whether another connection has this tuple for good: confirmed, or its source settled before its last hook."""
        owner = self.hash.get(answer)
        if owner is None:
            owner = self.pending.get(answer)
            if owner is not None and not (owner.status & IPS_SRC_NAT_DONE and owner.reply == answer):
                return False
        return owner is not None and owner is not ct

    def twin(self, ct: NfConn) -> NfConn | None:
        """The confirmed connection with the tuples of unconfirmed ct, in either direction (nf_ct_match, _reverse).

        Zones may differ: a packet that came now would be found in the zone of the other direction.
        """
        other = self.hash.get(ct.original)
        if other is None:
            return None
        answer = other.reply if other.original == ct.original else other.original
        return other if tuples.bare(answer) == tuples.bare(ct.reply) else None

    def allocate(self, ct: NfConn) -> None:
        """Give ct a slot and an id and put it on the unconfirmed list."""
        self._seat(ct)
        self.unconfirmed[ct.slot] = ct
        self.pending[ct.original] = ct
        self._announce(ct, ct.original)
        self._announce(ct, ct.reply)

    def _announce(self, ct: NfConn, t: bytes) -> None:
        """Make t, with its zone and without, find ct unless it finds another connection."""
        self.pending.setdefault(t, ct)
        if tuples.zone(t):
            self.pending.setdefault(tuples.bare(t), ct)

    def _retract(self, ct: NfConn, t: bytes) -> None:
        for key in (t, tuples.bare(t)):
            if self.pending.get(key) is ct:
                del self.pending[key]

    def _seat(self, ct: NfConn) -> None:
        if self.free:
            ct.slot = self.free.pop()
            self.slots[ct.slot] = ct
        else:
            ct.slot = len(self.slots)
            self.slots.append(ct)
        self.last_id = self.last_id % 0xFFFFFFFF + 1
        ct.id = self.last_id

    def alter_reply(self, ct: NfConn, reply: bytes) -> None:
        """Change what answers to an unconfirmed connection will look like."""
        if ct.reply != ct.original:
            self._retract(ct, ct.reply)
        ct.reply = reply
        self._announce(ct, reply)

    def _forget_pending(self, ct: NfConn) -> None:
        del self.unconfirmed[ct.slot]
        self._retract(ct, ct.original)
        self._retract(ct, ct.reply)

    def insert(self, ct: NfConn) -> bool:
        """Confirm: move ct from the unconfirmed list into the hash; False when a tuple is taken."""
        if ct.original in self.hash or ct.reply in self.hash:
            return False
        self._forget_pending(ct)
        self._enter(ct)
        return True

    def adopt(self, ct: NfConn) -> bool:
        """Let in a connection that no packet has made, at once confirmed; False when a tuple is taken."""
        if ct.original in self.hash or ct.reply in self.hash:
            return False
        self._seat(ct)
        self._enter(ct)
        return True

    def _enter(self, ct: NfConn) -> None:
        self.hash[ct.original] = ct
        self.hash[ct.reply] = ct
        if _found_by_path(ct):
            self.routed[tuples.routed(ct.original, ct.reply)] = ct
            self.routed[tuples.routed(ct.reply, ct.original)] = ct
        self.confirmed += 1
        ct.status |= IPS_CONFIRMED
        ct.l4proto.entries[ct.state] += 1

    def remove(self, ct: NfConn) -> None:
        """Take ct out of the lists; it stays in its slot, dying, until reaped."""
        if ct.status & IPS_CONFIRMED:
            del self.hash[ct.original]
            if ct.reply != ct.original:
                del self.hash[ct.reply]
            if _found_by_path(ct):
                self._forget_routed(ct)
            self.confirmed -= 1
            ct.l4proto.entries[ct.state] -= 1
        else:
            self._forget_pending(ct)
        ct.status |= IPS_DYING
        self.dying[ct.slot] = ct

    def _forget_routed(self, ct: NfConn) -> None:
        for t in (tuples.routed(ct.original, ct.reply), tuples.routed(ct.reply, ct.original)):
            if self.routed.get(t) is ct:
                del self.routed[t]

    def find_routed(self, t: bytes) -> NfConn | None:
        """The connection whose packets look like t between their two visits: destination translated, source not yet.

        Not necessarily the only one: two destinations may be translated into one. Unconfirmed ones are found too.
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
        """Give the slot of a dying connection back."""
        del self.dying[ct.slot]
        self.slots[ct.slot] = None
        self.free.append(ct.slot)


def _found_by_path(ct: NfConn) -> bool:
    """Whether no tuple of ct is what its packets look like between their two visits."""
    return ct.status & IPS_NAT_MASK == IPS_NAT_MASK or tuples.zone(ct.original) != 0 or tuples.zone(ct.reply) != 0
