"""The packets the tests are made of (tests/support/packets.py) are, byte for byte, those of scapy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.compat import raw
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.packet import Packet as Layer
from scapy.packet import Raw

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.proto.standard import standard_protos
from conntrackd_py.reasons import L4_CHECKSUM, OK
from conntrackd_py.wire import ip
from conntrackd_py.wire.packet import u16
from tests.support import packets
from tests.support.play import CLIENT, SERVER

U16 = st.integers(0, 0xFFFF)
U32 = st.integers(0, 0xFFFFFFFF)
DATA = st.binary(max_size=40)
FAMILY = st.sampled_from([4, 6])
TRACKERS = standard_protos(Tunables())


def hosts(family: int) -> tuple[str, str]:
    return (CLIENT.v4, SERVER.v4) if family == 4 else (CLIENT.v6, SERVER.v6)


def below(family: int) -> Layer:
    src, dst = hosts(family)
    return IP(src=src, dst=dst, id=1, ttl=64) if family == 4 else IPv6(src=src, dst=dst, hlim=64)


@given(FAMILY, U16, U16, DATA)
def test_udp(family: int, sport: int, dport: int, data: bytes) -> None:
    """But for a computed 0, which scapy writes as ffff: here it then says that there is no checksum."""
    built = raw(below(family) / UDP(sport=sport, dport=dport) / Raw(data))
    ours = packets.udp(*hosts(family), sport, dport, data)
    at = len(ours) - len(data) - 2
    assert u16(ours, at) == u16(built, at) % 0xFFFF
    assert ours[:at] + ours[at + 2 :] == built[:at] + built[at + 2 :]


@given(FAMILY, U16, U16, st.sets(st.sampled_from("FSRPAUEC")), U32, U32, U16, DATA, st.integers(0, 14))
def test_tcp(
    family: int,
    sport: int,
    dport: int,
    flags: set[str],
    seq: int,
    ack: int,
    window: int,
    data: bytes,
    scale: int,
) -> None:
    layer = TCP(sport=sport, dport=dport, flags="".join(flags), seq=seq, ack=ack, window=window)
    layer.options = [("NOP", None), ("WScale", scale), ("NOP", None), ("NOP", None), ("SAckOK", b"")]
    options = packets.window_scale(scale) + packets.SACK_PERMITTED
    ours = packets.tcp(
        *hosts(family), sport, dport, "".join(flags), seq=seq, ack=ack, window=window, data=data, options=options
    )
    assert ours == raw(below(family) / layer / Raw(data))


@given(st.integers(1, 0xFFFF), U16, DATA)
def test_echo(ident: int, sequence: int, data: bytes) -> None:
    for kind in (0, 8):
        built = raw(below(4) / ICMP(type=kind, id=ident, seq=sequence) / Raw(data))
        assert packets.icmp(*hosts(4), kind, 0, ident, sequence, data) == built
    for kind, layer in ((128, ICMPv6EchoRequest), (129, ICMPv6EchoReply)):
        built = raw(below(6) / layer(id=ident, seq=sequence, data=data))
        assert packets.icmp(*hosts(6), kind, 0, ident, sequence, data) == built


@given(st.lists(st.tuples(U32, U32), min_size=1, max_size=4))
def test_sack_blocks(edges: list[tuple[int, int]]) -> None:
    flat = tuple(edge for pair in edges for edge in pair)
    built = raw(TCP(options=[("NOP", None), ("NOP", None), ("SAck", flat)]))
    assert packets.sack(*edges) == built[20:]


@pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"])
@pytest.mark.parametrize("length", [1, 2, 3, 8])
def test_a_broken_packet_is_broken(family: int, length: int) -> None:
    """In its layer 4 checksum, and nowhere else."""
    data = b"x" * length
    src, dst = hosts(family)
    for good in (
        packets.udp(src, dst, 1, 2, data),
        packets.tcp(src, dst, 1, 2, "S", data=data),
        packets.icmp(src, dst, 8 if family == 4 else 128, data=data),
    ):
        assert judged(good) == OK
        assert judged(packets.broken(good)) == L4_CHECKSUM


def judged(data: bytes) -> int:
    skb = Skb(data)
    assert ip.parse(skb) == OK
    return TRACKERS[skb.protonum].check(skb, True)
