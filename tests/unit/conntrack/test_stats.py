"""One counter for each named reason, end, hook and verdict."""

from conntrackd_py.conntrack.stats import Stats
from conntrackd_py.const import HOOK_NAMES, VERDICT_NAMES
from conntrackd_py.reasons import END_NAMES, INVALID_LIMIT, REASON_NAMES


def test_a_counter_for_every_name() -> None:
    stats = Stats()
    assert stats.ended == [0] * len(END_NAMES)
    assert stats.reasons == [0] * len(REASON_NAMES)
    assert stats.verdicts == [0] * len(HOOK_NAMES) * len(VERDICT_NAMES)
    assert stats.bytes == [0] * len(HOOK_NAMES)


def test_it_has_every_column_of_conntrack_s() -> None:
    columns = "found invalid insert insert_failed drop early_drop error search_restart clash_resolve chaintoolong"
    stats = Stats()
    assert [getattr(stats, column) for column in columns.split()] == [0] * 10


def test_two_routers_do_not_share_counters() -> None:
    first, second = Stats(), Stats()
    first.reasons[1] += 1
    first.ended[0] += 1
    assert second.reasons[1] == second.ended[0] == 0


def test_the_names_are_different() -> None:
    assert len(set(REASON_NAMES)) == len(REASON_NAMES)
    assert len(set(END_NAMES)) == len(END_NAMES)
    assert REASON_NAMES[INVALID_LIMIT] == "tcp_ignored", "the first reason that does not make a packet INVALID"


def test_every_counter_starts_at_0() -> None:
    stats = Stats()
    assert (stats.table_full, stats.unconfirmed_lost, stats.nat_allocations, stats.nat_allocation_failures) == (0,) * 4
