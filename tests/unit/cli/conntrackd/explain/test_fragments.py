"""Fragments become packets as in the kernel: in any order, once, without overlaps, in time."""

from __future__ import annotations

from itertools import permutations

import pytest

from conntrackd_py.cli.conntrackd.explain.capture import Captured
from conntrackd_py.cli.conntrackd.explain.fragments import INCOMPLETE_LIMIT, PATIENCE, reassembled
from tests.support import packets

V4 = packets.udp("192.168.1.2", "10.0.0.2", 1000, 53, bytes(range(200)))
V6 = packets.udp("fd00::2", "fd00::1", 1000, 53, bytes(range(200)))


def captured(pieces: list[bytes], *, step: int = 1, link: bytes = b"lan") -> list[Captured]:
    return [Captured(number, number * step, data, link=link) for number, data in enumerate(pieces, 1)]


def body(data: bytes) -> bytes:
    """Everything that reassembly must restore: not the IPv4 id, flags and header checksum."""
    return data[:4] + data[8:10] + data[12:] if data[0] >> 4 == 4 else data


@pytest.mark.parametrize("data", [V4, V6])
def test_any_order_gives_the_packet(data: bytes) -> None:
    for order in permutations(packets.fragments(data, 80)):
        *waiting, last = reassembled(captured(list(order)))
        assert [packet.waiting for packet in waiting] == [True, True]
        assert body(last.data) == body(data)
        assert (last.pieces, last.waiting) == ((1, 2, 3), False)


def test_an_extension_header_before_the_fragment_header() -> None:
    options = b"\x11\0" + b"\x01\x04" + bytes(4)  # destination options, then UDP
    data = V6[:4] + (len(V6) - 40 + 8).to_bytes(2, "big") + b"\x3c" + V6[7:40] + options + V6[40:]
    pieces = []
    for piece in packets.fragments(V6, 80):
        longer = (len(piece) - 40 + 8).to_bytes(2, "big")
        pieces.append(piece[:4] + longer + b"\x3c" + piece[7:40] + b"\x2c" + options[1:] + piece[40:])
    assert list(reassembled(captured(pieces)))[-1].data == data


def test_other_packets_are_left_alone() -> None:
    others = captured([V4, b"", b"\x45"])
    assert list(reassembled(others)) == others


def test_fragments_of_two_links_are_two_packets() -> None:
    one, two = (captured(packets.fragments(V4, 80), link=link) for link in (b"lan", b"wan"))
    mixed = [packet for pair in zip(one, two, strict=True) for packet in pair]
    assert [packet.waiting for packet in reassembled(mixed)] == [True] * 4 + [False] * 2


def test_a_repeated_fragment_is_ignored_and_an_overlap_discards_the_packet() -> None:
    first, second, third = packets.fragments(V4, 80)
    assert [packet.waiting for packet in reassembled(captured([first, first, second, third]))] == [True] * 3 + [False]
    longer = packets.fragments(V4, 88)[0]
    assert all(packet.waiting for packet in reassembled(captured([second, longer, third])))


def test_a_packet_that_stays_incomplete_is_given_up() -> None:
    pieces = packets.fragments(V4, 80)
    in_time = reassembled(captured(pieces, step=PATIENCE[4] // 2))
    late = reassembled(captured(pieces, step=PATIENCE[4]))
    assert [packet.waiting for packet in in_time] == [True, True, False]
    assert [packet.waiting for packet in late] == [True, True, True]


def test_the_oldest_incomplete_packet_makes_room() -> None:
    first, *rest = packets.fragments(V4, 80)
    flood = [packets.fragments(V4, 80, 1000 + number)[0] for number in range(INCOMPLETE_LIMIT)]
    assert all(packet.waiting for packet in reassembled(captured([first, *flood, *rest], step=0)))


def test_a_payload_beyond_the_longest_packet_is_discarded() -> None:
    last = packets.fragments(V4, 200)[-1]
    far = last[:6] + (0x1FFF).to_bytes(2, "big") + last[8:]
    assert [packet.waiting for packet in reassembled(captured([far]))] == [True]
