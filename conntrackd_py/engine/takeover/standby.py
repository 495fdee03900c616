"""The engine of a standby: it tracks nothing, and holds the table of the active engine as that one reports it.

- verdict.py gives the verdicts meanwhile.
- A record goes into the slot that it has in the active engine; whatever is there or has its tuples gives way. There is
  no event. A timeout gets MARGIN: packets refresh a connection without a record.
- `begin` and `end` enclose a snapshot. Afterwards `sweep` removes the connections that were not in it.
- After `take_over` the engine is an ordinary one.
"""

from typing import Final, final

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.feed import ENDED
from conntrackd_py.conntrack.records import record
from conntrackd_py.conntrack.records.record import Record
from conntrackd_py.engine.engine import Engine
from conntrackd_py.engine.takeover.restore import TAKEN, UNREADABLE, Origin, Restore

MARGIN: Final = 20_000  # ms: SLACK and a round of the journal of the active engine
MOST_SLOTS: Final = 1 << 24  # without a limit of the table
SPARE_SLOTS: Final = 1 << 16  # of unconfirmed and dying connections, beyond the limit
FULL: Final = "table_full"


@final
class Standby:
    """refused: records by reason. seen: of the snapshot that is coming in, by slot."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.core = engine.core
        self.restore = Restore(engine, engine.core.tunables, 0, Origin(0, MARGIN, False, {}), 0)
        self.children: dict[int, Record] = {}  # by slot
        self.sides: dict[int, bytes] = {}
        self.refused = {UNREADABLE: 0, TAKEN: 0, FULL: 0}
        self.seen = bytearray()
        self.snapshot = False  # one comes in
        self.swept = -1  # slot at which `sweep` continues; -1: nothing to sweep
        engine.core.standby = True

    def begin(self) -> None:
        """A snapshot begins."""
        self.snapshot, self.swept = True, -1
        self.seen = bytearray(len(self.core.table.slots))
        self.sides = {}

    def end(self) -> None:
        """It is complete."""
        if self.snapshot:
            self.swept = 0

    def sweep(self, budget: int) -> bool:
        """Look at so many slots; True when all have been."""
        slots = self.core.table.slots
        if self.swept < 0:
            return not self.snapshot
        stop = min(self.swept + budget, len(slots))
        for slot in range(self.swept, stop):
            ct = slots[slot]
            if ct is not None and (slot >= len(self.seen) or not self.seen[slot]):
                self._vacate(ct)
        self.swept = stop
        if stop < len(slots):
            return False
        self.snapshot, self.swept, self.seen = False, -1, bytearray()
        return True

    def put(self, slot: int, data: bytes, now: int, shift: int) -> None:
        """The newest record of a slot, or ENDED. shift: ms to add to its times."""
        if slot < 0:
            self._put_side(slot, data)
            return
        if slot >= (self.core.limit * 2 + SPARE_SLOTS if self.core.limit else MOST_SLOTS):
            self.refused[UNREADABLE] += 1
            return
        if self.snapshot:
            if slot >= len(self.seen):
                self.seen.extend(bytes(slot + 4096 - len(self.seen)))
            self.seen[slot] = 1
        present = self.core.table.at(slot)
        if present is not None:
            self._vacate(present)
        if data != ENDED:
            self.restore.now, self.restore.origin.shift = now, shift
            self._insert(slot, data)

    def _insert(self, slot: int, data: bytes) -> None:
        read = record.decode(data, self.restore)
        if read is None:
            self.refused[UNREADABLE] += 1
            return
        ct, table = read.ct, self.core.table
        for t in (ct.original, ct.reply):
            owner = table.find(t)
            if owner is not None:
                self._vacate(owner)  # its own record says so later, or has said it
        if self.core.limit and len(table) >= self.core.limit:
            self.refused[FULL] += 1
        elif not self.restore.insert(read, slot):
            self.refused[TAKEN] += 1
        else:
            self._inserted(slot, ct)

    def _inserted(self, slot: int, ct: NfConn) -> None:
        restore = self.restore
        for mapped in restore.remembered:
            self.engine.nat.ports.remember(mapped)
        for child in restore.children:
            self.children[slot] = child
        restore.remembered, restore.children = [], []
        self.core.save(ct)

    def _vacate(self, ct: NfConn) -> None:
        self.children.pop(ct.slot, None)
        self.core.forget(ct)

    def _put_side(self, number: int, data: bytes) -> None:
        kind = record.kind_of(data)
        self.sides.pop(number, None)
        links = self.restore.origin.links
        if kind == record.LINK and links is not None:
            index, name = record.decode_link(data)
            links.pop(index, None)
            for present, known in self.engine.names.items():
                if known == name:
                    links[index] = present
        elif kind == record.EXPECTATION and len(self.sides) < self.core.expectations.limit:
            self.sides[number] = data

    def take_over(self, now: int, shift: int) -> None:
        """The engine tracks from now on."""
        restore = self.restore
        restore.now, restore.origin.shift = now, shift
        restore.children = list(self.children.values())
        restore.expectations = list(self.sides.values())
        self.engine.nat.port_usage.replace_rules(self.engine.nat.rules.source_rules)
        restore.join()
        self.children, self.sides, self.snapshot, self.swept = {}, {}, False, -1
        self.core.standby = False
