"""Adjusted packets are those that an end with the other numbers would have sent."""

import pytest

from conntrackd_py.conntrack.seqadj import Corrections
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import POST_ROUTING, PRE_ROUTING
from conntrackd_py.nat.rewrite.seqadj import adjust_ack, adjust_seq
from conntrackd_py.wire import ip
from tests.support import packets

ENDS = {4: ("192.0.2.1", "198.51.100.2"), 6: ("2001:db8::1", "2001:db8::2")}
NOPS = b"\1\1\1"


def skb(data: bytes) -> Skb:
    made = Skb(data)
    made.hook = POST_ROUTING
    assert ip.parse(made) == 0
    return made


def grown(at: int, by: int) -> Corrections:
    made = Corrections()
    made.add(at, by)
    return made


@pytest.mark.parametrize("family", [4, 6])
def test_the_sequence_number(family: int) -> None:
    packet = skb(packets.tcp(*ENDS[family], 1, 2, "PA", seq=2000, ack=7, data=b"abc"))
    adjust_seq(packet, grown(1000, 9))
    assert packet.data == packets.tcp(*ENDS[family], 1, 2, "PA", seq=2009, ack=7, data=b"abc")
    packet = skb(packets.tcp(*ENDS[family], 1, 2, "PA", seq=1000))
    before = packet.data
    adjust_seq(packet, grown(1000, 9))
    assert packet.data is before


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("pad", [b"", NOPS])
def test_what_it_acknowledges(family: int, pad: bytes) -> None:
    """The blocks of SACK too, each edge by itself, at even and odd offsets."""
    made = [
        packets.tcp(*ENDS[family], 1, 2, "A", ack=ack, options=pad + packets.sack(*blocks))
        for ack, blocks in ((900, ((950, 2009), (3009, 4009))), (900, ((950, 2000), (3000, 4000))))
    ]
    packet = skb(made[0])
    adjust_ack(packet, grown(1000, 9))
    assert packet.data == made[1]
    packet = skb(packets.tcp(*ENDS[family], 1, 2, "A", ack=2009))
    adjust_ack(packet, grown(1000, 9))
    assert packet.data == packets.tcp(*ENDS[family], 1, 2, "A", ack=2000)


def test_a_packet_without_ack_acknowledges_nothing() -> None:
    packet = skb(packets.tcp(*ENDS[4], 1, 2, "R", seq=5, ack=2009))
    before = packet.data
    adjust_ack(packet, grown(1000, 9))
    assert packet.data is before


@pytest.mark.parametrize("size", [0, 1, 3, 5, 11, 40, 255])
def test_a_wrong_option_is_left_alone(size: int) -> None:
    options = bytes((5, size)) + b"\xff" * 14
    packet = skb(packets.tcp(*ENDS[4], 1, 2, "A", ack=1, options=options))
    length = len(packet.data)
    adjust_ack(packet, grown(1000, 9))
    assert len(packet.data) == length


@pytest.mark.parametrize("segments", [False, True])
@pytest.mark.parametrize("hook", [PRE_ROUTING, POST_ROUTING])
def test_a_partial_checksum(segments: bool, hook: int) -> None:
    """At PREROUTING the kernel may check it, so it is completed."""
    before, after = (packets.tcp(*ENDS[4], 1, 2, "PA", ack=ack, data=b"abc") for ack in (2009, 2000))
    packet = skb(packets.unfinished(before))
    packet.hook, packet.checksum_partial, packet.segments = hook, True, segments
    adjust_ack(packet, grown(1000, 9))
    partial = segments and hook == POST_ROUTING
    assert packet.data == (packets.unfinished(after) if partial else after)
