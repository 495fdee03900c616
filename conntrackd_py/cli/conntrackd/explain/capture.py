"""Captures: the IP packets of a pcap or pcapng file, in order, with their times.

scapy reads the two file formats. This module removes the link layer: Ethernet, raw IP, Linux cooked capture versions 1
and 2, PPP, BSD loopback; and VLAN tags and PPPoE below them. A packet cut short by the capture (snaplen) is padded with
zeros to its length on the wire; `cut` is the number of these bytes.
"""

import gzip
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from conntrackd_py.wire.packet import u16, u32

GZIP: Final = b"\x1f\x8b"
EN10MB: Final = 1
NULL: Final = 0
LOOP: Final = 108
RAW: Final = frozenset({12, 14, 101, 228, 229})
LINUX_SLL: Final = 113
LINUX_SLL2: Final = 276
PPP: Final = frozenset({9, 50})  # the second: framed as HDLC (RFC 1662)
PPP_ETHER: Final = 51  # a PPPoE header without Ethernet
FRAMED: Final = b"\xff\x03"

ETHERTYPE_IPV4: Final = 0x0800
ETHERTYPE_IPV6: Final = 0x86DD
VLAN_TAGS: Final = frozenset({0x8100, 0x88A8, 0x9100})
PPPOE_SESSION: Final = 0x8864
PPPOE_HEADER: Final = 6
PPP_IP: Final = frozenset({0x0021, 0x0057})
SENT: Final = 4  # packet type of a cooked capture: sent by this host
ETHERTYPES: Final = {EN10MB: (12, 14), LINUX_SLL: (14, 16), LINUX_SLL2: (0, 20)}  # offset of the EtherType, payload
IP_FAMILIES: Final = frozenset({2, 10, 24, 28, 30})  # AF_INET, and AF_INET6 of Linux and the BSDs


class CaptureError(Exception):
    """The file cannot be read or is not a capture. The text is one line."""


@dataclass(frozen=True)
class Captured:
    """number: from 1, as in Wireshark. at: ms since the epoch. cut: bytes on the wire that were not captured.

    data: the packet from its IP header on; empty if it is not IP. link: equal for two packets on the same link in the
    same direction; empty if the file does not say. interface: its name or "interface NUMBER"; empty if unknown. sent:
    whether the capturing host sent the packet; None if unknown. pieces: the fragments it was reassembled from. waiting:
    a fragment of a packet that is not complete yet.
    """

    number: int
    at: int
    data: bytes
    cut: int = 0
    link: bytes = b""
    interface: str = ""
    sent: bool | None = None
    pieces: tuple[int, ...] = ()
    waiting: bool = False


def read(path: Path) -> Iterator[Captured]:
    """Every packet of the file. Raises CaptureError, at an unknown link layer also in the middle."""
    from scapy.error import Scapy_Exception  # slow to import
    from scapy.utils import RawPcapNgReader, RawPcapReader

    with _opened(path) as stream:
        try:
            reader: Any = RawPcapReader(stream)
        except (EOFError, Scapy_Exception) as error:
            raise CaptureError(f"{path}: not a pcap or pcapng file") from error
        pcapng = isinstance(reader, RawPcapNgReader)
        for number, (frame, meta) in enumerate(reader, 1):
            linktype = meta.linktype if pcapng else reader.linktype
            at = _time_ng(meta) if pcapng else _time(meta, reader.nano)
            start = ip_start(frame, linktype)
            data = frame[start:] if start >= 0 else b""
            missing = max(meta.wirelen - len(frame), 0) if data else 0
            link, interface, sent = place(frame, linktype)
            if pcapng and meta.ifname:
                interface = meta.ifname.decode(errors="replace")
            link += interface.encode()
            yield Captured(number, at, data + bytes(missing), missing, link, interface, sent)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file, unpacked if it is gzipped. It is closed here: scapy leaves a file open that is not a capture."""
    try:
        with path.open("rb") as stream:
            if stream.peek(2)[:2] == GZIP:
                with gzip.open(stream) as unpacked:
                    yield unpacked
            else:
                yield stream
    except OSError as error:
        raise CaptureError(f"{path}: {error.strerror or error}") from error


def _time(meta: Any, nano: bool) -> int:
    return int(meta.sec) * 1000 + int(meta.usec) // (1_000_000 if nano else 1000)


def _time_ng(meta: Any) -> int:
    """0 for a simple packet block: it has no time."""
    if meta.tshigh is None:
        return 0
    return (int(meta.tshigh) << 32 | int(meta.tslow)) * 1000 // int(meta.tsresol)


def place(frame: bytes, linktype: int) -> tuple[bytes, str, bool | None]:
    """`link`, `interface` and `sent` of a packet, as far as its link layer tells."""
    if linktype == EN10MB:
        return frame[:12], "", None
    if linktype == LINUX_SLL and len(frame) >= 16:
        return frame[:2] + frame[6:14], "", u16(frame, 0) == SENT
    if linktype == LINUX_SLL2 and len(frame) >= 20:
        return frame[4:8] + frame[10:11], f"interface {u32(frame, 4)}", frame[10] == SENT
    return b"", "", None


def ip_start(frame: bytes, linktype: int) -> int:
    """The offset of the IP header in a frame; -1 without one. Raises CaptureError for an unknown link layer."""
    if linktype in RAW:
        return 0 if frame else -1
    if linktype in (NULL, LOOP):
        families = set(struct.unpack("<I", frame[:4]) + struct.unpack(">I", frame[:4])) if len(frame) > 4 else set()
        return 4 if IP_FAMILIES & families else -1
    if linktype in PPP:
        return _after_ppp(frame, 2 if frame[:2] == FRAMED else 0)
    if linktype == PPP_ETHER:
        return _after_ppp(frame, PPPOE_HEADER)
    if linktype not in ETHERTYPES:
        known = "Ethernet, Linux cooked capture, raw IP, PPP, loopback"
        raise CaptureError(f"unknown link layer type {linktype} (known: {known})")
    kind, after = ETHERTYPES[linktype]
    return _after_ethertype(frame, u16(frame, kind), after) if len(frame) > after else -1


def _after_ethertype(frame: bytes, kind: int, at: int) -> int:
    """The offset of the IP header in a payload of this EtherType at `at`; -1 if it is not IP."""
    while kind in VLAN_TAGS and at + 4 < len(frame):
        kind, at = u16(frame, at + 2), at + 4
    if kind == PPPOE_SESSION:
        return _after_ppp(frame, at + PPPOE_HEADER)
    return at if kind in (ETHERTYPE_IPV4, ETHERTYPE_IPV6) else -1


def _after_ppp(frame: bytes, at: int) -> int:
    """The offset after the PPP protocol field at `at`; -1 if it is not IP. The field may be compressed to a byte."""
    short = at < len(frame) and frame[at] & 1
    kind, at = (frame[at], at + 1) if short else (u16(frame, at) if at + 2 <= len(frame) else 0, at + 2)
    return at if kind in PPP_IP and at < len(frame) else -1
