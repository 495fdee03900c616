"""Lowering the MSS of one packet; whole conversations: tests/conversations/test_mss.py."""

import pytest

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.nat.rewrite.mss import PMTU, Mss, is_syn
from conntrackd_py.wire import checksum, ip
from tests.support import packets

LAN, WAN = 2, 3
ENDS = {4: ("192.168.1.2", "198.51.100.2"), 6: ("fd00:1::2", "2001:db8:2::2")}
MSS_1460 = b"\x02\x04\x05\xb4"


def syn(family: int, flags: str = "S", options: bytes = MSS_1460, data: bytes = b"") -> Skb:
    return parsed(packets.tcp(*ENDS[family], 40000, 80, flags, seq=1, options=options, data=data))


def parsed(data: bytes) -> Skb:
    skb = Skb(data, 0, LAN, WAN)
    assert ip.parse(skb) == 0
    return skb


def clamped(skb: Skb, limit: int = 1000, lan: int = 1500, wan: int = 1500) -> int:
    mss = Mss()
    mss.limit = limit
    mss.mtus = {LAN: lan, WAN: wan}
    mss.clamp(skb)
    return mss.clamped


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    ("flags", "found"), [("S", True), ("SA", True), ("A", False), ("R", False), ("RS", False), ("FA", False)]
)
def test_a_syn(family: int, flags: str, found: bool) -> None:
    assert is_syn(syn(family, flags)) is found
    assert clamped(syn(family, flags)) == found


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(("lan", "wan", "smaller"), [(1500, 1400, 1400), (1300, 1400, 1300), (9000, 1480, 1480)])
def test_the_smaller_link_decides(family: int, lan: int, wan: int, smaller: int) -> None:
    skb = syn(family)
    assert clamped(skb, PMTU, lan, wan) == 1
    assert int.from_bytes(skb.data[-2:], "big") == smaller - (40 if family == 4 else 60)


@pytest.mark.parametrize("mtu", [1, 40, 60])
def test_an_mtu_without_room_for_data_is_ignored(mtu: int) -> None:
    assert clamped(syn(6), PMTU, mtu, 1500) == 0


@pytest.mark.parametrize("family", [4, 6])
def test_a_partial_checksum_becomes_complete(family: int) -> None:
    """The kernel takes that of a returned packet for complete."""
    skb = parsed(packets.unfinished(syn(family, data=b"early").data))
    skb.checksum_partial = True
    assert clamped(skb) == 1
    assert not skb.checksum_partial
    assert checksum.valid(skb.data[skb.dataoff :], ip.pseudo_header(skb))


def test_a_header_that_is_cut_off() -> None:
    skb = syn(4)
    skb.end -= 3
    assert clamped(skb) == 0
    skb.end = skb.dataoff + 10
    assert not is_syn(skb)
