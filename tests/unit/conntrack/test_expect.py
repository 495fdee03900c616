"""The bounds of expectations: all of them, one master's, and what is listed."""

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.expect import DESTROY, EVENT_LIMIT, INACTIVE, NEW, Expectation, Expectations
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.proto.generic import Generic
from tests.support.router import source_mask


def master(slot: int) -> NfConn:
    ct = NfConn(b"", b"", Generic(Tunables()), 0)
    ct.slot = slot
    return ct


def t(port: int, source: int = 1) -> bytes:
    return tuples.make(bytes((10, 0, 0, source, 10, 0, 0, 9)), b"\0\7" + port.to_bytes(2, "big"), 17)


def wanted(of: NfConn, port: int, *, until: int = 1000, flags: int = 0, kind: int = 0) -> Expectation:
    return Expectation(of, t(port), source_mask(t(port), address=False), until, flags=flags, kind=kind)


def test_any_source_fits_when_the_mask_says_so() -> None:
    expectations = Expectations(10)
    assert expectations.expect(wanted(master(0), 80), most=0, now=0)
    assert expectations.find(t(81), 0) is None
    found = expectations.find(t(80, source=200), 0)
    assert found is not None
    assert expectations.find(t(80), 0) is None
    assert (expectations.count, expectations.created, expectations.deleted) == (0, 1, 1)


def test_an_expectation_with_a_source_has_its_own_key() -> None:
    """With many expectations at one port, each from another source, a new connection reads only its own."""
    expectations = Expectations(200)
    for source in range(200):
        named = Expectation(master(source), t(80, source), source_mask(t(80), address=True), 1000)
        assert expectations.expect(named, most=0, now=0)
    assert [len(bucket) for bucket in expectations.by_key.values()] == [1] * 200
    assert expectations.known(t(80, 77)) is not None
    found = expectations.find(t(80, 77), 0)
    assert found is not None
    assert found.master.slot == 77
    assert expectations.find(t(80, 77), 0) is None
    assert expectations.count == 199


def test_the_oldest_of_its_kind_makes_room_at_the_masters_limit() -> None:
    expectations = Expectations(10)
    one = master(0)
    for port in (1, 2, 3):
        assert expectations.expect(wanted(one, port), most=2, now=0)
    assert [tuples.l4dst(e.tuple) for e in expectations.all()] == [2, 3]
    assert expectations.expect(wanted(one, 4, kind=1), most=2, now=0)
    assert expectations.count == 3


def test_at_the_limit_it_is_refused_and_counted() -> None:
    expectations = Expectations(2)
    assert expectations.expect(wanted(master(0), 1), most=0, now=0)
    assert expectations.expect(wanted(master(1), 2), most=0, now=0)
    assert not expectations.expect(wanted(master(2), 3), most=0, now=0)
    assert (expectations.refused, expectations.count, len(expectations.by_master)) == (1, 2, 2)


def test_an_equal_one_replaces_it() -> None:
    expectations = Expectations(10)
    one = master(0)
    expectations.expect(wanted(one, 1, until=10), most=0, now=0)
    expectations.expect(wanted(one, 1, until=20), most=0, now=0)
    assert [e.until for e in expectations.all()] == [20]


def test_an_inactive_or_late_one_matches_nothing() -> None:
    expectations = Expectations(10)
    expectations.expect(wanted(master(0), 1, flags=INACTIVE), most=0, now=0)
    expectations.expect(wanted(master(0), 2, until=5), most=0, now=0)
    assert expectations.find(t(1), 0) is None
    assert expectations.find(t(2), 5) is None
    assert expectations.expire(5) == 1
    assert expectations.count == 1


def test_expire_reads_nothing_before_the_earliest_end() -> None:
    expectations = Expectations(10)
    for port, until in ((1, 50), (2, 20), (3, 80)):
        expectations.expect(wanted(master(port), port, until=until), most=0, now=0)
    seen = []
    for now in (19, 20, 49, 50, 79, 80, 90):
        seen.append((expectations.expire(now), expectations.earliest))
    assert seen == [(0, 20), (1, 50), (0, 50), (1, 80), (0, 80), (1, 0), (0, 0)]
    expectations.expect(wanted(master(1), 1, until=200), most=0, now=100)
    assert expectations.earliest == 200


def test_the_end_of_the_master_removes_its_expectations() -> None:
    expectations = Expectations(10)
    one, other = master(0), master(1)
    for port in (1, 2):
        expectations.expect(wanted(one, port), most=0, now=0)
    expectations.expect(wanted(other, 3), most=0, now=0)
    expectations.remove_all_of(one, 0)
    assert [e.master for e in expectations.all()] == [other]
    assert len(expectations.by_key) == 1


def test_an_expectation_event_has_the_time_left() -> None:
    expectations = Expectations(10)
    expectations.events.enabled = True
    expectations.expect(wanted(master(0), 1, until=1000), most=0, now=400)
    expectations.expire(1500)
    assert [(event.kind, event.at, event.timeout) for event in expectations.events.drain()] == [
        (NEW, 400, 600),
        (DESTROY, 1500, 0),
    ]
    assert expectations.events.drain() == []


def test_the_initial_values_of_an_expectation() -> None:
    made = wanted(master(3), 80, until=700, flags=INACTIVE, kind=2)
    assert (made.master.slot, made.until, made.flags, made.kind) == (3, 700, INACTIVE, 2)
    assert (made.helper, made.id) == ("", 0)
    plain = wanted(master(3), 80)
    assert (plain.flags, plain.kind) == (0, 0)


def test_expectation_ids_wrap_around_and_are_never_0() -> None:
    expectations = Expectations(10)
    assert (expectations.count, expectations.last_id, expectations.earliest) == (0, 0, 0)
    assert (expectations.created, expectations.deleted, expectations.refused) == (0, 0, 0)
    expectations.last_id = 0xFFFFFFFE
    for port in (1, 2, 3):
        expectations.expect(wanted(master(0), port), most=0, now=0)
    assert [known.id for known in expectations.all()] == [0xFFFFFFFF, 1, 2]


def test_dropped_expectation_events_are_counted_and_leave_a_gap_in_the_sequence() -> None:
    """While not enabled there are no events, and no gap."""
    expectations = Expectations(EVENT_LIMIT * 2)
    expectations.expect(wanted(master(0), 1), most=0, now=0)
    events = expectations.events
    assert (events.sequence, events.lost, events.drain()) == (0, 0, [])
    events.enabled = True
    for _ in range(EVENT_LIMIT + 2):
        events.report(NEW, 0, expectations.all()[0])
    assert (events.sequence, events.lost) == (EVENT_LIMIT + 2, 2)
    assert [event.sequence for event in events.drain()] == list(range(1, EVENT_LIMIT + 1))
    events.report(DESTROY, 0, expectations.all()[0])
    assert [event.sequence for event in events.drain()] == [EVENT_LIMIT + 3]


def test_one_that_is_extended() -> None:
    """It ends at the other time, and the journal notices; its event says what it was."""
    expectations = Expectations(10)
    expectations.events.enabled = True
    known = wanted(master(0), 80, until=9000, flags=INACTIVE)
    assert expectations.expect(known, most=0, now=0)
    known.flags = 0
    expectations.extend(known, 500)
    assert expectations.changed == 1
    assert [(event.timeout, event.flags) for event in expectations.events.drain()] == [(9000, INACTIVE)]
    assert expectations.expire(499) == 0
    assert expectations.expire(500) == 1
