"""Each field of a match: one packet that fits, one that does not, one without the field."""

import pytest

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.filter import nft
from conntrackd_py.match.address import Addresses, addresses
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.match.match import UNREAD, Match, PacketInfo
from conntrackd_py.match.numbers import Masked, Numbers
from conntrackd_py.wire import ip
from tests.support import packets

A, B = "10.0.0.1", "10.0.0.2"


def packet(data: bytes = b"", indev: int = 1, outdev: int = 2) -> Skb:
    skb = Skb(data or packets.udp(A, B, 1000, 53), 0, indev, outdev)
    ip.parse(skb)
    return skb


def fits(match: Match, skb: Skb) -> bool:
    return match.matches(skb, PacketInfo({1: "eth0", 2: "eth1"}), 0)


def net(low: str, high: str = "", invert: bool = False) -> Addresses:
    return addresses([packets.address(low), packets.address(high or low)], invert)


@pytest.mark.parametrize(
    ("match", "matches"),
    [
        (Match(in_interface=InterfaceNames(["eth0"])), True),
        (Match(in_interface=InterfaceNames(["eth1"])), False),
        (Match(out_interface=InterfaceNames(["eth+"])), True),
        (Match(out_interface=InterfaceNames(["eth1"], invert=True)), False),
        (Match(source=net(A)), True),
        (Match(source=net(B)), False),
        (Match(destination=net("10.0.0.0", "10.0.0.255")), True),
        (Match(destination=net(B, invert=True)), False),
        (Match(source=net("::", invert=True)), False),
        (Match(proto=Numbers([17, 17])), True),
        (Match(proto=Numbers([6, 6])), False),
        (Match(sport=Numbers([1000, 1000])), True),
        (Match(dport=Numbers([53, 53]), sport=Numbers([1, 999])), False),
        (Match(dport=Numbers([53, 53], invert=True)), False),
        (Match(family=4), True),
        (Match(family=6), False),
        (Match(ct=nft.parse("ct state invalid")), True),
        (Match(ct=nft.parse("ct state new")), False),
        (Match(source=net(A), ct=nft.parse("ct state new")), False),
    ],
)
def test_each_match(match: Match, matches: bool) -> None:
    assert fits(match, packet()) == matches


@pytest.mark.parametrize(
    ("proto", "only"),
    [
        (None, -1),
        (Numbers([0, 0]), 0),
        (Numbers([17, 17]), 17),
        (Numbers([17, 17], invert=True), -1),
        (Numbers([6, 17]), -1),
        (Numbers([6, 6, 17, 17]), -1),
    ],
)
def test_the_only_protocol_of_a_match(proto: Numbers | None, only: int) -> None:
    assert Match(proto=proto).only_protocol() == only


@pytest.mark.parametrize("invert", [False, True])
def test_what_a_packet_does_not_have_never_matches(invert: bool) -> None:
    """Not even inverted: no interface at this hook, no ports in ICMP, nothing at all in what cannot be read."""
    ping = packet(packets.icmp(A, B, 8))
    assert not fits(Match(dport=Numbers([53, 53], invert)), ping)
    nameless = packet(indev=0)
    assert not fits(Match(in_interface=InterfaceNames(["eth0"], invert)), nameless)
    nonsense = packet(b"\x10" + bytes(30))
    for match in (
        Match(proto=Numbers([17, 17], invert)),
        Match(source=addresses([b"\0" * 4] * 2)),
    ):
        assert not fits(match, nonsense)


def test_a_number_that_cannot_be_read_matches_only_if_assumed() -> None:
    info = PacketInfo({})
    info.fill(packets.address(A), packets.address(B), UNREAD)
    assert Match(proto=Numbers([17, 17])).fits(info, True)
    assert not Match(proto=Numbers([17, 17])).fits(info, False)
    assert not Match(dport=Numbers([53, 53])).fits(info, True), "absent, not unread"


def test_a_mark_and_a_connection_hold_only_for_a_known_packet() -> None:
    """Without a packet the answer is what the caller assumes."""
    skb = Skb(b"", 0x101)
    assert Match().holds(None, False)
    for match, holds in ((Match(mark=Masked(1, 0xFF)), True), (Match(ct=nft.parse("ct state new")), False)):
        assert match.conditional
        assert match.holds(skb, not holds) is holds
        assert (match.holds(None, True), match.holds(None, False)) == (True, False)
    assert Match(mark=Masked(1, 0xFF)).matches(skb, PacketInfo({}), 0)
    assert not Match(mark=Masked(1, 0xFF, True)).matches(skb, PacketInfo({}), 0)
