"""Which rules cover which."""

import pytest

from conntrackd_py.match.address import addresses, network
from conntrackd_py.match.match import Match
from conntrackd_py.match.numbers import Masked
from conntrackd_py.settings.cover import MOST_RULES, Extent, unreachable
from conntrackd_py.settings.load import parse


def covers(first: dict[str, object], second: dict[str, object]) -> bool:
    rules = [{"hook": "forward", "action": "drop"} | keys for keys in (first, second)]
    one, two = parse({"filter": {"rule": rules}}, "FILE").filter.rule
    return Extent(one.match).covers(Extent(two.match))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {}),
        ({}, {"family": "ipv6", "proto": "tcp", "dport": 80, "ct": "state new"}),
        ({"family": "ipv4"}, {"source": "10.0.0.1"}),
        ({"in_interface": "eth+"}, {"in_interface": "eth0"}),
        ({"in_interface": "e+"}, {"in_interface": "eth+"}),
        ({"in_interface": "+"}, {"in_interface": "!eth0"}),
        ({"out_interface": "!eth0"}, {"out_interface": "wan0"}),
        ({"out_interface": "!eth0"}, {"out_interface": "!eth+"}),
        ({"source": "10.0.0.0/8"}, {"source": "10.1.2.3"}),
        ({"source": "!10.0.0.0/8"}, {"source": "192.0.2.1"}),
        ({"source": "!10.1.0.0/16"}, {"source": "!10.0.0.0/8"}),
        ({"destination": "0.0.0.0/0"}, {"destination": "!10.0.0.0/8"}),
        ({"source": "fd00::/8"}, {"source": "fd00::1"}),
        ({"proto": "!udp"}, {"proto": "tcp"}),
        ({"proto": "tcp"}, {"proto": "tcp", "dport": 80}),
        ({"proto": "tcp", "dport": "1000:2000"}, {"proto": "tcp", "dport": "1500:2000"}),
        ({"proto": "tcp", "dport": "!80"}, {"proto": "tcp", "dport": "81:"}),
        ({"ct": "state established,related"}, {"ct": "state established"}),
        ({"ct": "state ! new,invalid"}, {"ct": "state established ct direction reply"}),
        ({"ct": "mark 1"}, {"ct": "state new ct mark 1"}),
        ({"ct": "-m conntrack --ctstate NEW"}, {"ct": "state new"}),
    ],
)
def test_covered(first: dict[str, object], second: dict[str, object]) -> None:
    assert covers(first, second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"family": "ipv4"}, {}),
        ({"family": "ipv4"}, {"family": "ipv6"}),
        ({"in_interface": "eth0"}, {}),
        ({"in_interface": "eth0"}, {"out_interface": "eth0"}),
        ({"in_interface": "eth0"}, {"in_interface": "eth+"}),
        ({"in_interface": "eth0"}, {"in_interface": "!wan0"}),
        ({"in_interface": "!eth0"}, {"in_interface": "e+"}),
        ({"in_interface": "!eth+"}, {"in_interface": "eth0"}),
        ({"in_interface": "!eth+"}, {"in_interface": "!eth0"}),
        ({"source": "10.0.0.0/8"}, {"source": "10.0.0.0/7"}),
        ({"source": "0.0.0.0/0"}, {"source": "::/0"}),
        ({"source": "0.0.0.0/0"}, {}),
        ({"source": "10.0.0.0/8"}, {"destination": "10.0.0.0/8"}),
        ({"proto": "tcp", "dport": "0:65535"}, {"proto": "tcp"}),
        ({"proto": "tcp", "dport": 80}, {"proto": "tcp", "sport": 80}),
        ({"proto": "tcp", "dport": "!80"}, {"proto": "tcp", "dport": "80:81"}),
        ({"proto": "tcp", "dport": 80}, {"proto": "udp", "dport": 80}),
        ({"ct": "state new"}, {}),
        ({"ct": "state established"}, {"ct": "state established,related"}),
        ({"ct": "state new ct mark 1"}, {"ct": "mark 1"}),
        ({"ct": "mark 1"}, {"ct": "mark 2"}),
        ({"ct": "state new"}, {"ct": "-m conntrack --ctstate NEW,SNAT"}),
    ],
)
def test_not_covered(first: dict[str, object], second: dict[str, object]) -> None:
    assert not covers(first, second)


def test_equal_numbers_of_two_families() -> None:
    four, six = (addresses(network(text)) for text in ("0.0.0.1", "::1"))
    assert not Extent(Match(source=four)).covers(Extent(Match(source=six)))
    assert not Extent(Match(source=six)).covers(Extent(Match(source=four)))


def test_unreachable_in_every_place() -> None:
    def covered(first: int, second: int) -> bool:
        return (first, second) in {(0, 2), (1, 2), (0, 3)}

    assert unreachable([[0, 2], [1, 2]], covered) == {2: [0, 1]}
    assert unreachable([[0, 2, 3], [2]], covered) == {3: [0]}
    assert unreachable([[0, 1, 2, 3]], covered) == {2: [0], 3: [0]}


def test_very_many_rules_are_not_compared() -> None:
    place = list(range(MOST_RULES + 1))
    assert max(unreachable([place], lambda first, second: first == 0)) == MOST_RULES - 1


def test_a_mark_is_covered_by_the_same_mark_or_none() -> None:
    one, other = Extent(Match(mark=Masked(1, 0xFF))), Extent(Match(mark=Masked(1, 0xFF, True)))
    assert one.covers(one)
    assert Extent(Match()).covers(one)
    assert not one.covers(Extent(Match()))
    assert not one.covers(other)
