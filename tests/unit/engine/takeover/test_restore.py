"""What Restore refuses, and how it converts times and interfaces. The rest: tests/conversations/test_restart.py."""

import pytest

from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.records import record
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPS_FIXED_TIMEOUT
from conntrackd_py.engine.engine import Engine
from conntrackd_py.engine.takeover.restore import NO_MASTER, TAKEN, UNREADABLE, Origin, Restore
from tests.support.invariants import check
from tests.support.journals import SIDE, attach, finish, records
from tests.support.router import Router

EXACT = Origin(0, 0, True)


def written(router: Router) -> list[tuple[int, bytes]]:
    journal = router.engine.core.journal or attach(router.engine)
    finish(router.engine)
    return records(journal)


def restore(found: list[tuple[int, bytes]], origin: Origin = EXACT, now: int = 1_000_000) -> Restore:
    restored = Restore(Engine(Tunables(), Repeatable(), mode="track"), Tunables(), SIDE, origin, now)
    restored.take(found)
    restored.finish()
    check(restored.engine)
    return restored


def test_slots_ids_and_free_slots() -> None:
    router = Router()
    for at in range(5):
        router.udp(1000 + at)
    found = [pair for pair in written(router) if pair[0] - SIDE in (1, 3)]
    restored = restore(found)
    table = restored.core.table
    assert [ct.id if ct else 0 for ct in table.slots] == [0, 2, 0, 4]
    assert (table.free, table.last_id, restored.restored) == ([2, 0], 4, 2)


def test_a_tuple_or_slot_that_is_taken() -> None:
    router = Router()
    router.udp(1000)
    ((number, data),) = written(router)
    restored = restore([(number, data), (number, data), (number + 1, data)])
    assert restored.refused[TAKEN] == 2
    assert restored.refused_slots == [0, 1]
    assert len(restored.core.table) == 1


@pytest.mark.parametrize("place", [0, SIDE])
def test_records_of_no_kind_or_in_the_wrong_place(place: int) -> None:
    router = Router()
    router.expect(router.established(), 3000)
    wrong = [(place, b""), (place, b"x" * 80)]
    by_kind = {record.kind_of(data): data for _, data in written(router)}
    wrong.append((place, by_kind[record.EXPECTATION] if place else by_kind[record.CONNECTION]))
    assert restore(wrong).refused[UNREADABLE] == 3


def test_an_expectation_without_its_master() -> None:
    router = Router()
    router.expect(router.established(), 3000)
    only = [pair for pair in written(router) if record.kind_of(pair[1]) == record.EXPECTATION]
    restored = restore(only)
    assert restored.refused[NO_MASTER] == 1
    assert restored.core.expectations.count == 0


def test_times_and_interfaces_of_another_boot() -> None:
    router = Router()
    ct = router.udp(1000)
    found = written(router)
    origin = Origin(-900_000, 0, False, {2: 7})
    known = restore(found, origin, 100_000).core.table.at(0)
    assert known is not None
    assert (known.timeout, known.born) == (ct.timeout - 900_000, ct.born - 900_000)
    assert (known.iif, known.oif) == (-1, 7)


def test_the_margin_gives_no_more_time_than_a_packet_would() -> None:
    router = Router()
    ct = router.udp(1000)
    known = restore(written(router), Origin(0, 60_000, True), router.now + 20_000).core.table.at(0)
    assert known is not None
    assert known.timeout == ct.timeout + 20_000


def test_a_fixed_timeout_has_no_margin() -> None:
    router = Router()
    ct = router.udp(1000)
    ct.status |= IPS_FIXED_TIMEOUT
    known = restore(written(router), Origin(0, 60_000, True)).core.table.at(0)
    assert known is not None
    assert known.timeout == ct.timeout
