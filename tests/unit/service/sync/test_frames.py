"""Frames of the stream: there and back, and what is not believed."""

import pytest

from conntrackd_py.service.sync.frames import CHANGES, END, HEAD, FrameError, Head, pack, unpack

HEADS = Head("nat", CHANGES, b"12345678", 7, 9, -5)
ITEMS = [(0, b"a" * 252), (-3, b""), (2**31 - 1, b"xyz")]


def test_there_and_back() -> None:
    assert unpack(pack(HEADS, ITEMS)) == (HEADS, ITEMS)
    assert unpack(pack(HEADS._replace(kind=END, mode="track"))).items == []


@pytest.mark.parametrize("length", [0, 1, HEAD.size - 1, HEAD.size + 1, HEAD.size + 5, HEAD.size + 100])
def test_a_frame_that_is_cut_off(length: int) -> None:
    with pytest.raises(FrameError):
        unpack(pack(HEADS, ITEMS)[:length])


@pytest.mark.parametrize(("at", "value"), [(0, 0), (4, 200), (5, 9), (6, 3)])
def test_another_magic_version_mode_or_kind(at: int, value: int) -> None:
    data = bytearray(pack(HEADS, ITEMS))
    data[at] = value
    with pytest.raises(FrameError):
        unpack(bytes(data))


def test_a_record_longer_than_any() -> None:
    with pytest.raises(FrameError, match="cut off"):
        unpack(pack(HEADS, [(1, b"x" * 253)]))
