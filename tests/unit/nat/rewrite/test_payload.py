"""Changed payloads: lengths and checksums are those of a packet that was made so."""

import pytest

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import LOCAL_IN, POST_ROUTING
from conntrackd_py.nat.rewrite.payload import LONGEST, put, replace
from conntrackd_py.wire import ip
from tests.support import packets

ENDS = {4: ("192.0.2.1", "198.51.100.2"), 6: ("2001:db8::1", "2001:db8::2")}
TEXTS = (b"", b"a", b"PORT 1,2,3", b"x" * 1401)


def skb(data: bytes, hook: int = POST_ROUTING) -> Skb:
    made = Skb(data)
    made.hook = hook
    assert ip.parse(made) == 0
    return made


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("before", TEXTS)
@pytest.mark.parametrize("after", TEXTS)
def test_tcp_and_udp(family: int, before: bytes, after: bytes) -> None:
    ends = ENDS[family]
    options = packets.sack((1, 2))
    packet = skb(packets.tcp(*ends, 1, 2, "PA", seq=5, data=before, options=options))
    assert replace(packet, packet.end - len(before), after)
    assert packet.data == packets.tcp(*ends, 1, 2, "PA", seq=5, data=after, options=options)
    assert (packet.end, packet.length) == (len(packet.data), len(packet.data))
    packet = skb(packets.udp(*ends, 1, 2, before))
    assert replace(packet, packet.end - len(before), after)
    assert packet.data == packets.udp(*ends, 1, 2, after)


def test_udp_without_a_checksum_stays_so() -> None:
    plain = packets.udp(*ENDS[4], 1, 2, b"abc")
    packet = skb(plain[:26] + b"\0\0" + plain[28:])
    assert replace(packet, 28, b"abcdef")
    longer = packets.udp(*ENDS[4], 1, 2, b"abcdef")
    assert packet.data == longer[:26] + b"\0\0" + longer[28:]


def test_what_follows_the_packet_is_cut_off() -> None:
    packet = skb(packets.udp(*ENDS[4], 1, 2, b"abc") + b"padding")
    assert replace(packet, 28, b"de")
    assert packet.data == packets.udp(*ENDS[4], 1, 2, b"de")


def test_a_packet_that_would_be_too_long_does_not_change() -> None:
    packet = skb(packets.udp(*ENDS[4], 1, 2, b"abc"))
    before = packet.data
    assert not replace(packet, 28, bytes(LONGEST - 27))
    assert packet.data == before
    assert replace(packet, 28, bytes(LONGEST - 28))


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(("segments", "hook"), [(True, POST_ROUTING), (True, LOCAL_IN), (False, POST_ROUTING)])
def test_a_partial_checksum(family: int, segments: bool, hook: int) -> None:
    """It stays partial, and right, only in a super-packet that leaves."""
    before, after = (packets.tcp(*ENDS[family], 1, 2, "PA", data=data) for data in (b"abc", b"defghij"))
    packet = skb(packets.unfinished(before), hook)
    packet.checksum_partial, packet.segments = True, segments
    assert replace(packet, packet.end - 3, b"defghij")
    partial = segments and hook == POST_ROUTING
    assert packet.checksum_partial == partial
    assert packet.data == (packets.unfinished(after) if partial else after)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("odd", [0, 1])
def test_bytes_of_the_header(family: int, odd: int) -> None:
    """Also at odd offsets, where options may stand."""
    pad = b"\1" * (2 + odd)
    options = [pad + bytes((5, 10)) + edges + b"\0" * (1 - odd + 1) for edges in (b"abcdefgh", b"abXXXXgh")]
    before, after = (packets.tcp(*ENDS[family], 1, 2, "A", options=one) for one in options)
    packet = skb(before)
    put(packet, packet.dataoff + 20 + len(pad) + 2 + 2, b"XXXX")
    assert packet.data == after
