"""Which target a new connection gets, by source or at random."""

from collections import Counter

import pytest

from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.nat.range import Range
from conntrackd_py.nat.targets import MOST_TARGETS, MOST_WEIGHT, Target, Targets
from tests.support.packets import address

SOURCES = [number.to_bytes(4, "big") for number in range(3000)]


def targets(weights: list[int], by_source: bool = True) -> Targets:
    ends = [address(f"192.168.1.{number}") for number in range(1, len(weights) + 1)]
    found = [Target(Range(end, end, 80, 80), weight, end.hex()) for end, weight in zip(ends, weights, strict=True)]
    return Targets(found, by_source)


def chosen(of: Targets, sources: list[bytes] = SOURCES) -> list[str]:
    found = [of.choose(source, DICE) for source in sources]
    return [target.name for target in found if target is not None]


DICE = Repeatable(5)


@pytest.mark.parametrize("by_source", [True, False])
@pytest.mark.parametrize("weights", [[1, 1], [1, 2, 7], [MOST_WEIGHT, 1], [1] * MOST_TARGETS])
def test_shares_follow_the_weights(by_source: bool, weights: list[int]) -> None:
    of = targets(weights, by_source)
    found = Counter(chosen(of))
    for target in of.targets:
        share = len(SOURCES) * target.weight / sum(weights)
        assert abs(found[target.name] - share) < 4 * share**0.5 + 3, (target.name, found)


def test_a_new_target_takes_only_what_it_gets() -> None:
    before, after = chosen(targets([1, 2, 3])), chosen(targets([1, 2, 3, 2]))
    new = targets([1, 2, 3, 2]).targets[3].name
    assert all(now in (then, new) for then, now in zip(before, after, strict=True))
    assert new in after


@pytest.mark.parametrize("by_source", [True, False])
def test_none_is_left(by_source: bool) -> None:
    of = targets([1, 5], by_source)
    for target in of.targets:
        target.down = True
    assert chosen(of) == []
    of.targets[1].down = False
    assert set(chosen(of)) == {of.targets[1].name}


def test_a_target_is_named_by_its_address_and_port() -> None:
    target = targets([1]).targets[0]
    one, two = address("192.168.1.1"), address("192.168.1.2")
    assert [target.named(one, port) for port in (0, 80, 81)] == [True, True, False]
    assert not target.named(two, 0)


def test_marks_are_kept() -> None:
    before, after = targets([1, 1]), targets([1, 2, 3])
    before.targets[1].down = True
    after.keep(before)
    assert [target.down for target in after.targets] == [False, True, False]
