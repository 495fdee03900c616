"""NFLOG messages, as recorded from a kernel: two copies, one at PREROUTING and one at OUTPUT, and the end."""

import sys

import pytest

from conntrackd_py.const import LOCAL_OUT, PRE_ROUTING
from conntrackd_py.wire.nflog import NO_SEQUENCE, Copies

pytestmark = pytest.mark.skipif(sys.byteorder != "little", reason="the kernel that sent these was little-endian")

FORWARDED = bytes.fromhex(
    "c8000000000400000000000000000000"
    "020024fa080001000800000005000a00000000000800040000000002080002001234567810000800000600000a54a3fb431d000006000f00"
    "0001000006001100000e0000120010001e288934cd6d0a54a3fb431d0800000014000300000000006b01e64f000000000006c1e608000c00"
    "0000000e44000900450000807192400040017eefc0a84d02cb007150080055e6297800014fe6016b00000000bdc106000000000010111213"
    "1415161718191a1b1c1d1e1f20212223"
)
OWN = bytes.fromhex(
    "84000000000400000000000000000000"
    "0a0024fa0800010086dd030005000a0000000000080005000000000308000b000000000008000e000000000008000c00000000103e000900"
    "600dc89700123a4020010db800020000000000000000000120010db80002000000000000000000808000e628297900010001020304050607"
    "080900bc"
)
END = bytes.fromhex("14000000030000000000000000000000000024fa")


def test_several_copies_in_a_datagram() -> None:
    copies = Copies(FORWARDED + OWN + END)
    assert copies.next()
    assert (copies.hook, copies.mark, copies.indev, copies.outdev) == (PRE_ROUTING, 0x12345678, 2, 0)
    assert (copies.sequence, len(copies.payload)) == (14, 64)
    assert copies.payload[:4] == b"\x45\x00\x00\x80", "the length field is of the whole packet"
    assert copies.next()
    assert (copies.hook, copies.mark, copies.indev, copies.outdev) == (LOCAL_OUT, 0, 0, 3)
    assert (copies.sequence, len(copies.payload)) == (16, 58)
    assert not copies.next()
    assert not copies.next()


def test_other_messages_and_copies_without_a_packet_are_passed_over() -> None:
    empty = bytes.fromhex("1c000000000400000000000000000000020024fa0800010008000000")
    copies = Copies(END + empty + OWN)
    assert copies.next()
    assert copies.sequence == 16
    assert not copies.next()


def test_nothing_of_a_copy_is_left_in_the_next_one() -> None:
    bare = bytes.fromhex("1c000000000400000000000000000000020024fa0500090045000000")
    copies = Copies(FORWARDED + bare)
    assert copies.next()
    assert copies.next()
    assert (copies.payload, copies.hook, copies.mark, copies.indev, copies.outdev) == (b"\x45", 0, 0, 0, 0)
    assert copies.sequence == NO_SEQUENCE


@pytest.mark.parametrize("length", range(len(FORWARDED) + len(OWN)))
def test_a_datagram_cut_off_anywhere(length: int) -> None:
    copies = Copies((FORWARDED + OWN)[:length])
    assert copies.next() == (length >= len(FORWARDED))
    assert not copies.next()
