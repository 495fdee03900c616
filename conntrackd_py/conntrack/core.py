"""Conntrack: which connection does this packet belong to (conntrack_in), and may it stay (confirm).

The way of a packet: check it, find or make its connection, let the protocol's tracker judge, attach.
Later, when the packet leaves, confirm puts a new connection into the table.

Absences that hold everywhere: no connection is in the hash before its first packet has left; no
packet is refused without a counted reason; nothing here waits, sleeps or loops without a bound.
Sources: nf_conntrack_in, resolve_normal_ct, init_conntrack, __nf_conntrack_confirm.
"""

from abc import ABC, abstractmethod
from typing import Final, final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.events import EventQueue
from conntrackd_py.conntrack.evict import early_drop, relieve
from conntrackd_py.conntrack.expect import Expectations
from conntrackd_py.conntrack.gc import NEVER, PAGE, Gc
from conntrackd_py.conntrack.icmp_error import INNER_TRACKED, INNER_UNTRACKED, relate
from conntrackd_py.conntrack.l4proto import KILL, REFUSED, REOPENED, REPEAT, UNCOUNTED, L4Proto
from conntrackd_py.conntrack.randomness import Randomness
from conntrackd_py.conntrack.skb import Skb, direction_of
from conntrackd_py.conntrack.stats import Stats
from conntrackd_py.conntrack.table import Table
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import (
    IP_CT_ESTABLISHED,
    IP_CT_ESTABLISHED_REPLY,
    IP_CT_NEW,
    IP_CT_RELATED,
    IP_CT_RELATED_REPLY,
    IP_CT_UNTRACKED,
    IPCT_DESTROY,
    IPCT_NEW,
    IPCT_RELATED,
    IPCT_REPLY,
    IPS_CONFIRMED,
    IPS_DYING,
    IPS_EXPECTED,
    IPS_SEEN_REPLY,
    LOCAL_OUT,
    NF_ACCEPT,
    NF_DROP,
    ORIGINAL,
    PRE_ROUTING,
    REPLY,
)
from conntrackd_py.reasons import (
    CONNECTION_LOST,
    END_INSERT_FAILED,
    END_JOINED,
    END_REOPENED,
    END_RST,
    END_TIMEOUT,
    INSERT_FAILED,
    L4_TRUNCATED,
    TABLE_FULL,
    TUPLE_NOT_INVERTIBLE,
)
from conntrackd_py.wire.ip import addresses

UNCONFIRMED_LIFETIME: Final = 10_000  # ms a packet may take between its first and its last hook
UNCONFIRMED_LIMIT: Final = 32_768  # more first packets than the kernel's queues hold at once; or half the table
DYING_GRACE: Final = 2_000  # ms a dead connection can still be found by packets under way


class Extension(ABC):
    """Something that keeps books about connections and must hear when one ends (nf_ct_ext)."""

    @abstractmethod
    def destroyed(self, ct: NfConn) -> None: ...

    def released(self, ct: NfConn) -> None:
        """Its slot is given back: no packet under way can belong to it any more."""
        return


@final
class Conntrack:
    """protos: a tracker by protocol number, 256 of them."""

    def __init__(self, protos: list[L4Proto], tunables: Tunables, randomness: Randomness) -> None:
        self.protos = protos
        self.randomness = randomness
        self.table = Table()
        self.gc = Gc()
        self.events = EventQueue()
        self.stats = Stats()
        self.extensions: list[Extension] = []
        self.expectations = Expectations(tunables.nf_conntrack_expect_max)
        self.limit = 0
        self.pressed = 0  # slot at which evict.relieve() goes on
        self.checksum = False
        self.accounting = False
        self.timestamps = False
        self.tune(tunables)

    def tune(self, tunables: Tunables) -> None:
        self.limit = tunables.nf_conntrack_max
        self.checksum = tunables.nf_conntrack_checksum
        self.accounting = tunables.nf_conntrack_acct
        self.timestamps = tunables.nf_conntrack_timestamp
        self.expectations.limit = tunables.nf_conntrack_expect_max

    # --- conntrack_in, priority -200 -------------------------------------------------------------

    def conntrack_in(self, skb: Skb, now: int) -> int:
        """Attach skb to its connection, or leave it INVALID or UNTRACKED. A parsed skb; returns a verdict."""
        if skb.ctinfo == IP_CT_UNTRACKED:
            return NF_ACCEPT
        l4proto = self.protos[skb.protonum]
        reason = l4proto.check(skb, self.checksum and skb.hook == PRE_ROUTING and not skb.checksum_partial)
        if reason:
            return self.refuse(skb, reason)
        inner = l4proto.quotes(skb)
        if inner == INNER_UNTRACKED:
            skb.ctinfo = IP_CT_UNTRACKED
            return NF_ACCEPT
        if inner != INNER_TRACKED:
            reason = relate(self.table, self.protos, skb, inner, now)
            return self.refuse(skb, reason) if reason else NF_ACCEPT
        l4 = l4proto.l4(skb)
        if not l4:
            return self.refuse(skb, L4_TRUNCATED)
        t = tuples.make(addresses(skb), l4, skb.protonum)
        return self._track(skb, t, l4proto, now)

    def _track(self, skb: Skb, t: bytes, l4proto: L4Proto, now: int) -> int:
        if skb.zone_original or skb.zone_reply:
            t = self._zoned(skb, t, now)
        ct = self.lookup(t, now)
        new = ct is None
        if ct is None and skb.hook == LOCAL_OUT and self._resets_pending(skb, t, l4proto):
            return NF_ACCEPT
        if ct is None:
            ct = self._create(skb, t, l4proto, now)
            if ct is None:
                return NF_DROP if skb.reason == TABLE_FULL else NF_ACCEPT
        direction = ORIGINAL if ct.original == t else REPLY
        if self._judge(skb, ct, direction, now, new) == REPEAT:
            self.kill(ct, END_REOPENED, now)
            return self._track(skb, tuples.bare(t), l4proto, now)
        return NF_ACCEPT

    def _resets_pending(self, skb: Skb, t: bytes, l4proto: L4Proto) -> bool:
        """A REJECT rule answers a first packet with RST: the answer belongs to its connection (nf_ct_attach)."""
        if not l4proto.resets(skb):
            return False
        ct = self.table.pending.get(t)
        if ct is None or ct.original == t:
            return False
        skb.attach(ct, IP_CT_RELATED_REPLY)
        return True

    def _judge(self, skb: Skb, ct: NfConn, direction: int, now: int, new: bool) -> int:
        """The tracker's outcome for a packet of ct, carried out; after REPEAT nothing was done."""
        old_state = ct.state
        outcome = ct.l4proto.packet(ct, skb, direction, now, new)
        if outcome == REPEAT:
            return REPEAT
        self.follow(ct, old_state, now)
        if outcome == REFUSED:
            if new:
                self._discard(ct)
            self.refuse(skb, skb.reason)
            return REFUSED
        if skb.reason:
            self.stats.reasons[skb.reason] += 1
        if self.accounting and outcome != UNCOUNTED:
            ct.account(direction, skb.end)
        if outcome == KILL:
            self.kill(ct, END_RST, now)  # reported before this packet counts as a reply, as by the kernel
        self._attach(skb, ct, direction)
        if outcome == REOPENED:
            self._restart(ct, now)
        elif ct.pending_events and ct.status & IPS_CONFIRMED and outcome != KILL:
            self._report(ct, now)
        return outcome

    def _restart(self, ct: NfConn, now: int) -> None:
        """One connection ends and another begins in the same entry: counters and age start again."""
        self.stats.ended[END_REOPENED] += 1
        self.stats.insert += 1
        ct.end_reason = END_REOPENED
        self.events.report(IPCT_DESTROY, now, ct)
        ct.packets_original = ct.packets_reply = ct.bytes_original = ct.bytes_reply = 0
        ct.born = now
        ct.pending_events = IPCT_NEW
        self._report(ct, now)

    def _report(self, ct: NfConn, now: int) -> None:
        """Send the cached events. At once: the next packet may be here before this one has left."""
        self.events.report(ct.pending_events, now, ct)
        ct.pending_events = 0

    def _zoned(self, skb: Skb, t: bytes, now: int) -> bytes:
        """t in the zone of its direction: an answer is known by the zone of replies, anything else is original."""
        answer = tuples.with_zone(t, skb.zone_reply)
        ct = self.table.find(answer)
        if ct is not None and ct.reply == answer and ct.timeout > now:
            return answer
        return tuples.with_zone(t, skb.zone_original)

    def _attach(self, skb: Skb, ct: NfConn, direction: int) -> None:
        if direction == REPLY:
            skb.attach(ct, IP_CT_ESTABLISHED_REPLY)
            if not ct.status & IPS_SEEN_REPLY:
                ct.status |= IPS_SEEN_REPLY
                ct.pending_events |= IPCT_REPLY
        elif ct.status & IPS_SEEN_REPLY:
            skb.attach(ct, IP_CT_ESTABLISHED)
        else:
            skb.attach(ct, IP_CT_RELATED if ct.status & IPS_EXPECTED else IP_CT_NEW)

    def follow(self, ct: NfConn, old_state: int, now: int) -> None:
        """Keep the counts by state and the gc's mark in step with what a tracker did to ct."""
        if not ct.status & IPS_CONFIRMED:
            return
        if ct.state != old_state:
            ct.l4proto.entries[old_state] -= 1
            ct.l4proto.entries[ct.state] += 1
        if ct.timeout + PAGE < ct.due:
            self.gc.schedule(ct, now)

    def refuse(self, skb: Skb, reason: int) -> int:
        """The packet is INVALID: it passes, unattached and counted."""
        skb.detach(reason)
        self.stats.invalid += 1
        self.stats.reasons[reason] += 1
        return NF_ACCEPT

    def lookup(self, t: bytes, now: int) -> NfConn | None:
        """The connection t belongs to; ends it first if its time is over."""
        ct = self.table.find(t)
        if ct is not None:
            if ct.timeout > now:
                self.stats.found += 1
                return ct
            self.kill(ct, END_TIMEOUT, now)
        ct = self.table.pending.get(t)
        if ct is not None and ct.original == t:
            self.stats.clash_resolve += 1  # the kernel would make a second one and merge them later
            return ct
        return None  # a reply may be a connection of its own: the other's source is not translated yet

    def _create(self, skb: Skb, t: bytes, l4proto: L4Proto, now: int) -> NfConn | None:
        l4 = l4proto.invert(tuples.l4(t))
        if not l4:
            self.refuse(skb, TUPLE_NOT_INVERTIBLE)
            return None
        waiting = len(self.table.unconfirmed)
        if waiting >= UNCONFIRMED_LIMIT or (self.limit and waiting * 2 > self.limit):
            self._lose_oldest(now)
        if self.limit and len(self.table) >= self.limit and not early_drop(self, now):
            self.stats.table_full += 1
            self.stats.drop += 1
            self.stats.reasons[TABLE_FULL] += 1
            skb.detach(TABLE_FULL)
            skb.numbers = (len(self.table), self.limit)
            return None
        reply = tuples.swapped(t, l4)
        if skb.zone_original or skb.zone_reply:
            reply = tuples.with_zone(tuples.bare(reply), skb.zone_reply)
        if skb.protos is not None:
            l4proto = skb.protos[skb.protonum]
        ct = NfConn(t, reply, l4proto, now)
        self.table.allocate(ct)
        expected = self.expectations.find(t, now)
        if expected is not None:
            ct.status |= IPS_EXPECTED
            ct.master = expected.master
            ct.mark = expected.master.mark
            ct.expectation = expected
        return ct

    def _lose_oldest(self, now: int) -> None:
        """A filter behind us drops first packets faster than they age: those under way longest are not coming."""
        for ct in self.table.unconfirmed.values():
            self.stats.unconfirmed_lost += 1
            self.kill(ct, END_TIMEOUT, now)
            break

    def _discard(self, ct: NfConn) -> None:
        """Forget a connection whose very first packet was refused: nobody else knows of it."""
        self.table.remove(ct)
        self.table.release(ct)

    # --- confirm, the last operation of all --------------------------------------------------------

    def confirm(self, skb: Skb, now: int) -> int:
        """The packet is leaving: its connection, if new, enters the table and is reported."""
        ct = skb.ct
        if ct is None:
            return NF_ACCEPT
        if not ct.status & IPS_CONFIRMED:
            if direction_of(skb.ctinfo) != ORIGINAL:
                return NF_ACCEPT
            if ct.status & IPS_DYING or not self.table.insert(ct):
                return self._join(skb, ct, now)
            ct.iif = skb.indev
            ct.oif = skb.outdev
            ct.timeout += now
            self.gc.schedule(ct, now)
            self.stats.insert += 1
            ct.pending_events |= IPCT_RELATED if ct.status & IPS_EXPECTED else IPCT_NEW
            self._report(ct, now)
        return NF_ACCEPT

    def _join(self, skb: Skb, ct: NfConn, now: int) -> int:
        """ct cannot be confirmed: the packet joins the connection that took its tuples, or is dropped.

        The other end spoke first as well, or a client made the connection by hand. The kernel merges too, but drops
        the packets of TCP and of translated connections (nf_ct_resolve_clash).
        """
        other = self.table.twin(ct)
        under_way = self.kill(ct, END_INSERT_FAILED if other is None else END_JOINED, now)
        if other is None:
            self.stats.insert_failed += under_way
            return self.drop(skb, INSERT_FAILED if under_way else CONNECTION_LOST)
        self.stats.clash_resolve += 1
        direction = ORIGINAL if other.original == ct.original else REPLY
        if self._judge(skb, other, direction, now, False) == REPEAT:
            return self.drop(skb, INSERT_FAILED)
        return NF_ACCEPT

    def drop(self, skb: Skb, reason: int) -> int:
        """Count and refuse the packet altogether."""
        skb.cause = skb.reason
        skb.reason = reason
        self.stats.drop += 1
        self.stats.reasons[reason] += 1
        return NF_DROP

    # --- the end of connections -----------------------------------------------------------------------

    def kill(self, ct: NfConn, reason: int, now: int) -> bool:
        """End ct for reason (END_*); False when it was already dying."""
        if ct.status & IPS_DYING:
            return False
        confirmed = ct.status & IPS_CONFIRMED
        if confirmed:
            self.stats.ended[reason] += 1
        ct.ended = now
        ct.end_reason = reason
        self.table.remove(ct)
        self.expectations.forget(ct, now)
        for extension in self.extensions:
            extension.destroyed(ct)
        if confirmed:
            self.events.report(IPCT_DESTROY, now, ct)
        return True

    def expire(self, now: int, budget: int) -> int:
        """End what has expired and reap what has died, at most budget steps of each; returns how many ended."""
        expired = self.gc.due(now, budget)
        for ct in expired:
            self.kill(ct, END_TIMEOUT, now)
        self.expectations.expire(now)
        relieved = relieve(self, now, budget)
        lost = self._oldest(self.table.unconfirmed, now - UNCONFIRMED_LIFETIME, budget, False)
        for ct in lost:
            self.stats.unconfirmed_lost += 1
            self.kill(ct, END_TIMEOUT, now)
        for ct in self._oldest(self.table.dying, now - DYING_GRACE, budget, True):
            self.table.release(ct)
            for extension in self.extensions:
                extension.released(ct)
        return len(expired) + len(lost) + relieved

    def _oldest(self, queue: dict[int, NfConn], before: int, budget: int, dead: bool) -> list[NfConn]:
        found: list[NfConn] = []
        for ct in queue.values():
            if budget == 0 or (ct.ended if dead else ct.born) > before:
                break
            budget -= 1
            found.append(ct)
        return found

    def changed(self, ct: NfConn, event: int, now: int) -> None:
        """Report what a rule changed (IPCT_*): at once, or with the others when ct is confirmed."""
        ct.pending_events |= event
        if ct.status & IPS_CONFIRMED and not ct.status & IPS_DYING:
            self._report(ct, now)

    def next_expiry(self) -> int:
        """When expire() is worth calling again, in ms; NEVER while there is nothing to wait for."""
        when = self.gc.next_due()
        for ct in self.table.unconfirmed.values():
            when = min(when, ct.born + UNCONFIRMED_LIFETIME)
            break
        for ct in self.table.dying.values():
            when = min(when, ct.ended + DYING_GRACE)
            break
        return min(when, NEVER)
