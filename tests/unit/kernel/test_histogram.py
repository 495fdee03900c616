"""Which bucket a time falls into."""

import pytest

from conntrackd_py.kernel.histogram import BOUNDS, Histogram


def test_the_bounds_reach_from_a_microsecond_to_a_tenth_of_a_second() -> None:
    assert (BOUNDS[0], BOUNDS[-1]) == (1_000, 100_000_000)
    assert list(BOUNDS) == sorted(set(BOUNDS))


@pytest.mark.parametrize(("time", "bucket"), [(0, 0), (1_000, 0), (1_001, 1), (100_000_000, 15), (100_000_001, 16)])
def test_a_bound_belongs_to_its_bucket(time: int, bucket: int) -> None:
    histogram = Histogram()
    histogram.observe(time)
    assert histogram.counts.index(1) == bucket
    assert (sum(histogram.counts), histogram.sum) == (1, time)
