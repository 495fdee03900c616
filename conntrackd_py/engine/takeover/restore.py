"""Restore: the connections of a journal become those of a new engine, with all that other rooms keep about them.

- Slots stay the same: packets on their way still carry them in their marks.
- Rules may have changed: connections keep their translation and the kind of their tracker, as in a reload.
- A connection whose helper no rule names any more goes on without help. Its sequence numbers are adjusted as before.
- A masqueraded connection ends if its interface has lost the address.
- A timeout that is over ends its connection by the sweep or the next lookup, with an event, as always.
- What a record does not agree with is refused and counted by reason. Nothing else is believed.
"""

from typing import Final, final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NO_INTERFACE, L4Proto, NfConn
from conntrackd_py.conntrack.expect import Expectation
from conntrackd_py.conntrack.records import record
from conntrackd_py.conntrack.records.record import Record, Trackers
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPS_FIXED_TIMEOUT, IPS_HELPER
from conntrackd_py.engine.engine import Engine
from conntrackd_py.engine.pipeline import add_helpers
from conntrackd_py.nat import mapping_restore
from conntrackd_py.proto.rfc7857 import RFC7857_LAYOUT, Rfc7857
from conntrackd_py.proto.tcp import TCP_LAYOUT, Tcp
from conntrackd_py.reasons import END_ADDRESS_GONE

UNREADABLE: Final = "unreadable"  # reasons to refuse a record
TAKEN: Final = "tuple_taken"
NO_MASTER: Final = "no_master"
ADDRESS_GONE: Final = "address_gone"
ANY_SLOT: Final = -1
REASONS: Final = (UNREADABLE, TAKEN, NO_MASTER, ADDRESS_GONE)


@final
class Origin:
    """What is known of the process that wrote the journal.

    shift: ms to add to its times. margin: ms that a timeout may be older than in its record. exact: windows are as
    written. links: its interface indexes -> present ones; None: they are the same.
    """

    def __init__(self, shift: int, margin: int, exact: bool, links: dict[int, int] | None = None) -> None:
        self.shift = shift
        self.margin = margin
        self.exact = exact
        self.links = links


@final
class Restore(Trackers):
    """side: number of side records. Call `take` with all records, then `finish`."""

    def __init__(self, engine: Engine, tunables: Tunables, side: int, origin: Origin, now: int) -> None:
        self.engine = engine
        self.core = engine.core
        self.tunables = tunables
        self.side = side
        self.origin = origin
        self.now = now
        self.restored = 0
        self.outers = len(engine.nat.port_usage.outers)
        self.refused = dict.fromkeys(REASONS, 0)
        self.refused_slots: list[int] = []
        self.children: list[Record] = []
        self.remembered: list[NfConn] = []
        self.expectations: list[bytes] = []
        self.extra: dict[int, L4Proto] = {}  # trackers by layout that the present configuration does not use

    def of(self, protonum: int, layout: int, profile: int) -> L4Proto | None:
        usual = self.core.protos[protonum]
        if not profile and usual.layout == layout:
            return usual
        for tracker in self.engine.trackers:
            if profile and (tracker.profile, tracker.layout, tracker.protonum) == (profile, layout, usual.protonum):
                return tracker
        if usual.layout == layout:
            return usual
        if layout not in (TCP_LAYOUT, RFC7857_LAYOUT) or usual.layout not in (TCP_LAYOUT, RFC7857_LAYOUT):
            return None
        return self._other_tcp(layout)

    def _other_tcp(self, layout: int) -> L4Proto:
        """The TCP tracker of a former configuration."""
        tracker = self.extra.get(layout)
        if tracker is None:
            tracker = Tcp(self.tunables) if layout == TCP_LAYOUT else Rfc7857(self.tunables)
            self.extra[layout] = tracker
            self.engine.add_tracker(tracker)
        return tracker

    def take(self, records: list[tuple[int, bytes]]) -> None:
        """Insert these connections; expectations wait for `finish`."""
        for number, data in records:
            kind = record.kind_of(data)
            if kind == record.CONNECTION and number >= self.side:
                self._connection(number - self.side, data)
            elif kind == record.EXPECTATION and number < self.side:
                self.expectations.append(data)
            elif kind != record.LINK:
                self._refuse(UNREADABLE, number - self.side)

    def _refuse(self, reason: str, slot: int) -> None:
        self.refused[reason] += 1
        self.refused_slots.append(slot)

    def _connection(self, slot: int, data: bytes) -> None:
        read = record.decode(data, self)
        if read is None:
            self._refuse(UNREADABLE, slot)
        elif not self.insert(read, slot):
            self._refuse(TAKEN, slot)

    def insert(self, read: Record, slot: int) -> bool:
        """Insert a connection that was read into this slot, or ANY_SLOT; False when the slot or a tuple is taken."""
        ct, table = read.ct, self.core.table
        self._convert(ct)
        remembered, counted = ct.remembered, ct.port_counted
        ct.remembered = ct.port_counted = False
        if not (table.adopt(ct) if slot == ANY_SLOT else table.restore(ct, slot)):
            return False
        self.core.gc.schedule(ct, self.now)
        if not self.origin.exact:
            ct.l4proto.resume(ct)
        if counted:
            self.engine.nat.port_usage.add(ct, None)
        if remembered:
            self.remembered.append(ct)
        if read.master_slot >= 0:
            self.children.append(read)
        if ct.status & IPS_HELPER:
            self.engine.helpers.resume(ct, read.helped)
        self.restored += 1
        return True

    def _convert(self, ct: NfConn) -> None:
        """From times and interfaces of the former process to present ones."""
        origin = self.origin
        ct.born += origin.shift
        ct.timeout += origin.shift
        if not ct.status & IPS_FIXED_TIMEOUT:
            span = ct.l4proto.lifetime(ct)
            latest = max(ct.timeout, self.now + span) if span else ct.timeout + origin.margin
            ct.timeout = min(ct.timeout + origin.margin, latest)
        if origin.links is not None:
            ct.iif = origin.links.get(ct.iif, NO_INTERFACE) if ct.iif > 0 else ct.iif
            ct.oif = origin.links.get(ct.oif, NO_INTERFACE) if ct.oif > 0 else ct.oif

    def finish(self) -> None:
        """Restore what connects connections, and end those whose address is gone."""
        self.join()
        table = self.core.table
        for slot in range(len(table.slots)):
            found = table.slots[slot]
            if found is not None and found.masquerade and not self.has_address(found):
                self.refused[ADDRESS_GONE] += self.core.kill(found, END_ADDRESS_GONE, self.now)
                self.refused_slots.append(slot)

    def join(self) -> None:
        """Restore what connects connections."""
        table, nat = self.core.table, self.engine.nat
        table.fill_free()
        for child in self.children:
            child.ct.master = self._named(child.master_slot, child.master_id)
        self.settle()
        mapping_restore.restore(nat.endpoints, nat.rules, table.slots)
        nat.blocks.claim(table.slots)
        self._expect()
        self.engine.helpers.know_calls([child.ct for child in self.children], self.now)

    def settle(self) -> None:
        """Enter what later connections need to know of these: their ports and their helpers."""
        nat = self.engine.nat
        nat.blocks.now = self.now
        self.remembered.sort(key=_age)
        for ct in self.remembered:
            nat.ports.remember(ct)
        if len(nat.port_usage.outers) != self.outers:  # it counts every port in use
            nat.port_usage.replace_rules(nat.rules.source_rules)
        if self.engine.helpers.in_use:
            add_helpers(self.engine.pipeline, self.engine.helpers)

    def has_address(self, ct: NfConn) -> bool:
        """Whether the outgoing interface of a masqueraded connection has its address."""
        return self.engine.nat.interfaces.owns(ct.oif, tuples.dst(ct.reply))

    def _named(self, slot: int, number: int) -> NfConn | None:
        """The connection with this slot and id."""
        ct = self.core.table.at(slot)
        return ct if ct is not None and ct.id == number else None

    def _expect(self) -> None:
        found = []
        for data in self.expectations:
            slot, number = record.master_of(data)
            master = self._named(slot, number)
            if master is None:
                self.refused[NO_MASTER] += 1
                continue
            known = record.decode_expectation(data, master)
            if known is None:
                self.refused[UNREADABLE] += 1
            else:
                found.append(known)
        found.sort(key=_id)
        expectations = self.core.expectations
        for known in found:
            known.until += self.origin.shift
            expectations.last_id = known.id - 1
            expectations.expect(known, 0, self.now)


def _age(ct: NfConn) -> tuple[int, int]:
    return ct.born, ct.id


def _id(known: Expectation) -> int:
    return known.id
