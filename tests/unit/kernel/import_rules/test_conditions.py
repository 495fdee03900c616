"""Conditions as sets of packets: both, one without the other, and what a hook knows."""

import pytest

from conntrackd_py.kernel.import_rules.conditions import Conditions, Value, at_hook, combined, families, without
from conntrackd_py.kernel.translate.marks import UntranslatableError


def where(**keys: str) -> Conditions:
    """`!` before the items inverts them."""
    return {key: Value(tuple(text.removeprefix("!").split()), text.startswith("!")) for key, text in keys.items()}


@pytest.mark.parametrize(
    ("key", "one", "other", "both"),
    [
        ("source", "10.0.0.0/8", "10.1.0.0/16", "10.1.0.0/16"),
        ("source", "10.0.0.0/8", "!10.128.0.0/9", "10.0.0.0/9"),
        ("source", "10.0.0.5-10.0.0.20", "10.0.0.9-10.0.0.30", "10.0.0.9-10.0.0.20"),
        ("source", "10.0.0.0/8 192.168.0.0/16", "!10.0.0.0/7", "192.168.0.0/16"),
        ("source", "!10.0.0.0/8", "!192.168.0.0/16", "!10.0.0.0/8 192.168.0.0/16"),
        ("dport", "80 443 1000:2000", "!443 1500:1600", "80 1000:1499 1601:2000"),
        ("dport", "1000:2000", "1500:3000", "1500:2000"),
        ("in_interface", "eth+", "eth0", "eth0"),
        ("in_interface", "eth0 eth1", "!eth1", "eth0"),
        ("proto", "tcp udp", "udp", "udp"),
        ("destination_type", "local", "local", "local"),
        ("mark", "0x1", "0x1", "0x1"),
        ("ct", "state", "state", "state"),
    ],
)
def test_both(key: str, one: str, other: str, both: str) -> None:
    assert combined(where(**{key: one}), where(**{key: other})) == where(**{key: both})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"source": "10.0.0.0/8"}, {"source": "!10.0.0.0/8"}),
        ({"source": "10.0.0.0/8"}, {"source": "fd00::/8"}),
        ({"source": "10.0.0.0/8"}, {"destination": "fd00::/8"}),
        ({"family": "ipv6"}, {"source": "10.0.0.0/8"}),
        ({"dport": "80"}, {"dport": "81"}),
        ({"mark": "0x1"}, {"mark": "!0x1"}),
        ({"in_interface": "eth0"}, {"in_interface": "!eth+"}),
    ],
)
def test_nothing(one: dict[str, str], other: dict[str, str]) -> None:
    assert combined(where(**one), where(**other)) is None


def test_two_ct_expressions_stand_together() -> None:
    one, other = {"ct": Value(("ct state new",))}, {"ct": Value(("ct status dnat",))}
    assert combined(one, other) == {"ct": Value(("ct state new ct status dnat",))}


def test_families() -> None:
    assert families(where(source="10.0.0.1", destination="!10.0.0.2")) == {"ipv4"}
    assert families(where(family="ipv6")) == {"ipv6"}
    assert families({}) == set()


def test_without_one_condition() -> None:
    assert without([where(family="ipv4")], where(in_interface="eth0")) == [where(family="ipv4", in_interface="!eth0")]
    assert without([where(in_interface="eth0")], where(in_interface="eth0")) == []
    assert without([where(in_interface="eth1")], where(in_interface="eth0")) == [where(in_interface="eth1")]


def test_without_several_conditions_the_pieces_do_not_overlap() -> None:
    left = without([where(family="ipv4")], where(proto="tcp", dport="80", in_interface="lan"))
    assert left == [
        where(family="ipv4", in_interface="!lan"),
        where(family="ipv4", in_interface="lan", proto="!tcp"),
        where(family="ipv4", in_interface="lan", proto="tcp", dport="!80"),
    ]


def test_without_an_address_the_other_family_stays() -> None:
    left = without([{}], where(family="ipv4", source="10.0.0.0/8"))
    assert left == [where(family="ipv6"), where(family="ipv4", source="!10.0.0.0/8")]


@pytest.mark.parametrize(
    ("removed", "why"),
    [
        ({"ct": "state"}, "opposite of a ct expression"),
        ({"dport": "80"}, "packets without ports"),
        ({"proto": "!tcp", "dport": "80"}, "packets without ports"),
        ({"in_interface": "eth0"}, "cannot be written in one rule"),
        ({"mark": "0x2"}, "two marks"),
    ],
)
def test_without_is_not_always_possible(removed: dict[str, str], why: str) -> None:
    with pytest.raises(UntranslatableError, match=why):
        without([where(in_interface="eth+", mark="0x1")], where(**removed))


def test_without_has_a_bound() -> None:
    pieces = [where(source=f"10.0.{number}.0/24") for number in range(33)]
    with pytest.raises(UntranslatableError, match="too many"):
        without(pieces, where(source="10.0.0.0/24", destination="10.0.0.1"))


@pytest.mark.parametrize("hook", ["prerouting", "input"])
def test_an_interface_that_a_hook_does_not_know(hook: str) -> None:
    assert at_hook(where(out_interface="eth0"), hook) is None
    assert at_hook(where(out_interface="!eth0"), hook) == {}
    assert at_hook(where(in_interface="eth0"), hook) == where(in_interface="eth0")


def test_output_has_no_incoming_interface() -> None:
    assert at_hook(where(in_interface="eth0"), "output") is None
    assert at_hook(where(in_interface="!eth0"), "output") == {}


@pytest.mark.parametrize(("hook", "key"), [("output", "out_interface"), ("postrouting", "in_interface")])
def test_interfaces_that_the_daemon_does_not_know(hook: str, key: str) -> None:
    with pytest.raises(UntranslatableError):
        at_hook(where(**{key: "eth0"}), hook)
