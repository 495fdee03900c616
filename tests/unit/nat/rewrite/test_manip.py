"""Rewriting: there and back is the identity, and every checksum is the one scapy computes."""

import struct

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scapy.compat import raw
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet as Layer

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import (
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_TCP,
    IPPROTO_UDP,
    IPPROTO_UDPLITE,
    MANIP_DST,
    MANIP_SRC,
)
from conntrackd_py.nat.rewrite import manip
from conntrackd_py.proto.standard import standard_protos
from conntrackd_py.reasons import OK
from conntrackd_py.wire import checksum, ip
from conntrackd_py.wire.packet import u16
from tests.support import packets

TRACKERS = standard_protos(Tunables())
SRC = {4: "192.168.1.2", 6: "fd00:1::2"}
DST = {4: "198.51.100.2", 6: "2001:db8:2::2"}
FAMILY = st.sampled_from([4, 6])
FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"])
WAYS = st.sampled_from([MANIP_SRC, MANIP_DST])
PORT = st.integers(0, 0xFFFF)
SUM_AT = {IPPROTO_TCP: 16, IPPROTO_UDP: 6, IPPROTO_UDPLITE: 6, IPPROTO_ICMP: 2, IPPROTO_ICMPV6: 2}


def parsed(data: bytes) -> Skb:
    skb = Skb(data)
    assert ip.parse(skb) == OK
    return skb


def tuple_of(skb: Skb) -> bytes:
    return tuples.make(ip.addresses(skb), TRACKERS[skb.protonum].l4(skb), skb.protonum)


def inverse(t: bytes) -> bytes:
    return tuples.swapped(t, TRACKERS[tuples.protonum(t)].invert(tuples.l4(t)))


def translated(skb: Skb, target: bytes, way: int) -> Skb:
    """skb given the source, or destination, of the tuple `target`."""
    moved = parsed(skb.data)
    manip.translate(moved, inverse(target), way, TRACKERS[skb.protonum].ports)
    return parsed(moved.data)


def sum_of(skb: Skb) -> int:
    return u16(skb.data, skb.dataoff + SUM_AT[skb.protonum])


def sums_are_right(skb: Skb) -> bool:
    return TRACKERS[skb.protonum].check(skb, True) == OK and (
        skb.version == 6 or checksum.total(skb.data[: (skb.data[0] & 15) * 4]) == 0
    )


def scapy_agrees(data: bytes) -> bool:
    """Whether scapy, made to compute every checksum again, gets the same bytes."""
    layer: Layer = IP(data) if data[0] >> 4 == 4 else IPv6(data)
    below = layer
    while below:
        for name in ("chksum", "cksum"):
            if name in below.fields:
                delattr(below, name)
        below = below.payload
    return bool(raw(layer) == data)


@st.composite
def sent(draw: st.DrawFn) -> Skb:
    """A packet of any protocol that NAT rewrites, of any length."""
    family, proto = draw(FAMILY), draw(st.sampled_from(sorted(SUM_AT)))
    src, dst = SRC[family], DST[family]
    data = draw(st.binary(max_size=33))
    if proto == IPPROTO_TCP:
        return parsed(packets.tcp(src, dst, draw(PORT), draw(PORT), "A", data=data))
    if proto == IPPROTO_UDP:
        return parsed(packets.udp(src, dst, draw(PORT), draw(PORT), data))
    if proto == IPPROTO_UDPLITE:
        return parsed(udplite(src, dst, draw(PORT), draw(PORT), data, draw(st.integers(8, 8 + len(data)))))
    return parsed(packets.icmp(src, dst, 8 if family == 4 else 128, 0, draw(PORT), draw(PORT), data))


def udplite(src: str, dst: str, sport: int, dport: int, data: bytes, coverage: int) -> bytes:
    body = struct.pack(">HHHH", sport, dport, coverage, 0) + data
    pseudo = checksum.total(packets.address(src) + packets.address(dst)) + 136 + len(body)
    field = checksum.finish(checksum.total(body[:coverage]) + pseudo) or 0xFFFF
    return packets.ip(src, dst, 136, body[:6] + struct.pack(">H", field) + body[8:])


def moved_to(skb: Skb, address: bytes, choice: int, way: int) -> bytes:
    """The tuple of skb with another address and port (or ICMP id) at one end."""
    t = tuple_of(skb)
    if way == MANIP_SRC:
        return tuples.with_src(t, address, choice)
    if TRACKERS[skb.protonum].ports:
        return tuples.with_dst(t, address, tuples.l4(t)[:2] + choice.to_bytes(2, "big"))
    return tuples.with_dst(tuples.with_src(t, tuples.src(t), choice), address, choice.to_bytes(2, "big") + t[-3:-1])


@given(sent(), WAYS, st.data())
def test_there_and_back(skb: Skb, way: int, data: st.DataObject) -> None:
    n = 4 if skb.version == 4 else 16
    target = moved_to(skb, data.draw(st.binary(min_size=n, max_size=n)), data.draw(PORT), way)
    out = translated(skb, target, way)
    assert tuple_of(out) == target
    assert sums_are_right(out)
    assert len(out.data) == len(skb.data)
    back = translated(out, tuple_of(skb), way)
    assert tuple_of(back) == tuple_of(skb)
    assert sums_are_right(back)
    at = skb.dataoff + SUM_AT[skb.protonum]
    assert back.data[:at] + back.data[at + 2 :] == skb.data[:at] + skb.data[at + 2 :]
    assert sum_of(back) % 0xFFFF == sum_of(skb) % 0xFFFF  # 0 and ffff are one number


# scapy has no layer for UDP-Lite; test_there_and_back verifies its sum.
@given(sent().filter(lambda skb: skb.protonum != IPPROTO_UDPLITE), WAYS, PORT)
def test_checksums_are_those_computed_anew(skb: Skb, way: int, choice: int) -> None:
    address = packets.address("203.0.113.9" if skb.version == 4 else "2001:db8:1::9")
    out = translated(skb, moved_to(skb, address, choice, way), way)
    assume(sum_of(out) % 0xFFFF)  # the sum 0 has two spellings
    assert scapy_agrees(out.data)


@FAMILIES
@given(PORT, st.binary(max_size=5))
def test_a_udp_packet_without_a_checksum_stays_without(family: int, choice: int, data: bytes) -> None:
    body = struct.pack(">HHHH", 1, 2, 8 + len(data), 0) + data
    skb = parsed(packets.ip(SRC[family], DST[family], 17, body))
    out = translated(skb, moved_to(skb, packets.address(DST[family]), choice, MANIP_SRC), MANIP_SRC)
    assert sum_of(out) == 0
    assert out.data[out.dataoff + 8 :] == data


@FAMILIES
@pytest.mark.parametrize("lite", [False, True], ids=["udp", "udplite"])
def test_a_checksum_that_comes_out_as_zero_is_written_as_ones(family: int, lite: bool) -> None:
    """Zero means no checksum, which UDP-Lite forbids (RFC 768, RFC 3828 3.1)."""
    ends = SRC[family], DST[family], 1, 2, b"data"
    skb = parsed(udplite(*ends, 12) if lite else packets.udp(*ends))
    # A source port larger by what the field still holds makes the sum come out as zero.
    choice = (1 + sum_of(skb)) % 0xFFFF
    out = translated(skb, moved_to(skb, packets.address(SRC[family]), choice, MANIP_SRC), MANIP_SRC)
    assert sum_of(out) == 0xFFFF
    assert sums_are_right(out)


def test_protocols_without_ports_change_address_only() -> None:
    skb = parsed(packets.ip(SRC[4], DST[4], 50, bytes(range(30))))
    target = tuples.with_src(tuple_of(skb), packets.address("203.0.113.9"), 0)
    out = translated(skb, target, MANIP_SRC)
    assert out.data[20:] == skb.data[20:]
    assert ip.addresses(out)[:4] == packets.address("203.0.113.9")
    assert checksum.total(out.data[:20]) == 0


def test_options_and_padding_are_kept() -> None:
    plain = packets.udp(SRC[4], DST[4], 1, 2, b"data")
    head = b"\x46" + plain[1:2] + (36).to_bytes(2, "big") + plain[4:10] + b"\0\0" + plain[12:20] + b"\1\1\1\1"
    head = head[:10] + checksum.finish(checksum.total(head)).to_bytes(2, "big") + head[12:]
    skb = parsed(head + plain[20:] + b"padding")
    out = translated(skb, moved_to(skb, packets.address("203.0.113.9"), 9, MANIP_SRC), MANIP_SRC)
    assert sums_are_right(out)
    assert out.data[20:24] == b"\1\1\1\1"
    assert out.data.endswith(b"datapadding")


# --- errors -----------------------------------------------------------------------------------------------


def error_about(quoted: bytes, src: str, dst: str) -> Skb:
    return parsed(packets.icmp(src, dst, 3 if ":" not in src else 1, data=quoted))


@FAMILIES
@pytest.mark.parametrize("kept", [0, 4, 8, 9, 33], ids=lambda n: f"{n} bytes of layer 4")
def test_an_error_quotes_what_its_receiver_sent(family: int, kept: int) -> None:
    """The outside host quotes the translated packet; the inside host must recognise its own."""
    router = "203.0.113.1" if family == 4 else "2001:db8:1::1"
    head = 20 if family == 4 else 40
    mine = packets.udp(SRC[family], DST[family], 1000, 53, b"q" * 25)
    theirs = packets.udp(router, DST[family], 5000, 53, b"q" * 25)
    skb = error_about(theirs[: head + kept], DST[family], router)
    original = tuple_of(parsed(mine))
    done = manip.translate_error(skb, skb.dataoff + 8, original, MANIP_DST, True)
    assert done
    out = parsed(skb.data)
    assert ip.addresses(out) == packets.address(DST[family]) + packets.address(SRC[family])
    assert sums_are_right(out)
    quoted = out.data[out.dataoff + 8 :]
    assert quoted == mine[: head + kept]


@FAMILIES
def test_an_error_whose_quotation_cannot_be_read_is_not_rewritten(family: int) -> None:
    original = tuple_of(parsed(packets.udp(SRC[family], DST[family], 1000, 53)))
    skb = error_about(b"\x45" * 10, DST[family], SRC[family])
    before = skb.data
    assert not manip.translate_error(skb, skb.dataoff + 8, original, MANIP_DST, True)
    assert skb.data == before


def checksum_partial(packet: bytes, *, segments: bool) -> Skb:
    """With checksum offload: the field holds the sum of the pseudo-header."""
    skb = parsed(packet)
    at = skb.dataoff + SUM_AT[skb.protonum]
    skb.data = skb.data[:at] + (ip.pseudo_header(skb) % 65535).to_bytes(2, "big") + skb.data[at + 2 :]
    skb.checksum_partial = True
    skb.segments = segments
    return skb


@FAMILIES
@pytest.mark.parametrize("make", [packets.tcp, packets.udp], ids=["tcp", "udp"])
@pytest.mark.parametrize("way", [MANIP_SRC, MANIP_DST], ids=["source", "destination"])
def test_a_partial_checksum_is_finished(family: int, make: object, way: int) -> None:
    arguments = ("S",) if make is packets.tcp else ()
    skb = checksum_partial(make(SRC[family], DST[family], 1000, 80, *arguments, data=b"odd"), segments=False)  # type: ignore[operator]
    address = packets.address("203.0.113.9" if family == 4 else "2001:db8:9::9")
    manip.translate(skb, inverse(moved_to(skb, address, 9, way)), way, True)
    assert not skb.checksum_partial
    assert sums_are_right(parsed(skb.data))


@FAMILIES
def test_a_super_packet_keeps_the_sum_of_its_pseudo_header(family: int) -> None:
    """Segmentation adds the rest; a port is not part of that sum."""
    whole = packets.tcp(SRC[family], DST[family], 1000, 80, "A", data=bytes(5000))
    skb = checksum_partial(whole, segments=True)
    address = packets.address("203.0.113.9" if family == 4 else "2001:db8:9::9")
    manip.translate(skb, inverse(moved_to(skb, address, 9, MANIP_SRC)), MANIP_SRC, True)
    assert u16(skb.data, skb.dataoff + 16) % 65535 == ip.pseudo_header(parsed(skb.data)) % 65535
    assert skb.checksum_partial
    manip.finish_checksum(skb)
    assert sums_are_right(parsed(skb.data))
