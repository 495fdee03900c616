"""The table of a standby follows that of the active engine, and goes on after a takeover."""

from __future__ import annotations

from conntrackd_py.conntrack.feed import ENDED, Feed
from conntrackd_py.conntrack.records import record
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.engine.takeover.restore import UNREADABLE
from conntrackd_py.engine.takeover.standby import FULL, MARGIN, SPARE_SLOTS, Standby
from conntrackd_py.service.side_records import SideRecords
from tests.support.invariants import check
from tests.support.journals import attach
from tests.support.router import Router

SHIFT = 7_000_000  # between the clocks of the two machines


def whole(router: Router) -> None:
    """The table is consistent, but for the empty slots: a standby lists them when it takes over."""
    router.engine.core.table.fill_free()
    check(router.engine)


class Pair:
    """An active router, and a standby that reads its feed."""

    def __init__(self, tunables: Tunables | None = None) -> None:
        self.active = Router()
        self.active.engine.names.update({1: "lan0", 2: "wan0"})
        self.journal = attach(self.active.engine)
        self.sides = SideRecords(self.active.engine, self.journal)
        self.feed = self.journal.feed = Feed()
        self.other = Router(tunables=tunables)
        self.other.now = self.active.now + SHIFT
        self.other.engine.names.update({7: "wan0", 8: "lan0"})
        self.standby = Standby(self.other.engine)

    def follow(self) -> None:
        self.sides.turn()
        for slot, data in self.feed.drain(1 << 20):
            self.standby.put(slot, data, self.other.now, SHIFT)
        whole(self.other)

    def snapshot(self) -> None:
        self.feed.drain(1 << 20)
        self.standby.begin()
        for number, data in self.journal.side_written.items():
            self.feed.add(-1 - number, data)
        for ct in self.active.engine.core.table.slots:
            if ct is not None and not ct.dying:
                self.feed.add(ct.slot, self.journal.record_of(ct))
        self.follow()
        self.standby.end()
        while not self.standby.sweep(3):
            pass
        whole(self.other)

    def tuples(self, router: Router) -> dict[int, bytes]:
        return {ct.slot: ct.original for _, ct in router.engine.core.table.hash.items()}


def test_it_has_the_connections_in_the_same_slots() -> None:
    pair = Pair()
    pair.follow()
    pair.active.udp_answered()
    ct = pair.active.established()
    pair.follow()
    assert pair.tuples(pair.other) == pair.tuples(pair.active)
    known = pair.other.engine.core.table.at(ct.slot)
    assert known is not None
    assert (known.id, known.state, known.status, known.iif, known.oif) == (ct.id, ct.state, ct.status, 8, 7)
    assert ct.timeout + SHIFT <= known.timeout <= ct.timeout + SHIFT + MARGIN


def test_one_that_ends_goes_and_its_slot_and_tuple_can_be_used_again() -> None:
    pair = Pair()
    for port in (1, 2, 3):
        pair.active.udp(port)
    pair.follow()
    engine = pair.active.engine
    engine.flush(pair.active.now)
    pair.active.udp(3)  # in another slot, while the old one is dying
    pair.follow()
    assert pair.tuples(pair.other) == pair.tuples(pair.active)
    assert len(pair.other.engine.core.table.dying) == 0


def test_the_newer_owner_of_a_tuple_wins_whatever_the_order() -> None:
    pair = Pair()
    pair.active.udp(1)
    ((_, data),) = [pair_ for pair_ in pair.feed.drain(9) if pair_[0] >= 0]
    pair.standby.put(0, data, pair.other.now, SHIFT)
    pair.standby.put(5, data, pair.other.now, SHIFT)
    pair.standby.put(0, ENDED, pair.other.now, SHIFT)
    whole(pair.other)
    assert list(pair.tuples(pair.other)) == [5]


def test_a_snapshot_removes_what_is_not_in_it() -> None:
    pair = Pair()
    for port in range(1, 20):
        pair.active.udp(port)
    pair.follow()
    pair.active.engine.flush(pair.active.now)
    pair.active.udp(99)
    pair.snapshot()
    assert pair.tuples(pair.other) == pair.tuples(pair.active)


def test_it_takes_over_and_goes_on() -> None:
    pair = Pair()
    master = pair.active.established(40000, 21)
    pair.active.expect(master, 3000)
    child = pair.active.syn(3001)
    child.master = master
    pair.active.engine.core.save(child)
    pair.follow()
    pair.standby.take_over(pair.other.now, SHIFT)
    other = pair.other.engine
    assert not other.core.standby
    known, parent = other.core.table.at(child.slot), other.core.table.at(master.slot)
    assert known is not None
    assert known.master is parent
    (expected,) = other.core.expectations.all()
    assert (expected.master, expected.until) == (parent, pair.active.now + 300_000 + SHIFT)
    before = len(other.core.table)
    pair.other.established(40000, 21)
    assert len(other.core.table) == before, "its packets find it"
    new = pair.other.udp(77)
    assert new.slot not in (child.slot, master.slot)
    assert new.id > child.id
    check(other)


def test_records_that_cannot_be_used_are_counted() -> None:
    pair = Pair(Tunables(nf_conntrack_max=2))
    for port in (1, 2, 3):
        pair.active.udp(port)
    pair.follow()
    assert pair.standby.refused[FULL] == 1
    pair.standby.put(1, b"nonsense", pair.other.now, 0)
    pair.standby.put(4 + SPARE_SLOTS, b"", pair.other.now, 0)
    pair.standby.put(2**31 - 1, b"", pair.other.now, 0)
    assert pair.standby.refused[UNREADABLE] == 3
    pair.standby.put(-7, b"x" * 40, pair.other.now, 0)
    assert pair.standby.sides == {}


def test_it_writes_its_own_journal_and_no_events() -> None:
    pair = Pair()
    other = pair.other.engine
    other.core.events.enabled = True
    journal = attach(other)
    pair.active.udp(1)
    pair.follow()
    assert journal.written == 1
    pair.active.engine.flush(pair.active.now)
    pair.follow()
    assert other.drain_events() == []
    assert record.kind_of(bytes(journal.buffer[-8:])) == 0


def test_a_connection_that_expired_here_first_can_come_back() -> None:
    pair = Pair()
    ct = pair.active.udp(1)
    pair.follow()
    pair.other.engine.flush(pair.other.now)
    pair.active.engine.core.save(ct)
    pair.follow()
    assert pair.tuples(pair.other) == pair.tuples(pair.active)
