"""What the findings take from the configuration: bits of the mark, families, excluded interfaces."""

import pytest

from conntrackd_py.kernel.doctor.findings import Context
from conntrackd_py.kernel.doctor.ruleset import Rule
from conntrackd_py.settings.load import parse


def context(mode: str = "nat", **steering: object) -> Context:
    return Context(parse({"mode": mode, "steering": steering}, "FILE"))


@pytest.mark.parametrize(
    ("mode", "mask", "expected"),
    [
        ("nat", 0xFFFFFF00, (0xFFFFFF00, 0xFF, 0xF00)),
        ("track", 0x0FFFF000, (0x0FFFF000, 0xF0000FFF, 0xF000)),
        ("nat", 0, (0, 0xFFFFFFFF, 0)),
        ("observe", 0xFFFFFF00, (0, 0xFFFFFFFF, 0)),
    ],
)
def test_the_bits_of_the_mark(mode: str, mask: int, expected: tuple[int, int, int]) -> None:
    found = context(mode, mark_mask=mask)
    assert (found.mask, found.own_bits, found.state_bits) == expected


def test_the_marks_of_docs_raw_and_marks() -> None:
    every = {"new", "established", "related", "invalid", "untracked"}
    assert context().marks(every, "nft") == (
        "`meta mark and 0xf00 { 0xa00, 0x800, 0xb00, 0x900, 0xc00, 0xd00, 0xf00 }`"
    )
    assert context().own_mark("nft") == "`meta mark set meta mark and 0xffffff00 or VALUE`"
    assert context().own_mark("iptables") == "`--set-xmark VALUE/0xff`"


def test_families_that_are_steered() -> None:
    found = context(families=["ipv6"])
    assert [found.steered(family) for family in ("ip", "ip6", "inet")] == [False, True, True]


def test_interfaces_that_are_excluded() -> None:
    found = context(exclude_interfaces=["wg+"])
    assert found.excludes(Rule("", in_interface="wg0"))
    assert found.excludes(Rule("", out_interface="wg1"))
    assert not found.excludes(Rule("", in_interface="lo"))
    assert not found.excludes(Rule(""))
