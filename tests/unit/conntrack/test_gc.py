"""The calendar against a naive sweep: no connection ends early or over a page late, no call exceeds its budget."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.gc import HORIZON, NEVER, PAGE, Gc
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPS_CONFIRMED, IPS_DYING
from conntrackd_py.proto.generic import Generic

START = 10_000_000
PLENTY = 1 << 20
GENERIC = Generic(Tunables())


def connection(gc: Gc, timeout: int) -> NfConn:
    ct = NfConn(b"", b"", GENERIC, 0)
    ct.slot = len(gc.slots)
    gc.slots.append(ct)
    ct.status = IPS_CONFIRMED
    ct.timeout = timeout
    return ct


def scheduled(gc: Gc, span: int, now: int = START) -> NfConn:
    ct = connection(gc, now + span)
    gc.schedule(ct, now)
    return ct


def test_it_ends_in_the_page_after_its_timeout() -> None:
    gc = Gc([])
    ct = scheduled(gc, 30_500)
    assert gc.next_due() == START + 31_000
    assert gc.due(START + 30_999, PLENTY) == []
    assert gc.due(START + 31_000, PLENTY) == [ct]
    assert gc.next_due() == NEVER


def test_a_refreshed_connection_is_put_on_a_later_page() -> None:
    """A refresh only changes the timeout."""
    gc = Gc([])
    ct = scheduled(gc, 30_000)
    ct.timeout += 20_000
    assert gc.due(START + 31_000, PLENTY) == []
    assert gc.next_due() == START + 51_000
    assert gc.due(START + 51_000, PLENTY) == [ct]


def test_a_shortened_connection_is_marked_again() -> None:
    """As Conntrack.follow does after a tracker shortened a timeout; the older mark is skipped."""
    gc = Gc([])
    ct = scheduled(gc, 100_000)
    ct.timeout = START + 5_000
    gc.schedule(ct, START)
    assert gc.due(START + 6_000, PLENTY) == [ct]
    ct.status |= IPS_DYING
    assert gc.due(START + 200_000, PLENTY) == []


def test_a_timeout_of_five_days_is_checked_every_horizon() -> None:
    """So a stale mark is never far ahead."""
    gc = Gc([])
    ct = scheduled(gc, 432_000_000)
    now = START
    while gc.next_due() < ct.timeout:
        assert gc.next_due() <= now + HORIZON + PAGE
        now = gc.next_due()
        assert gc.due(now, PLENTY) == []
    assert gc.due(gc.next_due(), PLENTY) == [ct]


def test_dying_connections_are_skipped() -> None:
    gc = Gc([])
    ct = scheduled(gc, 1_000)
    ct.status |= IPS_DYING
    assert gc.due(START + 10_000, PLENTY) == []
    assert gc.next_due() == NEVER


def test_the_mark_of_an_ended_connection_is_harmless_to_the_next_one_in_its_slot() -> None:
    """Also when both are on the same page."""
    gc = Gc([])
    first = scheduled(gc, 5_000)
    second = connection(gc, START + 5_000)
    gc.slots[first.slot], second.slot = second, first.slot
    assert gc.due(START + 6_000, PLENTY) == [], "the mark of the first"
    third = scheduled(gc, 9_000)
    gc.slots[third.slot], second.slot = second, third.slot
    second.timeout = START + 9_000
    gc.schedule(second, START)
    assert gc.due(START + 10_000, PLENTY) == [second], "once, although it has two marks"
    gc.slots[second.slot] = None
    gc.schedule(second, START)
    assert gc.due(START + 10_000, PLENTY) == []
    assert gc.next_due() == NEVER


def test_the_budget_is_kept_and_no_connection_is_lost() -> None:
    gc = Gc([])
    all_of_them = {id(scheduled(gc, span)): span for span in range(0, 10_000, 10)}
    ended: list[int] = []
    for _ in range(100):
        some = gc.due(START + 20_000, 10)
        assert len(some) == 10
        ended += map(id, some)
    assert sorted(ended) == sorted(all_of_them)
    assert gc.due(START + 20_000, 10) == []


def test_a_check_costs_budget_too() -> None:
    """Otherwise one call could move a million refreshed connections."""
    gc = Gc([])
    for _ in range(50):
        scheduled(gc, 1_000).timeout += 10_000
    last = scheduled(gc, 3_000)
    assert [gc.due(START + 5_000, 10) for _ in range(5)] == [[]] * 5
    assert gc.due(START + 5_000, 10) == [last]


@dataclass(frozen=True)
class Life:
    born: int
    refreshes: list[tuple[int, int]]  # ms after birth, new span


LIVES = st.builds(
    Life,
    st.integers(0, 50_000),
    st.lists(st.tuples(st.integers(0, 300_000), st.integers(1, 300_000)), max_size=5),
)


@given(st.lists(LIVES, min_size=1, max_size=10), st.lists(st.integers(1, 40_000), min_size=10, max_size=40))
def test_like_a_naive_sweep(lives: list[Life], steps: list[int]) -> None:
    gc = Gc([])
    orders = sorted(
        (START + life.born + at, i, span)
        for i, life in enumerate(lives)
        for at, span in [(0, 30_000), *sorted(life.refreshes)]
    )
    alive: dict[int, NfConn] = {}
    gone: set[int] = set()
    now = START
    for step in steps:
        while orders and orders[0][0] <= now + step:
            when, i, span = orders.pop(0)
            if i in gone or (i in alive and alive[i].timeout <= when):
                continue
            ct = alive.get(i) or connection(gc, 0)
            alive[i] = ct
            ct.timeout = when + span
            if not ct.due or ct.timeout + PAGE < ct.due:
                gc.schedule(ct, when)
        now += step
        for ct in gc.due(now, PLENTY):
            assert ct.timeout <= now, "ended early"
            i = next(i for i, other in alive.items() if other is ct)
            del alive[i]
            gone.add(i)
        for ct in alive.values():
            assert ct.timeout + PAGE > now, "ended too late"
            assert ct.due <= now + HORIZON + PAGE, "would not be looked at for too long"
