"""The fullest of several outer addresses."""

from hypothesis import given
from hypothesis import strategies as st

from conntrackd_py.nat.usage.pool import PoolUsage


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=80))
def test_the_fullest_is_the_maximum(moves: list[tuple[int, bool]]) -> None:
    use, ports = PoolUsage(1, 2), [0, 0, 0, 0]
    for address, more in moves:
        before = ports[address]
        ports[address] = before + 1 if more else max(before - 1, 0)
        if ports[address] != before:
            use.moved(before, ports[address])
        assert (use.ports, use.fullest) == (sum(ports), max(ports))
