"""When a record is written and cleared, the bound of the buffer, and the turns that write refreshed connections."""

from conntrackd_py.conntrack import evict
from conntrackd_py.conntrack.core import Conntrack
from conntrackd_py.conntrack.journal import HEADER_SIZE, RECORD, Journal, read
from conntrackd_py.conntrack.records import record
from conntrackd_py.const import IPS_FIXED_TIMEOUT, IPS_HELPER
from conntrackd_py.engine.change import Change, update
from conntrackd_py.reasons import END_DELETED
from tests.support import packets
from tests.support.core import HERE, NOW, THERE, arrive, confirmed, core_with, query
from tests.support.journals import MOST, SEED, SIDE, STEP, Memory


def core(room: Memory | None = None) -> tuple[Conntrack, Journal]:
    made, room = core_with(), room or Memory()
    made.journal = Journal(room.buffer, room, seed=SEED, side=SIDE, most=MOST)
    return made, made.journal


def numbers(journal: Journal) -> list[int]:
    found = read(journal.buffer, SEED, 0, MOST)
    assert found.damaged == 0
    return [number - SIDE for number, _ in found.records]


def test_a_connection_has_a_record_from_its_confirmation_to_its_end() -> None:
    made, journal = core()
    query(made, 999)
    assert numbers(journal) == []
    ct = confirmed(made, 1000)
    assert numbers(journal) == [ct.slot]
    made.kill(ct, END_DELETED, NOW)
    assert numbers(journal) == []


def test_a_change_replaces_the_record() -> None:
    made, journal = core()
    ct = confirmed(made, 1000)
    arrive(made, packets.udp(THERE, HERE, 53, 1000))
    change = Change()
    change.mark_value = 7
    update(made, ct, change, NOW)
    assert [data for _, data in read(journal.buffer, SEED, 0, MOST).records] == [record.encode(ct)]
    assert journal.written == 3


def test_a_dying_connection_gets_no_record() -> None:
    made, journal = core()
    ct = confirmed(made, 1000)
    made.kill(ct, END_DELETED, NOW)
    made.save(ct)
    assert numbers(journal) == []


def test_the_buffer_grows_with_the_slots() -> None:
    made, journal = core()
    slots = [confirmed(made, 1000 + at).slot for at in range(3 * STEP)]
    assert numbers(journal) == slots
    assert journal.records >= SIDE + 3 * STEP
    assert journal.unwritten == 0


def test_without_room_records_are_counted_and_packets_pass() -> None:
    made, journal = core(Memory(HEADER_SIZE + (SIDE + 2 * STEP) * RECORD))
    connections = [confirmed(made, 1000 + at) for at in range(3 * STEP)]
    assert len(numbers(journal)) + journal.unwritten == 3 * STEP
    assert journal.unwritten > 0
    for ct in connections:
        made.kill(ct, END_DELETED, NOW)
    assert numbers(journal) == []


def test_the_limit_of_records() -> None:
    made, room = core_with(), Memory()
    made.journal = Journal(room.buffer, room, seed=SEED, side=SIDE, most=SIDE + 2)
    for at in range(3):
        confirmed(made, 1000 + at)
    assert made.journal.unwritten == 1


def test_a_record_that_is_too_long_loses_the_helper_and_is_counted() -> None:
    made, journal = core()
    made.write_into(journal)
    ct = confirmed(made, 1000)
    ct.status |= IPS_HELPER
    for name, shortened in (("tftp", 0), ("h" * 300, 1)):
        made.helper_names[ct.slot] = name
        made.save(ct)
        assert journal.shortened == shortened
        ((_, data),) = read(journal.buffer, SEED, 0, MOST).records
        assert data == record.fitted(ct, record.Help(name))[0]


def test_a_turn_writes_what_packets_have_refreshed() -> None:
    made, journal = core()
    old, new = confirmed(made, 1000), confirmed(made, 1001)
    arrive(made, packets.udp(HERE, THERE, 1000, 53), NOW + 9000)
    assert journal.turn(made.table.slots, NOW + 9000, 100, 100) == 1
    assert journal.noted[old.slot] - journal.noted[new.slot] == 9
    assert journal.turn(made.table.slots, NOW + 9000, 100, 100) == 0


def test_a_small_refresh_is_not_written() -> None:
    """An eighth of the remaining time."""
    made, journal = core()
    confirmed(made, 1000)
    arrive(made, packets.udp(HERE, THERE, 1000, 53), NOW + 3000)
    assert journal.turn(made.table.slots, NOW + 3000, 100, 100) == 0


def test_a_shorter_timeout_is_written() -> None:
    made, journal = core()
    ct = confirmed(made, 1000)
    ct.timeout -= 5000
    assert journal.turn(made.table.slots, NOW, 100, 100) == 1


def test_a_turn_is_bounded_and_the_next_one_goes_on() -> None:
    made, journal = core()
    for at in range(10):
        confirmed(made, 1000 + at).timeout += 20_000
    assert journal.turn(made.table.slots, NOW, 4, 100) == 4
    assert journal.turn(made.table.slots, NOW, 100, 3) == 3
    assert journal.turn(made.table.slots, NOW, 100, 100) == 3
    assert journal.written == 20


def test_lag_is_the_longest_of_the_last_round_and_this_one() -> None:
    made, journal = core()
    for at in range(4):
        confirmed(made, 1000 + at)
    assert journal.lag(NOW) == 0
    for second in range(5):
        journal.turn(made.table.slots, NOW + second * 1000, 1, 1)
    assert journal.round == 4000
    assert journal.lag(NOW + 5000) == 4000
    assert journal.lag(NOW + 20_000) == 16_000


def test_a_turn_skips_unconfirmed_and_dying_connections() -> None:
    made, journal = core()
    query(made, 999)
    ct = confirmed(made, 1000)
    ct.timeout += 100_000
    made.kill(ct, END_DELETED, NOW)
    assert journal.turn(made.table.slots, NOW, 100, 100) == 0
    journal.write_all(made.table.slots)
    assert numbers(journal) == []
    evict.expire(made, NOW + 60_000, 100)
    assert journal.turn(made.table.slots, NOW + 60_000, 100, 100) == 0


def test_a_timeout_beyond_all_measure() -> None:
    made, journal = core()
    ct = confirmed(made, 1000)
    ct.timeout = 1 << 60
    ct.status |= IPS_FIXED_TIMEOUT
    made.save(ct)
    assert numbers(journal) == [ct.slot]


def test_side_records() -> None:
    _, journal = core()
    data = record.encode_link(1, "lan0")
    journal.write_side(3, data)
    journal.write_side(3, data)
    assert read(journal.buffer, SEED, 0, SIDE).records == [(3, data)]
    journal.write_side(3, b"")
    journal.write_side(4, b"")
    assert read(journal.buffer, SEED, 0, SIDE).records == []
    journal.write_side(5, data)
    journal.clear_side()
    assert read(journal.buffer, SEED, 0, SIDE).records == []
