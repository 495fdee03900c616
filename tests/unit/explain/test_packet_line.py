"""Packets in a line, for every protocol with something to say, whole or only their first bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conntrackd_py.explain import packet_line as packetline
from tests.support import packets
from tests.support.router import CLIENT, CLIENT6, SERVER, SERVER6

UDP = packets.udp(CLIENT, SERVER, 1000, 53, b"twelve bytes")

LINES = [
    (
        packets.tcp(CLIENT, SERVER, 40000, 80, "SA", seq=200, ack=101),
        "tcp 10.0.0.1:40000 > 10.0.0.2:80 [S.] seq 200 ack 101 win 65535 len 0",
    ),
    (
        packets.tcp(CLIENT6, SERVER6, 40000, 80, "S", seq=9, data=b"abc", window=5),
        "tcp [fd00::1]:40000 > [fd00::2]:80 [S] seq 9 win 5 len 3",
    ),
    (UDP, "udp 10.0.0.1:1000 > 10.0.0.2:53 len 12"),
    (packets.icmp(CLIENT, SERVER, 8, 0, 42, 7), "icmp 10.0.0.1 > 10.0.0.2 echo request id 42 seq 7"),
    (packets.icmp(CLIENT6, SERVER6, 129, 0, 42, 7), "icmpv6 fd00::1 > fd00::2 echo reply id 42 seq 7"),
    (
        packets.icmp(SERVER, CLIENT, 3, 3, 0, 0, UDP),
        "icmp 10.0.0.2 > 10.0.0.1 type 3 code 3, about: udp 10.0.0.1:1000 > 10.0.0.2:53",
    ),
    (packets.ip(CLIENT, SERVER, 132, bytes(12) + b"\x01\0\0\x04"), "sctp 10.0.0.1:0 > 10.0.0.2:0 INIT"),
    (packets.ip(CLIENT, SERVER, 89, b"ospf"), "proto 89 10.0.0.1 > 10.0.0.2"),
    (b"\x75", "1 bytes that are no IP packet"),
]


@pytest.mark.parametrize(("data", "line"), LINES, ids=[line[:30] for _, line in LINES])
def test_a_packet_in_a_line(data: bytes, line: str) -> None:
    assert packetline.line(data, len(data)) == line


def test_the_payloads_length_is_known_from_the_headers_alone() -> None:
    data = packets.tcp(CLIENT, SERVER, 1, 2, "A", data=bytes(1000))
    assert packetline.fields(data[:60], len(data))["len"] == 1000


@given(st.sampled_from([data for data, _ in LINES]), st.integers(0, 80))
def test_however_little_there_is(data: bytes, length: int) -> None:
    assert packetline.line(data[:length], len(data))
