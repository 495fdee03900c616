"""Answers to rejected packets, checked by scapy; and packets that get no answer."""

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoRequest, IPv6

from conntrackd_py.filter import reject
from conntrackd_py.filter.reject import KINDS, PORT_UNREACHABLE, TCP_RESET, answer, lacks_source, with_source
from conntrackd_py.wire import checksum, ip
from conntrackd_py.wire.packet import Packet
from tests.support import packets

A4, B4, A6, B6 = "192.0.2.1", "198.51.100.2", "2001:db8::1", "2001:db8:2::2"
FAMILIES = pytest.mark.parametrize(("a", "b"), [(A4, B4), (A6, B6)], ids=["v4", "v6"])


def read(data: bytes) -> Packet:
    packet = Packet(data)
    ip.parse(packet)
    return packet


def answered(data: bytes, kind: int, source: bytes = b"") -> bytes:
    return answer(read(data), kind, source)


def checksums_hold(data: bytes) -> bool:
    packet = read(data)
    body = packet.data[packet.dataoff :]
    cover = 0 if packet.protonum == 1 else ip.pseudo_header(packet)
    return checksum.valid(body, cover) and (packet.version == 6 or checksum.total(data[:20]) == 0)


@FAMILIES
@pytest.mark.parametrize(
    ("flags", "data", "seq", "ack", "answer_flags"),
    [
        ("S", b"", 0, 1001, "RA"),
        ("SF", b"", 0, 1002, "RA"),
        ("S", b"hello", 0, 1006, "RA"),
        ("A", b"", 5000, 0, "R"),
        ("PA", b"hello", 5000, 0, "R"),
    ],
)
def test_a_reset(a: str, b: str, flags: str, data: bytes, seq: int, ack: int, answer_flags: str) -> None:
    """RFC 9293 3.10.7.1: seq of what was acknowledged, or else an ACK of all that came."""
    sent = packets.tcp(a, b, 1234, 80, flags, seq=1000, ack=5000, data=data, options=packets.SACK_PERMITTED)
    got = answered(sent, TCP_RESET)
    assert checksums_hold(got)
    shown = (IP if a == A4 else IPv6)(got)
    assert (shown.src, shown.dst) == (b, a)
    head = shown[TCP]
    assert (head.sport, head.dport, head.seq, head.ack, str(head.flags)) == (80, 1234, seq, ack, answer_flags)
    assert (head.window, head.dataofs, len(got)) == (0, 5, len(got[: 40 if a == A4 else 60]))


@FAMILIES
def test_only_tcp_is_reset_and_a_reset_never(a: str, b: str) -> None:
    assert answered(packets.udp(a, b, 1, 2), TCP_RESET) == b""
    assert answered(packets.tcp(a, b, 1, 2, "R"), TCP_RESET) == b""
    assert answered(packets.tcp(a, b, 1, 2, "RA"), TCP_RESET) == b""


@pytest.mark.parametrize(("name", "kind"), [item for item in KINDS.items() if item[0] != "tcp-reset"])
def test_each_kind_in_both_families(name: str, kind: int) -> None:
    v4 = IP(answered(packets.udp(A4, B4, 1, 2), kind, packets.address(B4)))
    assert (v4[ICMP].type, v4.src, v4.dst) == (3, B4, A4)
    v6 = IPv6(answered(packets.udp(A6, B6, 1, 2), kind, packets.address(B6)))
    assert (v6.src, v6.dst) == (B6, A6)
    codes = {
        "icmp-port-unreachable": 3,
        "icmp-admin-prohibited": 13,
        "icmp-host-unreachable": 1,
        "icmp-net-unreachable": 0,
        "icmp-proto-unreachable": 2,
        "icmp-net-prohibited": 9,
        "icmp-host-prohibited": 10,
        "icmp6-port-unreachable": 4,
        "icmp6-adm-prohibited": 1,
        "icmp6-addr-unreachable": 3,
        "icmp6-no-route": 0,
        "icmp6-policy-fail": 5,
        "icmp6-reject-route": 6,
    }
    code = v6[ICMPv6DestUnreach].code if name.startswith("icmp6") else v4[ICMP].code
    assert code == codes[name]


@FAMILIES
def test_the_packet_is_quoted_as_it_was(a: str, b: str) -> None:
    sent = packets.udp(a, b, 1, 2, b"hello")
    got = answered(sent, PORT_UNREACHABLE, packets.address(b))
    assert got[28 if a == A4 else 48 :] == sent
    assert checksums_hold(got)


@FAMILIES
def test_a_long_packet_is_quoted_in_part(a: str, b: str) -> None:
    got = answered(packets.udp(a, b, 1, 2, bytes(4000)), PORT_UNREACHABLE, packets.address(b))
    assert len(got) == (576 if a == A4 else 1280)
    assert checksums_hold(got)


def test_the_answer_has_the_precedence_of_an_error() -> None:
    sent = bytearray(packets.udp(A4, B4, 1, 2))
    sent[1] = 0x2E
    assert IP(answered(bytes(sent), PORT_UNREACHABLE)).tos == 0xCE


@FAMILIES
def test_the_source_can_be_filled_in_later(a: str, b: str) -> None:
    waiting = answered(packets.udp(a, b, 1, 2), PORT_UNREACHABLE)
    assert lacks_source(waiting)
    complete = answered(packets.udp(a, b, 1, 2), PORT_UNREACHABLE, packets.address(b))
    assert not lacks_source(complete)
    assert with_source(waiting, packets.address(b)) == complete
    assert not lacks_source(answered(packets.tcp(a, b, 1, 2, "S"), TCP_RESET))


UNANSWERED = {
    "an ICMP error": packets.icmp(A4, B4, 3, 3, data=packets.udp(B4, A4, 1, 2)),
    "an unknown ICMP type": packets.icmp(A4, B4, 40),
    "an ICMPv6 error": packets.icmp(A6, B6, 1, 4, data=packets.udp(B6, A6, 1, 2)),
    "a redirect": packets.icmp(A6, B6, 137),
    "half an ICMP header": packets.ip(A4, B4, 1, b"\x08\0\0\0"),
    "to all": packets.udp(A4, "255.255.255.255", 1, 2),
    "to a group": packets.udp(A4, "224.0.0.1", 1, 2),
    "to a group, IPv6": packets.udp(A6, "ff02::1", 1, 2),
    "from no address": packets.udp("0.0.0.0", B4, 1, 2),
    "from no address, IPv6": packets.udp("::", B6, 1, 2),
    "with a wrong checksum": packets.broken(packets.udp(A4, B4, 1, 2, b"x")),
    "TCP with a wrong checksum": packets.broken(packets.tcp(A6, B6, 1, 2, "S", data=b"x")),
    "half a TCP header": packets.ip(A4, B4, 6, bytes(10)),
    "nonsense": b"\x10" + bytes(40),
}


@pytest.mark.parametrize("data", UNANSWERED.values(), ids=UNANSWERED)
@pytest.mark.parametrize("kind", [PORT_UNREACHABLE, TCP_RESET])
def test_no_answer(data: bytes, kind: int) -> None:
    assert answered(data, kind) == b""


@pytest.mark.parametrize(
    "data",
    [packets.icmp(A4, B4, 8), packets.icmp(A6, B6, 128), packets.ip(A4, B4, 47, bytes(8)), packets.udp(A4, B4, 1, 2)],
)
def test_other_packets_are_answered(data: bytes) -> None:
    assert answered(data, PORT_UNREACHABLE) != b""


def test_udp_without_a_checksum_is_answered() -> None:
    data = bytearray(packets.udp(A4, B4, 1, 2, b"x"))
    data[26:28] = b"\0\0"
    assert UDP in IP(bytes(data))
    assert answered(bytes(data), PORT_UNREACHABLE) != b""


def test_an_echo_request_is_quoted() -> None:
    got = IPv6(answered(packets.icmp(A6, B6, 128), reject.ADMIN_PROHIBITED))
    assert ICMPv6EchoRequest in IPv6(bytes(got[ICMPv6DestUnreach].payload))
