"""Residues modulo 65535 against the loop over words that RFC 1071 describes, and against scapy."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scapy.utils import checksum as scapy_checksum

from conntrackd_py.wire import checksum

WORD = st.integers(0, 0xFFFF)


def by_the_book(data: bytes) -> int:
    """RFC 1071 section 4.1: add words, fold the carries."""
    data += b"\0" * (len(data) % 2)
    total = sum(data[i] << 8 | data[i + 1] for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@given(st.binary(max_size=200))
def test_the_field_is_what_others_compute(data: bytes) -> None:
    """Except for zeros only: their complement is written as 0, the same number in ones' complement."""
    field = checksum.finish(checksum.total(data))
    assert field == scapy_checksum(data) % 0xFFFF
    assert checksum.total(data) == by_the_book(data) % 0xFFFF


@given(st.binary(max_size=200), st.integers(0, 3 * 65535))
def test_a_packet_with_its_checksum_is_valid_and_no_single_change_is(data: bytes, pseudo: int) -> None:
    data += b"\0" * (len(data) % 2)
    field = checksum.finish(checksum.total(data) + pseudo)
    packet = field.to_bytes(2, "big") + data
    assume(any(packet) or pseudo)
    assert checksum.valid(packet, pseudo)
    for at in range(len(packet)):
        assert not checksum.valid(packet[:at] + bytes([packet[at] ^ 0x40]) + packet[at + 1 :], pseudo)


def test_zeros_without_a_pseudo_header_are_not_valid() -> None:
    """All zeros: the sum is 0 instead of 0xffff."""
    assert not checksum.valid(bytes(8), 0)
    assert not checksum.valid(b"", 0)
    assert checksum.valid(b"\xff\xff", 0)


@given(st.lists(WORD, min_size=1, max_size=20), st.data())
def test_an_adjusted_field_is_the_one_computed_anew(words: list[int], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(words) - 1))
    changed = [*words[:at], data.draw(WORD), *words[at + 1 :]]
    field = checksum.finish(sum(words))
    assert checksum.adjust(field, words[at], changed[at]) == checksum.finish(sum(changed))


@pytest.mark.parametrize(("data", "padded"), [(b"\x12", b"\x12\0"), (b"\x12\x34\x56", b"\x12\x34\x56\0")])
def test_an_odd_byte_is_padded_behind(data: bytes, padded: bytes) -> None:
    assert checksum.total(data) == checksum.total(padded)
    assert checksum.valid(data, 0) == checksum.valid(padded, 0)
