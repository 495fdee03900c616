"""Conntrack: the state that connection tracking works on, and the steps that every room shares.

It holds table, timeouts, expectations, events and counters. Above it: lookup.py (conntrack_in), confirm.py, evict.py
(early_drop, expire) and change.py (an operator's orders).
No packet is refused or dropped without a counted reason; nothing waits, sleeps or loops without a bound.
"""

from abc import ABC, abstractmethod
from typing import final

from conntrackd_py.conntrack.conn import L4Proto, NfConn
from conntrackd_py.conntrack.events import EventQueue
from conntrackd_py.conntrack.expect import Expectation, Expectations
from conntrackd_py.conntrack.gc import PAGE, Gc
from conntrackd_py.conntrack.journal import Journal
from conntrackd_py.conntrack.randomness import Randomness
from conntrackd_py.conntrack.seqadj import SeqAdj
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.stats import Stats
from conntrackd_py.conntrack.table import Table
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import (
    IPCT_DESTROY,
    IPS_CONFIRMED,
    IPS_DYING,
    IPS_EXPECTED,
    IPS_HELPER,
    IPS_OFFLOAD,
    NF_ACCEPT,
    NF_DROP,
)


class Extension(ABC):
    """Data that another room keeps about connections until they end (nf_ct_ext)."""

    @abstractmethod
    def destroyed(self, ct: NfConn) -> None: ...

    def created(self, ct: NfConn, helper: str, expected: Expectation | None) -> None:
        """ct is new and unconfirmed; a raw rule gave it a helper, or it was expected."""
        return

    def released(self, ct: NfConn) -> None:
        """Its slot becomes free: no packet between two visits can belong to it."""
        return

    def returned(self, ct: NfConn, skb: Skb, now: int) -> None:
        """A packet of an offloaded connection is about to be judged."""
        return

    def renewed(self, ct: NfConn, now: int) -> None:
        """The timeout of an offloaded connection is over, unless the kernel has forwarded packets meanwhile."""
        return


@final
class Conntrack:
    """protos: the tracker of each of the 256 protocol numbers."""

    def __init__(self, protos: list[L4Proto], tunables: Tunables, randomness: Randomness) -> None:
        self.protos = protos
        self.randomness = randomness
        self.table = Table()
        self.gc = Gc(self.table.slots)
        self.events = EventQueue()
        self.standby = False  # the table is that of another engine (engine/takeover)
        self.stats = Stats()
        self.extensions: list[Extension] = []
        self.journal: Journal | None = None  # None: a new process knows no connection
        self.expectations = Expectations(tunables.nf_conntrack_expect_max)
        self.helper_names: dict[int, str] = {}  # by the slot of a connection with HELPER
        self.seqadj: dict[int, SeqAdj] = {}  # by the slot of a connection with SEQ_ADJUST
        self.pressed = 0  # slot at which evict.relieve continues
        self.tune(tunables)

    def tune(self, tunables: Tunables) -> None:
        self.tunables = tunables
        self.limit = tunables.nf_conntrack_max
        self.checksum = tunables.nf_conntrack_checksum
        self.accounting = tunables.nf_conntrack_acct
        self.timestamps = tunables.nf_conntrack_timestamp
        self.expectations.limit = tunables.nf_conntrack_expect_max

    def write_into(self, journal: Journal) -> None:
        """Write connections into this journal from now on."""
        journal.helper_names, journal.seqadj = self.helper_names, self.seqadj
        self.journal = journal

    def follow(self, ct: NfConn, old_state: int, now: int) -> None:
        """Update the counts by state and the gc mark after a tracker or an operator changed ct."""
        if not ct.status & IPS_CONFIRMED:
            return
        if ct.state != old_state:
            ct.l4proto.entries[old_state] -= 1
            ct.l4proto.entries[ct.state] += 1
        if ct.timeout + PAGE < ct.due:
            self.gc.schedule(ct, now)

    def expired(self, ct: NfConn, now: int) -> bool:
        """Whether its timeout is over. The packets that the kernel forwarded count too."""
        if ct.timeout > now:
            return False
        if ct.status & IPS_OFFLOAD:
            for extension in self.extensions:
                extension.renewed(ct, now)
        return ct.timeout <= now

    def report(self, ct: NfConn, now: int) -> None:
        """Report the cached events. At once: the next packet may come before this one has left."""
        self.events.report(ct.pending_events, now, ct)
        ct.pending_events = 0
        self.save(ct)

    def save(self, ct: NfConn) -> None:
        """Write a changed connection into the journal."""
        if self.journal is not None and ct.status & (IPS_CONFIRMED | IPS_DYING) == IPS_CONFIRMED:
            self.journal.write(ct)

    def changed(self, ct: NfConn, event: int, now: int) -> None:
        """Report what a rule changed (IPCT_*): at once, or when ct is confirmed."""
        ct.pending_events |= event
        if ct.status & IPS_CONFIRMED and not ct.status & IPS_DYING:
            self.report(ct, now)

    def refuse(self, skb: Skb, reason: int) -> int:
        """Count the packet, detach it as INVALID, and accept it."""
        skb.detach(reason)
        self.stats.invalid += 1
        self.stats.reasons[reason] += 1
        return NF_ACCEPT

    def drop(self, skb: Skb, reason: int) -> int:
        """Count the packet and drop it."""
        if skb.reason != reason:
            skb.drop(reason)
        self.stats.drop += 1
        self.stats.reasons[reason] += 1
        return NF_DROP

    def discard(self, ct: NfConn) -> None:
        """Forget a new connection whose first packet was refused."""
        self.table.remove(ct)
        self.table.release(ct)
        if ct.status & (IPS_EXPECTED | IPS_HELPER):
            for extension in self.extensions:
                extension.destroyed(ct)
                extension.released(ct)

    def forget(self, ct: NfConn) -> None:
        """Remove ct and free its slot at once, without an event: the engine whose connection it is says so."""
        table = self.table
        if not ct.status & IPS_DYING:
            table.remove(ct)
            for extension in self.extensions:
                extension.destroyed(ct)
            if self.journal is not None:
                self.journal.clear(ct.slot)
        table.release(ct)
        table.free.pop()  # Table.restore takes slots that are not listed
        for extension in self.extensions:
            extension.released(ct)

    def kill(self, ct: NfConn, reason: int, now: int) -> bool:
        """End ct for reason (END_*); False when it was already dying."""
        if ct.status & IPS_DYING:
            return False
        confirmed = ct.status & IPS_CONFIRMED
        if confirmed:
            self.stats.ended[reason] += 1
        ct.due = now
        ct.end_reason = reason
        self.table.remove(ct)
        self.expectations.remove_all_of(ct, now)
        for extension in self.extensions:
            extension.destroyed(ct)
        if confirmed:
            if self.journal is not None:
                self.journal.clear(ct.slot)
            self.events.report(IPCT_DESTROY, now, ct)
        return True
