"""The numbers of a refusal: the value in the packet, and the limit that it broke (wire/packet.py)."""

import pytest

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import IP_CT_INVALID, NF_ACCEPT, PRE_ROUTING
from conntrackd_py.proto.tcp_states import KIND_ACK, KIND_SYNACK, TCP_CONNTRACK_NONE, TCP_CONNTRACK_SYN_SENT
from conntrackd_py.reasons import (
    ICMP_NO_NEW,
    ICMP_REDIRECT,
    ICMP_TYPE,
    L4_CHECKSUM,
    L4_TRUNCATED,
    SCTP_CHUNKS,
    SCTP_NOT_NEW,
    SCTP_VTAG,
    TABLE_FULL,
    TCP_FLAGS,
    TCP_STATE,
)
from conntrackd_py.wire import sctp as wire
from tests.support import packets
from tests.support.play import CLIENT, LAN, SERVER, Play, accept, tcp

V4, V6 = (CLIENT.v4, SERVER.v4), (CLIENT.v6, SERVER.v6)
UDP, UDPLITE, TCP, SCTP, ICMP, ICMPV6 = 17, 136, 6, 132, 1, 58


def sctp(chunks: bytes) -> bytes:
    """An SCTP packet with these bytes after its header and a correct checksum."""
    body = bytes((0, 1, 0, 2)) + bytes(8) + chunks
    return packets.ip(*V4, SCTP, body[:8] + wire.put_checksum(wire.crc32c(body, 0, len(body))) + chunks)


def ports(length: int) -> bytes:
    """A UDP header with this length field, and eight bytes of data."""
    return bytes((0, 1, 0, 2)) + length.to_bytes(2, "big") + bytes(10)


def header(words: int) -> bytes:
    """A TCP header with this data offset."""
    return bytes(12) + bytes((words << 4, 2)) + bytes(6)


def redirect(size: int, *, ttl: int = 255, source: str = "fe80::1", option: bytes = b"\2\1") -> bytes:
    """An ICMPv6 redirect; size: bytes after the first eight."""
    body = (bytes((137, 0)) + bytes(38) + option + bytes(64))[: 8 + size]
    return packets.ip(source, CLIENT.v6, ICMPV6, packets.summed(source, CLIENT.v6, ICMPV6, body, 2), ttl=ttl)


REFUSED = {
    "UDP header cut off": (packets.ip(*V4, UDP, bytes(7)), L4_TRUNCATED, (7, 8)),
    "UDP length below its header": (packets.ip(*V4, UDP, ports(7)), L4_TRUNCATED, (16, 7)),
    "UDP length beyond the packet": (packets.ip(*V6, UDP, ports(17)), L4_TRUNCATED, (16, 17)),
    "UDP-Lite header cut off": (packets.ip(*V4, UDPLITE, bytes(7)), L4_TRUNCATED, (7, 8)),
    "UDP-Lite coverage below its header": (packets.ip(*V4, UDPLITE, ports(7)), L4_TRUNCATED, (16, 7)),
    "UDP-Lite coverage beyond the packet": (packets.ip(*V6, UDPLITE, ports(17)), L4_TRUNCATED, (16, 17)),
    "UDP-Lite without a checksum": (packets.ip("0.0.0.0", "0.0.0.0", UDPLITE, ports(8)), L4_CHECKSUM, (0, 0xFF5C)),
    "TCP header cut off": (packets.ip(*V4, TCP, bytes(19)), L4_TRUNCATED, (19, 20)),
    "TCP header too short": (packets.ip(*V4, TCP, header(4)), L4_TRUNCATED, (20, 16)),
    "TCP header longer than the packet": (packets.ip(*V6, TCP, header(6)), L4_TRUNCATED, (20, 24)),
    "TCP flags": (packets.tcp(*V4, 1, 2, "SFP"), TCP_FLAGS, (11,)),
    "TCP SYN+ACK first": (packets.tcp(*V4, 1, 2, "SA"), TCP_STATE, (0, KIND_SYNACK, TCP_CONNTRACK_NONE)),
    "SCTP header cut off": (packets.ip(*V4, SCTP, bytes(11)), L4_TRUNCATED, (11, 12)),
    "SCTP without a chunk": (packets.sctp(*V4, 1, 2, 0), SCTP_CHUNKS, ()),
    "SCTP chunk without a length": (sctp(bytes((0, 0, 0, 4, 6, 0, 0, 0))), SCTP_CHUNKS, (6, 1, 0)),
    "SCTP INIT as second chunk": (
        packets.sctp(*V4, 1, 2, 0, (0, b"data"), (1, bytes(16))),
        SCTP_CHUNKS,
        (1, 1, 20),
    ),
    "SCTP COOKIE ACK first": (packets.sctp(*V4, 1, 2, 0, (11, b""), (0, b"x")), SCTP_NOT_NEW, (11,)),
    "SCTP DATA first": (packets.sctp(*V4, 1, 2, 0, (0, b"x"), (3, b"")), SCTP_NOT_NEW, (0,)),
    "SCTP INIT with a tag": (packets.sctp(*V4, 1, 2, 9, (1, bytes(16))), SCTP_VTAG, (9, 0)),
    "SCTP INIT cut off": (packets.sctp(*V4, 1, 2, 0, (1, bytes(12))), L4_TRUNCATED, (28, 32)),
    "ICMP header cut off": (packets.ip(*V4, ICMP, bytes(7)), L4_TRUNCATED, (7, 8)),
    "ICMP of the other version": (packets.ip(*V6, ICMP, bytes((8, 0)) + bytes(6)), ICMP_TYPE, (8, 4, 6)),
    "ICMPv6 of the other version": (packets.ip(*V4, ICMPV6, bytes((128, 0)) + bytes(6)), ICMP_TYPE, (128, 6, 4)),
    "ICMP type that does not exist": (packets.icmp(*V4, 19), ICMP_TYPE, (19, 18)),
    "ICMP reply first": (packets.icmp(*V4, 18), ICMP_NO_NEW, (18,)),
    "redirect cut off": (redirect(31), L4_TRUNCATED, (39, 40)),
    "redirect from another link": (redirect(40, ttl=254), ICMP_REDIRECT, (254, 0xFE80)),
    "redirect from a routable address": (redirect(40, source="fd00::9"), ICMP_REDIRECT, (255, 0xFD00)),
    "redirect without an option": (redirect(32), ICMP_REDIRECT, ()),
    "redirect with half an option": (redirect(33), ICMP_REDIRECT, ()),
    "redirect with an option without length": (redirect(40, option=b"\2\0"), ICMP_REDIRECT, ()),
}


@pytest.mark.parametrize(("data", "reason", "numbers"), REFUSED.values(), ids=REFUSED)
def test_the_numbers_of_a_refusal(data: bytes, reason: int, numbers: tuple[int, ...]) -> None:
    engine = Play(4).engine
    skb = Skb(data, 0, LAN)
    assert engine.handle(skb, PRE_ROUTING, 0) == NF_ACCEPT
    assert (skb.ct, skb.ctinfo, skb.reason, skb.numbers) == (None, IP_CT_INVALID, reason, numbers)
    assert engine.core.stats.reasons[reason] == engine.core.stats.invalid == 1


def test_the_numbers_of_a_full_table(family: int) -> None:
    """Its size and its limit. The only connection is assured, so it is not evicted."""
    play = Play(family, nf_conntrack_max=1)
    for sender, receiver, flags, seq, ack in (
        (CLIENT, SERVER, "S", 1, 0),
        (SERVER, CLIENT, "SA", 7, 2),
        (CLIENT, SERVER, "A", 2, 8),
    ):
        assert play >> tcp(sender, receiver, flags, seq=seq, ack=ack) << accept(reason="ok")
    skb = Skb(tcp(CLIENT, SERVER, "S", sport=5).bytes_for(family), 0, LAN)
    play.engine.handle(skb, PRE_ROUTING, play.now)
    assert (skb.reason, skb.numbers) == (TABLE_FULL, (1, 1))


def test_the_numbers_of_a_wrong_state_are_direction_kind_and_state(family: int) -> None:
    play = Play(family)
    assert play >> tcp(CLIENT, SERVER, "S", seq=1) << accept()
    skb = Skb(tcp(CLIENT, SERVER, "A", seq=2, ack=1).bytes_for(family), 0, LAN)
    play.engine.handle(skb, PRE_ROUTING, play.now)
    assert (skb.reason, skb.numbers) == (TCP_STATE, (0, KIND_ACK, TCP_CONNTRACK_SYN_SENT))
