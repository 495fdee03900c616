"""TCP options as scapy builds them, whole and in pieces."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.compat import raw
from scapy.layers.inet import TCP

from conntrackd_py.wire import tcp

U32 = st.integers(0, 0xFFFFFFFF)
PADDING = [("NOP", None), ("MSS", 1460), ("Timestamp", (1, 2))]
Option = tuple[str, object]


def header(options: list[Option]) -> bytes:
    return bytes(raw(TCP(options=options)))


def stop(data: bytes) -> int:
    return tcp.data_offset(data, 0)


def read_syn(options: list[Option]) -> tuple[int, bool]:
    data = header(options)
    return tcp.syn_options(data, tcp.HEADER, stop(data))


def read_sack(options: list[Option], ack: int) -> int:
    data = header(options)
    return tcp.highest_sack(data, tcp.HEADER, stop(data), ack)


@given(
    st.lists(st.sampled_from(PADDING), max_size=2),
    st.lists(st.sampled_from(PADDING), max_size=1),
    st.one_of(st.none(), st.integers(0, 255)),
    st.booleans(),
)
def test_a_syn_offers_scale_and_sack(before: list[Option], after: list[Option], scale: int | None, sack: bool) -> None:
    offered: list[Option] = [("SAckOK", b"")] if sack else []
    if scale is not None:
        offered.append(("WScale", scale))
    expected = tcp.NO_SCALE if scale is None else min(scale, tcp.MAX_SCALE)
    assert read_syn([*before, *offered, *after]) == (expected, sack)


def test_no_options() -> None:
    assert read_syn([]) == (tcp.NO_SCALE, False)
    assert read_sack([], 17) == 17


def test_the_header_length_counts_options() -> None:
    assert stop(header([])) == 20
    assert stop(header([("MSS", 1460)])) == 24
    assert stop(header([("NOP", None)] * 40)) == 60


@pytest.mark.parametrize(
    ("options", "read"),
    [
        (b"\x00\x03\x03\x07", (tcp.NO_SCALE, False)),  # behind the end of the list
        (b"\x04\x02\x03\x00", (tcp.NO_SCALE, True)),  # a length below 2: what came before counts
        (b"\x04\x02\x03\x03", (tcp.NO_SCALE, True)),  # reaching beyond the header
        (b"\x01\x01\x01\x03", (tcp.NO_SCALE, False)),  # a kind without its length
        (b"\x03\x04\x07\x00", (tcp.NO_SCALE, False)),  # a scale of the wrong size
        (b"\x04\x03\x00\x01", (tcp.NO_SCALE, False)),  # a permission of the wrong size
        (b"\x03\x03\x02\x03\x03\x05\x01\x01", (5, False)),  # twice: the last, as the kernel reads
    ],
)
def test_reading_ends_at_the_first_malformed_option(options: bytes, read: tuple[int, bool]) -> None:
    assert tcp.syn_options(options, 0, len(options)) == read


@given(st.lists(st.tuples(U32, st.integers(0, 0x7FFFFFFF)), min_size=1, max_size=4), U32)
def test_the_highest_right_edge_ahead_of_the_ack(blocks: list[tuple[int, int]], ack: int) -> None:
    """Edges within half the sequence space ahead of ack count as beyond it, the others as old."""
    edges = tuple(word for left, ahead in blocks for word in (left, (ack + ahead) & 0xFFFFFFFF))
    expected = (ack + max(ahead for _, ahead in blocks)) & 0xFFFFFFFF
    assert read_sack([("NOP", None), ("NOP", None), ("SAck", edges)], ack) == expected


@pytest.mark.parametrize("ack", [0, 1000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_an_old_edge_changes_nothing(ack: int) -> None:
    assert read_sack([("SAck", ((ack - 20) & 0xFFFFFFFF, (ack - 10) & 0xFFFFFFFF))], ack) == ack
    assert read_sack([("SAck", ((ack - 10) & 0xFFFFFFFF, ack))], ack) == ack


def test_timestamps_alone_are_the_fast_case() -> None:
    assert read_sack([("NOP", None), ("NOP", None), ("Timestamp", (0xFFFFFFFF, 0xFFFFFFFF))], 5) == 5
    assert read_sack([("NOP", None), ("NOP", None), ("Timestamp", (9, 9)), ("SAck", (6, 9))], 5) == 9


@pytest.mark.parametrize("size", [2, 3, 9, 11, 17])
def test_a_sack_option_of_an_impossible_size_is_ignored(size: int) -> None:
    options = bytes((5, size)) + struct.pack(">IIII", 100, 200, 300, 400)
    assert tcp.highest_sack(options, 0, len(options), 50) == 50


@given(st.binary(max_size=40), U32)
def test_any_bytes(options: bytes, ack: int) -> None:
    """Nothing is read beyond `stop`."""
    scale, _ = tcp.syn_options(options, 0, len(options))
    assert tcp.NO_SCALE <= scale <= tcp.MAX_SCALE
    assert 0 <= (tcp.highest_sack(options, 0, len(options), ack) - ack) & 0xFFFFFFFF < 0x80000000


@pytest.mark.parametrize(
    ("options", "offset"),
    [
        (b"\x02\x04\x05\xb4", 2),
        (b"\1\x02\x04\x05\xb4", 3),
        (b"\x03\x03\x07\x02\x04\x05\xb4\x02\x04\x01\x01", 5),
        (b"\x00\x02\x04\x05\xb4", 0),
        (b"\x02\x04\x05", 0),
        (b"\x02\x03\x05\x02\x04\x05\xb4", 5),
        (b"", 0),
    ],
)
def test_where_the_mss_stands(options: bytes, offset: int) -> None:
    assert tcp.mss_at(options, 0, len(options)) == offset
