"""The table: every connection there is, by tuple and by slot.

    hash         both tuples of every confirmed connection
    pending      both tuples of every unconfirmed one (its packet is between two hooks)
    slots        all of them by slot, the dying too: a packet under way still finds its connection
    unconfirmed  by slot, oldest first
    dying        removed from the hash, oldest first, until no packet can refer to them any more

Invariants: a tuple stands for one connection in the hash, and for one among the pending (both ends may have sent
first: then one of the two fails when it is to be confirmed); a slot is reused only after reaping; `len(table)` counts
confirmed and unconfirmed against nf_conntrack_max, as the kernel's count does.
"""

from typing import final

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.const import IPS_CONFIRMED, IPS_DYING


@final
class Table:
    def __init__(self) -> None:
        self.hash: dict[bytes, NfConn] = {}
        self.pending: dict[bytes, NfConn] = {}
        self.slots: list[NfConn | None] = []
        self.free: list[int] = []
        self.unconfirmed: dict[int, NfConn] = {}
        self.dying: dict[int, NfConn] = {}
        self.confirmed = 0
        self.last_id = 0

    def __len__(self) -> int:
        return self.confirmed + len(self.unconfirmed)

    def find(self, t: bytes) -> NfConn | None:
        return self.hash.get(t)

    def at(self, slot: int) -> NfConn | None:
        return self.slots[slot] if 0 <= slot < len(self.slots) else None

    def taken(self, t: bytes, but: NfConn) -> bool:
        """Whether t already belongs to a connection other than `but` (nf_conntrack_tuple_taken)."""
        owner = self.hash.get(t)
        if owner is None:
            owner = self.pending.get(t)
        return owner is not None and owner is not but

    def allocate(self, ct: NfConn) -> None:
        """Give ct a slot and an id and put it on the unconfirmed list."""
        self._seat(ct)
        self.unconfirmed[ct.slot] = ct
        self.pending[ct.original] = ct
        if ct.reply not in self.pending:
            self.pending[ct.reply] = ct

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
        if self.pending.get(ct.reply) is ct and ct.reply != ct.original:
            del self.pending[ct.reply]
        ct.reply = reply
        if reply not in self.pending:
            self.pending[reply] = ct

    def _forget_pending(self, ct: NfConn) -> None:
        del self.unconfirmed[ct.slot]
        if self.pending.get(ct.original) is ct:
            del self.pending[ct.original]
        if self.pending.get(ct.reply) is ct:
            del self.pending[ct.reply]

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
        self.confirmed += 1
        ct.status |= IPS_CONFIRMED
        ct.l4proto.entries[ct.state] += 1

    def remove(self, ct: NfConn) -> None:
        """Take ct out of the lists; it stays in its slot, dying, until reaped."""
        if ct.status & IPS_CONFIRMED:
            del self.hash[ct.original]
            if ct.reply != ct.original:
                del self.hash[ct.reply]
            self.confirmed -= 1
            ct.l4proto.entries[ct.state] -= 1
        else:
            self._forget_pending(ct)
        ct.status |= IPS_DYING
        self.dying[ct.slot] = ct

    def release(self, ct: NfConn) -> None:
        """Give the slot of a dying connection back."""
        del self.dying[ct.slot]
        self.slots[ct.slot] = None
        self.free.append(ct.slot)
