"""Captures for tests, written by scapy: pcap with any link layer, cut short or not, and pcapng."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from scapy.layers.l2 import Ether
from scapy.utils import PcapNgWriter, RawPcapWriter

START = 1_700_000_000
ETHERNET = 1

Timed = tuple[float, bytes]  # seconds after START, packet from its IP header on


def frame(data: bytes, linktype: int = ETHERNET, interface: int = 0, sent: bool = False) -> bytes:
    """The packet in the header of a link layer. interface, sent: only cooked captures have them."""
    ppp = b"\x00\x21" if data[0] >> 4 == 4 else b"\x00\x57"
    kind = 4 if sent else 0
    ethertype = b"\x08\x00" if data[0] >> 4 == 4 else b"\x86\xdd"
    return {
        1: bytes(12) + ethertype + data,
        12: data,
        14: data,
        9: ppp + data,
        50: b"\xff\x03" + ppp + data,
        51: bytes(6) + ppp + data,
        101: data,
        108: b"\0\0\0\x02" + data,
        113: kind.to_bytes(2, "big") + bytes(12) + ethertype + data,
        276: ethertype + bytes(2) + interface.to_bytes(4, "big") + bytes((0, 0, kind)) + bytes(9) + data,
    }[linktype]


def pcap(
    path: Path, packets: Iterable[Timed], linktype: int = ETHERNET, snaplen: int = 65535, framed: bool = False
) -> Path:
    """snaplen counts from the link layer on, as tcpdump -s does. framed: the packets have their link layer already."""
    with RawPcapWriter(str(path), linktype=linktype, nano=True) as writer:
        writer.write_header(None)
        for at, data in packets:
            whole = data if framed else frame(data, linktype)
            kept = whole[:snaplen]
            sec, ms = divmod(round(at * 1000), 1000)
            writer.write_packet(kept, sec=START + sec, usec=ms * 1_000_000, caplen=len(kept), wirelen=len(whole))
    return path


def pcapng(path: Path, packets: Iterable[Timed]) -> Path:
    writer = PcapNgWriter(str(path))
    for at, data in packets:
        packet = Ether(frame(data))
        packet.time = START + at
        writer.write(packet)
    writer.close()
    return path
