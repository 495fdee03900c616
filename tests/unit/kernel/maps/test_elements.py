"""Messages with elements, read back attribute by attribute."""

import struct
import sys
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conntrackd_py.engine.mark_maps import FLOWS, LEAVES, SOURCES, Element, leaving
from conntrackd_py.kernel.maps.elements import (
    MOST_IN_A_MESSAGE,
    NFT_MSG_DELSETELEM,
    NFT_MSG_GETSETELEM,
    NFT_MSG_NEWSETELEM,
    counters,
    elements,
    key_and_value,
    listing,
    questions,
    read_back,
    renewal,
    transaction,
)
from conntrackd_py.kernel.netlink import attribute, attributes

BEGIN, END = 0x10, 0x11
TABLES = 10 << 8
FAMILIES = {2: 4, 10: 6}
REQUEST, ACK, ECHO, EXCLUSIVE = 1, 4, 8, 0x600

ADDRESSES = st.sampled_from([(4, "saddr", 4), (4, "daddr", 4), (6, "saddr", 16), (6, "dport", 2), (4, "sport", 2)])
ELEMENTS = st.builds(
    lambda where, mark, value: Element(where[0], where[1], mark, value[: where[2]]),
    ADDRESSES,
    st.integers(0, 0xFFFFFFFF),
    st.binary(min_size=16, max_size=16),
)


def messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """(type, flags, sequence, body) of each."""
    at = 0
    while at < len(data):
        length, kind, flags, sequence, _ = struct.unpack_from("=IHHII", data, at)
        yield kind, flags, sequence, data[at + 16 : at + length]
        at += length
    assert at == len(data)


def elements_in(body: bytes) -> list[Element]:
    fields = dict(attributes(body[4:]))
    assert fields[1] == b"tables\0"
    found = []
    for _, one in attributes(fields[3]):
        parts = dict(attributes(one))
        mark = int.from_bytes(dict(attributes(parts[1]))[1], "little")
        value = dict(attributes(parts[2]))[1] if 2 in parts else b""
        found.append(Element(FAMILIES[body[0]], fields[2][:-1].decode(), mark, value))
    return found


@pytest.mark.parametrize("kind", [NFT_MSG_NEWSETELEM, NFT_MSG_DELSETELEM])
@given(st.lists(ELEMENTS, min_size=1, max_size=20))
def test_one_transaction_says_all_and_its_last_message_is_acknowledged(kind: int, elements: list[Element]) -> None:
    new = kind == NFT_MSG_NEWSETELEM
    begin, *inside, end = messages(transaction("tables", kind, elements, 77))
    assert (begin[0], end[0]) == (BEGIN, END)
    assert all(flags == REQUEST for _, flags, _, _ in (begin, end))
    assert {one[0] for one in inside} == {TABLES | kind}
    assert [flags & ACK != 0 for _, flags, _, _ in inside] == [False] * (len(inside) - 1) + [True]
    assert {flags & ~ACK for _, flags, _, _ in inside} == {REQUEST | EXCLUSIVE if new else REQUEST}
    assert {sequence for _, _, sequence, _ in inside} == {77}
    read = [element for *_, body in inside for element in elements_in(body)]
    wanted = elements if new else [element._replace(value=b"") for element in elements]
    assert sorted(read) == sorted(wanted)


def test_keys_of_several_parts() -> None:
    """Each part begins at a multiple of four bytes. Marks and interfaces are in host order."""
    t = packed("192.0.2.1", "192.0.2.2") + b"\x12\x34\x56\x78\x11"
    mark = (0x2800).to_bytes(4, sys.byteorder)
    padded = t[:8] + b"\x11\0\0\0\x12\x34\0\0\x56\x78\0\0"
    assert key_and_value(Element(4, FLOWS, 0x2800, t)) == (padded, mark)
    index = (3).to_bytes(4, sys.byteorder)
    assert key_and_value(Element(4, LEAVES, 0x2800, leaving(3, t))) == (mark + index + t[:8] + b"\x12\x34\0\0", b"")
    assert key_and_value(Element(4, SOURCES, 0x2800, t[:4])) == (mark + t[:4], b"")


def test_a_tuple_of_ipv6() -> None:
    t = packed("2001:db8::1", "2001:db8::2") + b"\0\x35\x10\0\x06"
    key, _ = key_and_value(Element(6, FLOWS, 1, t))
    assert key == t[:32] + b"\x06\0\0\0\0\x35\0\0\x10\0\0\0"


def packed(*addresses: str) -> bytes:
    return b"".join(ip_address(address).packed for address in addresses)


def test_only_elements_with_a_counter_are_reported() -> None:
    elements = [Element(4, FLOWS, 8, bytes(13)), Element(4, SOURCES, 8, bytes(4))]
    _, *inside, _ = messages(transaction("tables", NFT_MSG_DELSETELEM, elements, 1, echo=True))
    assert [flags & ECHO for _, flags, _, _ in inside] == [ECHO, 0]


def test_a_question_has_an_acknowledgement() -> None:
    ((kind, flags, sequence, body),) = messages(b"".join(questions("tables", [Element(4, FLOWS, 8, bytes(13))], 5)))
    assert (kind, flags, sequence) == (TABLES | NFT_MSG_GETSETELEM, REQUEST | ACK, 5)
    assert dict(attributes(body[4:]))[2] == b"flows\0"


def test_counters_in_a_report() -> None:
    counter = attribute(1, (1500).to_bytes(8, "big")) + attribute(2, (3).to_bytes(8, "big"))
    expression = attribute(1, b"counter\0") + attribute(2, counter)
    element = attribute(1, attribute(1, b"key1")) + attribute(7, expression)
    others = attribute(1, attribute(1, b"key2"))
    body = attribute(1, b"tables\0") + attribute(3, attribute(1, element) + attribute(1, others))
    assert list(counters(body)) == [(b"key1", 3, 1500)]


def test_many_elements_are_spread_over_messages() -> None:
    elements = [Element(6, "saddr", mark, bytes(16)) for mark in range(MOST_IN_A_MESSAGE + 1)]
    _, first, second, _ = messages(transaction("tables", NFT_MSG_NEWSETELEM, elements, 1))
    assert len(elements_in(first[3])) == MOST_IN_A_MESSAGE
    assert len(elements_in(second[3])) == 1
    assert len(first[3]) < 65536


TUPLES = st.sampled_from([(4, 13), (6, 37)]).flatmap(
    lambda shape: st.tuples(st.just(shape[0]), st.binary(min_size=shape[1], max_size=shape[1]))
)


@given(TUPLES, st.integers(0, 0xFFFFFFFF), st.integers(0, 1 << 60), st.integers(0, 1 << 60))
def test_the_kernel_lists_what_was_added(where: tuple[int, bytes], mark: int, packets: int, size: int) -> None:
    family, t = where
    address = 4 if family == 4 else 16
    added = [
        Element(family, FLOWS, mark, t, packets, size),
        Element(family, LEAVES, mark, leaving(3, t)),
        Element(family, SOURCES, mark, t[:address]),
        Element(family, "saddr", mark, t[:address]),
        Element(family, "sport", mark, t[:2]),
    ]
    for one in added:
        _, (_, _, _, body), _ = messages(transaction("tables", NFT_MSG_NEWSETELEM, [one], 1))
        assert list(elements(family, one.map, body[4:])) == [one]
        assert read_back(family, one.map, *key_and_value(one)) == one._replace(packets=0, size=0)


def test_a_list_is_asked_for() -> None:
    ((kind, flags, sequence, body),) = messages(listing("tables", 6, FLOWS, 5))
    assert (kind, flags, sequence, body[0]) == (TABLES | NFT_MSG_GETSETELEM, REQUEST | 0x300, 5, 10)
    assert dict(attributes(body[4:])) == {1: b"tables\0", 2: b"flows\0"}


def test_the_daemon_is_alive_whether_the_kernel_had_forgotten_it_or_not() -> None:
    """A set is emptied without an error, and its element does not exist then."""
    _, *inside, _ = messages(renewal("tables", 9))
    assert [kind & 0xFF for kind, _, _, _ in inside] == [NFT_MSG_DELSETELEM, NFT_MSG_NEWSETELEM] * 2
    assert [3 in dict(attributes(body[4:])) for _, _, _, body in inside] == [False, True] * 2
    assert [flags & ACK for _, flags, _, _ in inside] == [0, 0, 0, ACK]
