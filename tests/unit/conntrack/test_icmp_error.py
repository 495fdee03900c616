"""The inverted tuple of the packet that an ICMP error quotes."""

import pytest

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.icmp_error import inner_tuple
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.proto.standard import standard_protos
from conntrackd_py.reasons import IP_VERSION
from conntrackd_py.wire import ip
from tests.support import packets

PROTOS = standard_protos(Tunables())
HERE, THERE = {4: "192.0.2.1", 6: "2001:db8::1"}, {4: "192.0.2.2", 6: "2001:db8::2"}
FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"])


def error(family: int, quoted: bytes) -> tuple[Skb, int]:
    """Destination unreachable from THERE to HERE, and the offset of what it quotes."""
    skb = Skb(packets.icmp(THERE[family], HERE[family], 3 if family == 4 else 1, data=quoted))
    assert ip.parse(skb) == 0
    return skb, skb.dataoff + 8


def read(family: int, quoted: bytes) -> bytes:
    return inner_tuple(PROTOS, *error(family, quoted))


@FAMILIES
def test_ports_and_addresses_are_swapped(family: int) -> None:
    t = read(family, packets.udp(HERE[family], THERE[family], 1000, 53, b"query"))
    assert t == tuples.make(packets.address(THERE[family]) + packets.address(HERE[family]), b"\0\x35\3\xe8", 17)


@FAMILIES
def test_eight_bytes_of_layer_4_are_enough(family: int) -> None:
    """RFC 792 asks for no more; TCP's ports are in the first four."""
    whole = packets.tcp(HERE[family], THERE[family], 1000, 80, "S")
    head = 20 if family == 4 else 40
    assert read(family, whole[: head + 8]) == read(family, whole) != b""
    assert read(family, whole[: head + 4]) == read(family, whole)
    assert read(family, whole[: head + 3]) == b""


@FAMILIES
def test_a_quoted_echo_gives_the_tuple_of_its_reply(family: int) -> None:
    request, reply = (8, 0) if family == 4 else (128, 129)
    t = read(family, packets.icmp(HERE[family], THERE[family], request, ident=7))
    assert (tuples.l4src(t), tuples.l4dst(t)) == (7, reply << 8)


@FAMILIES
def test_an_error_about_an_error_gives_no_tuple(family: int) -> None:
    """RFC 1122 3.2.2: it should never have been sent."""
    quoted = packets.icmp(HERE[family], THERE[family], 3 if family == 4 else 1)
    assert read(family, quoted) == b""


@FAMILIES
@pytest.mark.parametrize("quoted", [b"", b"\x45", b"\x45" * 19, b"\x65" * 39, bytes(60)])
def test_what_cannot_be_read(family: int, quoted: bytes) -> None:
    assert read(family, quoted) == b""


@FAMILIES
def test_a_quoted_packet_of_the_other_ip_version_is_not_read(family: int) -> None:
    """Its connection may exist, but no router reports an IPv4 error in ICMPv6, or the reverse."""
    other = 10 - family
    skb, at = error(family, packets.udp(HERE[other], THERE[other], 1000, 53))
    assert inner_tuple(PROTOS, skb, at) == b""
    assert skb.numbers == (IP_VERSION, other, family)


def test_padding_behind_the_error_is_not_quoted() -> None:
    whole = packets.udp(HERE[4], THERE[4], 1000, 53)
    skb, at = error(4, whole[:22])
    skb.data += whole[22:]
    assert inner_tuple(PROTOS, skb, at) == b""
