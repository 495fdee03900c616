"""Slices of outer addresses: computed from the rule alone, in both directions (RFC 7422)."""

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from conntrackd_py.match.address import Addresses
from conntrackd_py.match.match import Match
from conntrackd_py.nat.carrier.deterministic import inside_of, shape_of, slice_of
from conntrackd_py.nat.range import Range
from conntrackd_py.nat.rules import NAT_SNAT, NatRule


def packed(number: int, length: int = 4) -> bytes:
    return number.to_bytes(length, "big")


def rule(first: int, hosts: int, outer: int, addresses: int, ports: tuple[int, int], length: int = 4) -> NatRule:
    source = Addresses([packed(first, length), packed(first + hosts - 1, length)])
    to = Range(packed(outer, length), packed(outer + addresses - 1, length), *ports)
    made = NatRule(NAT_SNAT, Match(source=source), to)
    made.deterministic = True
    return made


def test_the_slices_of_a_small_network() -> None:
    made = rule(100, 6, 500, 2, (1024, 65535))
    assert shape_of(made) == (21504, 3)
    assert [slice_of(made, packed(host)) for host in range(99, 107)] == [
        None,
        (packed(500), 1024, 22527),
        (packed(500), 22528, 44031),
        (packed(500), 44032, 65535),
        (packed(501), 1024, 22527),
        (packed(501), 22528, 44031),
        (packed(501), 44032, 65535),
        None,
    ]
    assert slice_of(made, ip_address("::64").packed) is None
    assert inside_of(made, packed(501), 22528) == packed(104)
    assert inside_of(made, packed(502), 22528) is None
    assert inside_of(made, packed(501), 1023) is None


def test_a_rule_without_slices() -> None:
    made = rule(100, 6, 500, 2, (1024, 65535))
    made.deterministic = False
    assert shape_of(made) == (0, 0)
    assert slice_of(made, packed(100)) is None
    assert inside_of(made, packed(500), 1024) is None


@given(
    st.sampled_from((4, 16)),
    st.integers(1, 2000),
    st.integers(1, 300),
    st.integers(1, 1024),
    st.integers(16, 65535),
    st.data(),
)
def test_both_directions_agree(
    length: int, hosts: int, addresses: int, low: int, high: int, data: st.DataObject
) -> None:
    """What an inside address gets leads back to it; every other port leads nowhere or to the host that has it."""
    made = rule(1 << 24, hosts, 1 << 28, addresses, (low, max(low, high)), length)
    ports, _ = shape_of(made)
    host = packed((1 << 24) + data.draw(st.integers(0, hosts - 1)), length)
    own = slice_of(made, host)
    assert (own is None) == (ports == 0)
    outer, first, last = own or (b"", 1, 0)
    assert {inside_of(made, outer, port) for port in (first, last) if own} <= {host}
    assert own is None or last - first + 1 == ports
    outer, port = packed((1 << 28) + data.draw(st.integers(0, addresses)), length), data.draw(st.integers(0, 65535))
    owner = inside_of(made, outer, port)
    theirs = slice_of(made, owner) if owner is not None else None
    assert owner is None or (theirs is not None and theirs[0] == outer and theirs[1] <= port <= theirs[2])
