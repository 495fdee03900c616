"""The numbers that trackers report for a truncated packet and for a wrong checksum."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.proto.header import truncated, wrong_checksum
from conntrackd_py.proto.standard import standard_protos
from conntrackd_py.reasons import L4_CHECKSUM, L4_TRUNCATED, OK
from conntrackd_py.wire import ip
from conntrackd_py.wire.packet import put16, u16
from tests.support import packets

PROTOS = standard_protos(Tunables())
FIELD = {1: 2, 6: 16, 17: 6, 58: 2, 136: 6}
V4, V6 = ("192.168.1.2", "10.0.0.2"), ("fd00::1", "fd00::2")


def made(family: tuple[str, str], kind: str, data: bytes) -> bytes:
    if kind == "tcp":
        return packets.tcp(*family, 1, 2, "A", data=data)
    if kind == "udp":
        return packets.udp(*family, 1, 2, data)
    if kind == "icmp":
        return packets.icmp(*family, 8 if family == V4 else 128, 0, 7, 7, data)
    body = b"\0\1\0\2\0\0\0\0" + data
    return packets.ip(*family, 136, packets.summed(*family, 136, body, 6))


def parsed(data: bytes) -> Skb:
    skb = Skb(data)
    assert ip.parse(skb) == OK
    return skb


@pytest.mark.parametrize("family", [V4, V6], ids=["v4", "v6"])
@pytest.mark.parametrize("kind", ["tcp", "udp", "udplite", "icmp"])
@given(data=st.binary(max_size=9), wrong=st.integers(1, 0xFFFE))
def test_the_checksum_that_would_be_right_is_right(family: tuple[str, str], kind: str, data: bytes, wrong: int) -> None:
    skb = parsed(made(family, kind, data))
    proto = PROTOS[skb.protonum]
    at = skb.dataoff + FIELD[skb.protonum]
    assume(wrong != u16(skb.data, at))
    broken = parsed(skb.data[:at] + put16(wrong) + skb.data[at + 2 :])
    assert proto.check(broken, True) == L4_CHECKSUM
    assert broken.numbers[0] == wrong
    mended = parsed(skb.data[:at] + put16(broken.numbers[1] or 0xFFFF) + skb.data[at + 2 :])
    assert proto.check(mended, True) == OK


def test_truncated_reports_the_length_and_the_needed_length() -> None:
    skb = parsed(packets.ip(*V4, 6, bytes(8)))
    assert truncated(skb, 20) == L4_TRUNCATED
    assert skb.numbers == (8, 20)


def test_a_checksum_may_cover_only_a_part() -> None:
    """UDP-Lite: bytes after `end` are not summed."""
    whole = parsed(packets.ip(*V4, 136, bytes(8) + b"ab"))
    part = parsed(packets.ip(*V4, 136, bytes(8) + b"xy"))
    for skb in (whole, part):
        assert wrong_checksum(skb, 6, skb.dataoff + 8, 0) == L4_CHECKSUM
    assert whole.numbers == part.numbers
