"""The layout of a tuple: every accessor against its field."""

import pytest

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.const import AF_INET, AF_INET6

A4, B4 = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
A6, B6 = bytes(range(16)), bytes(range(16, 32))
PORTS = b"\x9c\x40\x00\x50"  # 40000, 80


@pytest.mark.parametrize(("a", "b", "l3num"), [(A4, B4, AF_INET), (A6, B6, AF_INET6)], ids=["v4", "v6"])
def test_every_accessor_reads_its_field(a: bytes, b: bytes, l3num: int) -> None:
    t = tuples.make(a + b, PORTS, 17)
    assert t == a + b + PORTS + b"\x11"
    assert tuples.address_length(t) == len(a)
    assert tuples.l3num(t) == l3num
    assert tuples.src(t) == a
    assert tuples.dst(t) == b
    assert tuples.l4(t) == PORTS
    assert tuples.l4src(t) == 40000
    assert tuples.l4dst(t) == 80
    assert tuples.protonum(t) == 17


def test_lengths() -> None:
    assert len(tuples.make(A4 + B4, PORTS, 0)) == 13
    assert len(tuples.make(A6 + B6, PORTS, 255)) == tuples.V6_LENGTH


@pytest.mark.parametrize(("a", "b"), [(A4, B4), (A6, B6)], ids=["v4", "v6"])
def test_changing_one_end_leaves_the_other(a: bytes, b: bytes) -> None:
    t = tuples.make(a + b, PORTS, 6)
    assert tuples.swapped(t, b"\0\x50\x9c\x40") == tuples.make(b + a, b"\0\x50\x9c\x40", 6)
    assert tuples.with_src(t, b, 1234) == tuples.make(b + b, b"\x04\xd2\x00\x50", 6)
    assert tuples.with_dst(t, a, b"\1\2\3\4") == tuples.make(a + a, b"\1\2\3\4", 6)


@pytest.mark.parametrize(("a", "b"), [(A4, B4), (A6, B6)], ids=["v4", "v6"])
def test_halves(a: bytes, b: bytes) -> None:
    t = tuples.with_zone(tuples.make(a + b, PORTS, 6), 3)
    assert tuples.source_key(t) == a + PORTS[:2] + b"\x06\x00\x03"
    assert tuples.destination_key(t, False) == b + PORTS[2:] + b"\x06\x00\x03"
    assert tuples.destination_key(t, True) == a + b + PORTS[2:] + b"\x06\x00\x03"
    assert tuples.with_protonum(bytes(len(t)), t) == bytes(len(a + b) + 4) + b"\x06\x00\x03"
