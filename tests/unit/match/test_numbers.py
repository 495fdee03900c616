"""Sets of ranges, plain and inverted, in canonical form."""

import pytest

from conntrackd_py.match.numbers import Masked, Numbers, exactly, numbers


@pytest.mark.parametrize("invert", [False, True])
def test_numbers_include_their_ends(invert: bool) -> None:
    found = Numbers([2, 3, 7, 7], invert)
    assert [number for number in range(10) if found.has(number) != invert] == [2, 3, 7]


@pytest.mark.parametrize(
    ("bounds", "invert", "one_form"),
    [
        ([5, 9, 1, 1], False, ([1, 1, 5, 9], False)),
        ([1, 2, 3, 4], False, ([1, 4], False)),
        ([1, 8, 2, 3], False, ([1, 8], False)),
        ([1, 2, 4, 5], False, ([1, 2, 4, 5], False)),
        ([0, 9], True, ([10, 255], False)),
        ([9, 255], True, ([0, 8], False)),
        ([3, 9], True, ([3, 9], True)),
        ([0, 255], True, ([0, 255], True)),
    ],
)
def test_canonical_form(bounds: list[int], invert: bool, one_form: tuple[list[int], bool]) -> None:
    found = numbers(bounds, invert, 255)
    assert (found.bounds, found.invert) == one_form
    pairs = [(bounds[at], bounds[at + 1]) for at in range(0, len(bounds), 2)]
    for number in range(256):
        assert found.has(number) == (any(low <= number <= high for low, high in pairs) != invert)


class Counted(int):
    """A number that counts how often numbers are compared with it."""

    compared = 0

    def __lt__(self, other: int) -> bool:
        Counted.compared += 1
        return int(self) < other

    def __le__(self, other: int) -> bool:
        Counted.compared += 1
        return int(self) <= other


def test_a_large_set_is_searched_in_few_steps() -> None:
    """A packet is compared with every rule of its chain; a set with thousands of values needs a binary search."""
    found = numbers([Counted(value) for value in range(0, 20_000, 10) for _ in range(2)], False, 1 << 32)
    Counted.compared = 0
    assert found.has(19_990)
    assert not found.has(19_991)
    assert Counted.compared <= 2 * (len(found.bounds).bit_length() + 1)


def test_values_of_a_bit_mask_have_no_scale() -> None:
    assert exactly([0, 0], True).bounds == [0, 0]


@pytest.mark.parametrize(
    ("bounds", "invert", "within"), [([6, 6], False, True), ([6, 7], False, False), ([6, 6, 17, 17], False, True)]
)
def test_a_set_within_another(bounds: list[int], invert: bool, within: bool) -> None:
    assert Numbers(bounds, invert).within((6, 17)) is within
    assert not Numbers(bounds, True).within((6, 17))


@pytest.mark.parametrize(("number", "has"), [(0x12, True), (0x1012, True), (0x13, False), (0x2, False)])
def test_bits_of_a_mark(number: int, has: bool) -> None:
    assert Masked(0x12, 0xFF).has(number) is has
    assert Masked(0x12, 0xFF, True).has(number) is not has
