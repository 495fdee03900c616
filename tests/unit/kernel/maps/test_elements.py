"""Messages with elements, read back attribute by attribute."""

import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conntrackd_py.engine.mark_maps import Element
from conntrackd_py.kernel.maps.elements import MOST_IN_A_MESSAGE, NFT_MSG_DELSETELEM, NFT_MSG_NEWSETELEM, transaction
from conntrackd_py.kernel.netlink import attributes

BEGIN, END = 0x10, 0x11
TABLES = 10 << 8
FAMILIES = {2: 4, 10: 6}
REQUEST, ACK, EXCLUSIVE = 1, 4, 0x600

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


def test_many_elements_are_spread_over_messages() -> None:
    elements = [Element(6, "saddr", mark, bytes(16)) for mark in range(MOST_IN_A_MESSAGE + 1)]
    _, first, second, _ = messages(transaction("tables", NFT_MSG_NEWSETELEM, elements, 1))
    assert len(elements_in(first[3])) == MOST_IN_A_MESSAGE
    assert len(elements_in(second[3])) == 1
    assert len(first[3]) < 65536
