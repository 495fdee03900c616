"""The matches of the packet mark: each set of states, evaluated for every mark of the daemon."""

import re
from itertools import combinations

import pytest

from conntrackd_py.const import IP_CT_ESTABLISHED, IP_CT_ESTABLISHED_REPLY, IP_CT_NEW
from conntrackd_py.engine.mark_codec import MARK_VALID
from conntrackd_py.kernel.translate.marks import (
    CTINFO_OF,
    DIRECTIONS,
    EVERY,
    Marks,
    UntranslatableError,
    ctinfos,
)

SUBSETS = [set(part) for count in range(1, len(EVERY) + 1) for part in combinations(sorted(EVERY), count)]


def matched_by_iptables(text: str, mark: int) -> bool:
    tests = re.findall(r"-m mark( !)? --mark (\w+)/(\w+)", text)
    return all((mark & int(mask, 16) == int(value, 16)) != bool(inverted) for inverted, value, mask in tests)


@pytest.mark.parametrize("mask", [0xFFFFFF00, 0xFF, 0xFF000000, 0x0FF0])
def test_one_rule_of_iptables_matches_any_set_of_states_and_nothing_else(mask: int) -> None:
    marks = Marks(mask)
    shift = marks.shift
    for wanted in SUBSETS:
        text = marks.iptables(wanted)
        seen = {info for info in EVERY if matched_by_iptables(text, (MARK_VALID | info | 0xF0) << shift)}
        assert seen == wanted
        assert not any(matched_by_iptables(text, info << shift) for info in range(8)), "not marked by the daemon"


@pytest.mark.parametrize(
    ("states", "text"),
    [
        ("new", "-m mark --mark 0xa00/0xf00"),
        ("invalid", "-m mark --mark 0xd00/0xf00"),
        ("invalid untracked", "-m mark --mark 0xd00/0xd00"),
        (
            "established related",
            "-m mark --mark 0x800/0x800 -m mark ! --mark 0xa00/0xf00 -m mark ! --mark 0xd00/0xd00",
        ),
        ("new established related", "-m mark --mark 0x800/0x800 -m mark ! --mark 0xd00/0xd00"),
        ("new established related invalid untracked", "-m mark --mark 0x800/0x800"),
    ],
)
def test_the_shortest_match(states: str, text: str) -> None:
    assert Marks(0xFFFFFF00).iptables(ctinfos(states.split(), CTINFO_OF, False)) == text


@pytest.mark.parametrize("mask", [0xFFFFFF00, 0xFF])
def test_nft_lists_the_values(mask: int) -> None:
    marks = Marks(mask)
    for wanted in SUBSETS[:-1]:
        values = {int(value, 16) for value in re.findall(r"0x\w+", marks.nft(wanted))[1:]}
        assert values == {(MARK_VALID | info) << marks.shift for info in wanted}
    assert Marks(0xFF).nft(EVERY) == "meta mark & 0x00000008 == 0x00000008"


def test_inverted_is_every_other_one() -> None:
    assert ctinfos(["established"], CTINFO_OF, True) == EVERY - {IP_CT_ESTABLISHED, IP_CT_ESTABLISHED_REPLY}
    assert ctinfos(["reply"], DIRECTIONS, True) == {0, 1, IP_CT_NEW}


@pytest.mark.parametrize(
    ("name", "why"), [("dnat", "translated"), ("", "an empty name"), ("$states", r"\$states is no state")]
)
def test_what_the_mark_does_not_have(name: str, why: str) -> None:
    with pytest.raises(UntranslatableError, match=why):
        ctinfos(["new", name], CTINFO_OF, False)


def test_packets_without_a_mark_of_the_daemon() -> None:
    marks = Marks(0xFFFFFF00)
    assert marks.unset_iptables() == "-m mark --mark 0x0/0x800"
    assert marks.unset_nft() == "meta mark & 0x00000800 == 0x00000000"
