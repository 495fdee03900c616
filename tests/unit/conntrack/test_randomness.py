"""Repeatable randomness: same seed, same numbers, within the bound, evenly spread."""

from hypothesis import given
from hypothesis import strategies as st

from conntrackd_py.conntrack.randomness import Repeatable


@given(st.integers(0, 1 << 64), st.integers(1, 1 << 40))
def test_bounds(seed: int, limit: int) -> None:
    numbers = Repeatable(seed)
    assert all(0 <= numbers.below(limit) < limit for _ in range(20))


@given(st.integers(0, 1 << 64))
def test_the_same_seed_gives_the_same_numbers(seed: int) -> None:
    one, other = Repeatable(seed), Repeatable(seed)
    assert [one.below(1000) for _ in range(10)] == [other.below(1000) for _ in range(10)]


def test_a_seed_of_zero_does_not_stick_at_zero() -> None:
    numbers = Repeatable(0)
    assert len({numbers.below(1 << 30) for _ in range(100)}) > 90


def test_every_number_occurs() -> None:
    numbers = Repeatable(3)
    hits = [0] * 64
    for _ in range(64_000):
        hits[numbers.below(64)] += 1
    assert 800 < min(hits) <= max(hits) < 1200
