"""Captures of both formats and every link layer give the same packets."""

import gzip
from pathlib import Path

import pytest

from conntrackd_py.cli.conntrackd.explain.capture import CaptureError, ip_start, place, read
from tests.support import captures, packets
from tests.support.captures import START

A = packets.udp("192.168.1.2", "10.0.0.2", 1000, 53, b"query")
B = packets.udp("fd00::2", "fd00::1", 53, 1000, b"answer")
TWO = [(0.0, A), (0.25, B)]


@pytest.mark.parametrize("linktype", [1, 9, 12, 14, 50, 51, 101, 108, 113, 276])
def test_every_link_layer(tmp_path: Path, linktype: int) -> None:
    found = list(read(captures.pcap(tmp_path / "a.pcap", TWO, linktype)))
    assert [packet.data for packet in found] == [A, B]
    assert [packet.number for packet in found] == [1, 2]
    assert [packet.at for packet in found] == [START * 1000, START * 1000 + 250]
    assert [packet.cut for packet in found] == [0, 0]


def test_pcapng(tmp_path: Path) -> None:
    found = list(read(captures.pcapng(tmp_path / "a.pcapng", TWO)))
    assert [packet.data for packet in found] == [A, B]
    assert found[1].at - found[0].at == 250


def test_gzipped(tmp_path: Path) -> None:
    packed = tmp_path / "a.pcap.gz"
    packed.write_bytes(gzip.compress(captures.pcap(tmp_path / "a.pcap", TWO).read_bytes()))
    assert [packet.data for packet in read(packed)] == [A, B]


def test_vlan_tags_are_taken_off() -> None:
    for tags in (b"\x81\0\0\x07", b"\x88\xa8\0\x09\x81\0\0\x07"):
        framed = bytes(12) + tags + b"\x08\0" + A
        assert framed[ip_start(framed, 1) :] == A


def test_pppoe_and_tags_below_other_link_layers() -> None:
    pppoe = b"\x88\x64" + b"\x11\0\0\x01\0\0" + b"\0\x21" + A
    assert [
        (bytes(12) + pppoe)[ip_start(bytes(12) + pppoe, 1) :],
        (bytes(14) + pppoe)[ip_start(bytes(14) + pppoe, 113) :],
    ] == [A, A]
    compressed = bytes(12) + b"\x88\x64" + bytes(6) + b"\x21" + A
    assert compressed[ip_start(compressed, 1) :] == A
    tagged = b"\x81\0" + bytes(18) + b"\0\x07\x08\0" + A
    assert tagged[ip_start(tagged, 276) :] == A
    lcp = bytes(12) + b"\x88\x64" + bytes(6) + b"\xc0\x21" + bytes(8)
    assert ip_start(lcp, 1) == ip_start(lcp[:20], 1) == -1


def test_where_a_packet_was_captured() -> None:
    cooked = captures.frame(A, 276, interface=3, sent=True)
    link, interface, sent = place(cooked, 276)
    assert (interface, sent) == ("interface 3", True)
    assert link != place(captures.frame(A, 276, interface=3), 276)[0]
    assert place(captures.frame(A, 113, sent=True), 113)[1:] == ("", True)
    assert place(bytes(range(12)) + b"\x08\0" + A, 1) == (bytes(range(12)), "", None)
    assert place(A, 101) == (b"", "", None)


def test_what_is_not_ip_is_counted_and_empty(tmp_path: Path) -> None:
    arp = bytes(12) + b"\x08\x06" + bytes(28)
    assert ip_start(arp, 1) == -1
    assert ip_start(b"\0", 1) == ip_start(b"", 101) == ip_start(bytes(9), 276) == ip_start(b"\x07\0\0\0data", 0) == -1


def test_a_packet_cut_short_is_filled_and_said_to_be(tmp_path: Path) -> None:
    data = packets.tcp("192.168.1.2", "10.0.0.2", 1, 2, "A", data=bytes(range(1, 101)))
    (packet,) = read(captures.pcap(tmp_path / "a.pcap", [(0, data)], snaplen=14 + 60))
    assert packet.cut == 80
    assert packet.data == data[:60] + bytes(80)


@pytest.mark.parametrize("content", [b"", b"\xd4\xc3", b"no capture at all", b"\x0a\x0d\x0d\x0a rest"])
def test_no_capture(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(content)
    with pytest.raises(CaptureError, match=r"a\.pcap: "):
        list(read(path))
    with pytest.raises(CaptureError, match="No such file"):
        list(read(tmp_path / "absent"))


def test_an_unknown_link_layer_is_named() -> None:
    with pytest.raises(CaptureError, match="link layer type 105"):
        ip_start(A, 105)
