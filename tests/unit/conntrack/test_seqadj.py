"""Corrections of sequence numbers: what each end counts, both ways, around changes and around the wrap of numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conntrackd_py.conntrack.seqadj import FAR, M32, MOST, Corrections, SeqAdj

STARTS = [1000, 0, M32 - 20, 0x7FFFFFF0]


@pytest.mark.parametrize("start", STARTS)
def test_numbers_before_and_behind_a_change(start: int) -> None:
    """The changed payload itself begins at the same number at both ends."""
    known = Corrections()
    known.add(start, 5)
    assert known.received(start) == start
    assert known.received((start + 1) & M32) == (start + 6) & M32
    assert known.sent((start + 30 + 5) & M32) == (start + 30) & M32
    assert known.sent(start) == start


def test_a_retransmission_counts_once() -> None:
    known = Corrections()
    known.add(100, 3)
    known.add(200, -1)
    for again in (200, 100, 150):
        known.add(again, 7)
    assert (known.positions, known.offsets) == ([100, 200], [0, 3, 2])
    assert [known.received(at) for at in (100, 101, 200, 201)] == [100, 104, 203, 203]


@pytest.mark.parametrize("start", STARTS)
def test_the_oldest_is_merged_into_the_base(start: int) -> None:
    known = Corrections()
    for at in range(MOST + 3):
        known.add((start + at * 50) & M32, 1)
    assert len(known.positions) == MOST
    assert known.offsets[0] == 3
    assert known.received((start + 10_000) & M32) == (start + 10_000 + MOST + 3) & M32


def test_numbers_that_wrap_around_stay_right() -> None:
    """Four gigabytes behind a change, the same number is still behind it."""
    known = Corrections()
    known.add(100, 3)
    for seq in range(100, 2**33, FAR // 2):
        assert known.received((seq + 1) & M32) == (seq + 4) & M32


@given(
    st.integers(0, M32),
    st.lists(st.tuples(st.integers(1, 1 << 20), st.integers(-20, 1 << 16)), max_size=2 * MOST),
    st.integers(1, MOST),
)
def test_in_a_record(start: int, changes: list[tuple[int, int]], most: int) -> None:
    """The newest are as before; what is older has the offset that was before them."""
    known, seq = SeqAdj(), start
    for length, grown in changes:
        seq = (seq + length) & M32
        known.sides[1].add(seq, grown)
    data = b"before" + known.packed(most) + b"behind"
    read = SeqAdj()
    assert read.unpack(data, 6) == len(data) - 6
    assert read.empty == known.empty
    was, side = known.sides[1], read.sides[1]
    assert side.positions == was.positions[-most:]
    assert side.offsets == was.offsets[-len(side.positions) - 1 :]
    for cut in range(6, len(data) - 6):
        assert SeqAdj().unpack(data[:cut], 6) == 0


def test_a_record_with_positions_out_of_order() -> None:
    known = Corrections()
    known.positions, known.offsets = [100, 90], [0, 1, 2]
    assert Corrections().unpack(known.packed(MOST), 0) == 0


@given(st.integers(0, M32), st.lists(st.tuples(st.integers(1, 500), st.integers(-20, 40)), min_size=1, max_size=MOST))
def test_what_the_receiver_acknowledges_is_what_was_sent(start: int, changes: list[tuple[int, int]]) -> None:
    """For the ends of all segments, changed or not."""
    known = Corrections()
    seq, seen = start, start
    for length, by in changes:
        grown = max(by, -length)
        assert known.received(seq) == seen
        if grown:
            known.add(seq, grown)
        seq, seen = (seq + length) & M32, (seen + length + grown) & M32
        assert known.sent(seen) == seq or length + grown == 0
        seq, seen = (seq + 10) & M32, (seen + 10) & M32  # an unchanged segment
        assert known.sent(seen) == seq
