"""Expectations and interfaces in the side records, and what does not fit."""

from conntrackd_py.conntrack.journal import read
from conntrackd_py.conntrack.records import record
from conntrackd_py.service.side_records import SideRecords
from tests.support.journals import SEED, SIDE, attach
from tests.support.router import Router


def kinds(router: Router) -> list[int]:
    journal = router.engine.core.journal
    assert journal is not None
    return [record.kind_of(data) for _, data in read(journal.buffer, SEED, 0, SIDE).records]


def test_they_follow_the_tables() -> None:
    router = Router()
    sides = SideRecords(router.engine, attach(router.engine))
    master = router.established(40001, 21)
    known = router.expect(master, 3000)
    router.expect(master, 3001)
    router.engine.set_interface(1, "lan", [], router.now)
    assert sides.pending()
    sides.turn()
    assert not sides.pending()
    assert kinds(router) == [record.EXPECTATION, record.EXPECTATION, record.LINK]
    router.engine.core.expectations.remove(known, router.now)
    router.engine.remove_interface(1, router.now)
    sides.turn()
    assert kinds(router) == [record.EXPECTATION]


def test_what_does_not_fit_is_counted() -> None:
    router = Router()
    sides = SideRecords(router.engine, attach(router.engine))
    master = router.established(40001, 21)
    for port in range(sides.expectations + 2):
        router.expect(master, 3000 + port)
    router.expect(master, 2000, helper="h" * 100)
    for index in range(SIDE):
        router.engine.names[index] = f"lan{index}"
    sides.turn()
    room = SIDE - sides.expectations
    assert (sides.expectations_unwritten, sides.links_unwritten) == (3, SIDE - room)
    assert sides.unwritten == 3 + SIDE - room
    assert len(kinds(router)) == SIDE


def test_an_expectation_that_is_replaced_frees_its_record() -> None:
    router = Router()
    sides = SideRecords(router.engine, attach(router.engine))
    master = router.established(40001, 21)
    for _ in range(3 * SIDE):
        router.expect(master, 3000)
        sides.turn()
    assert kinds(router) == [record.EXPECTATION]


def test_an_expectation_that_is_extended_is_written() -> None:
    router = Router()
    journal = attach(router.engine)
    sides = SideRecords(router.engine, journal)
    router.expect(router.established(40001, 21), 3000)
    sides.turn()
    before = bytes(journal.buffer)
    router.engine.core.expectations.extend(router.engine.core.expectations.all()[0], 5)
    sides.turn()
    assert bytes(journal.buffer) != before
