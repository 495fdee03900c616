"""Interface names, plain and inverted, and which names are possible."""

import pytest

from conntrackd_py.match.interface import InterfaceNames, wrong_name


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("eth0", ["eth0"], ["eth1", "eth", "eth00"]),
        ("eth+", ["eth", "eth0", "eth10"], ["et", "wan"]),
        ("+", ["eth0", "x"], []),
    ],
)
def test_an_interface_name(pattern: str, yes: list[str], no: list[str]) -> None:
    plain, inverted = InterfaceNames([pattern]), InterfaceNames([pattern], invert=True)
    assert [plain.has(name) for name in yes + no] == [True] * len(yes) + [False] * len(no)
    assert [inverted.has(name) for name in yes + no] == [False] * len(yes) + [True] * len(no)


@pytest.mark.parametrize(("name", "why"), [("eth0", ""), ("ppp+", ""), ("", "empty"), ("a" * 16, "15"), ("a/b", "not")])
def test_which_names_are_possible(name: str, why: str) -> None:
    assert why in wrong_name(name)
    assert bool(wrong_name(name)) == bool(why)


def test_names() -> None:
    assert [name for name in ("eth0", "eth1", "wan", "") if InterfaceNames(["eth+", "lo"]).has(name)] == [
        "eth0",
        "eth1",
    ]
    assert [name for name in ("eth0", "lo", "wan", "") if InterfaceNames(["eth+", "lo"], True).has(name)] == ["wan"]
    assert InterfaceNames(["+"]).has("anything")
