"""Captures: the IP packets of a pcap or pcapng file, in order, with their times.

scapy reads the two file formats. This module removes the link layer: Ethernet with VLAN tags, raw IP, Linux cooked
capture versions 1 and 2, BSD loopback. A packet cut short by the capture (snaplen) is padded with zeros to its length
on the wire; `cut` is the number of these bytes.
"""

import gzip
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from conntrackd_py.wire.packet import u16

GZIP: Final = b"\x1f\x8b"
EN10MB: Final = 1
NULL: Final = 0
LOOP: Final = 108
RAW: Final = frozenset({12, 14, 101, 228, 229})
LINUX_SLL: Final = 113
LINUX_SLL2: Final = 276

ETHERTYPE_IPV4: Final = 0x0800
ETHERTYPE_IPV6: Final = 0x86DD
VLAN_TAGS: Final = frozenset({0x8100, 0x88A8, 0x9100})
IP_FAMILIES: Final = frozenset({2, 10, 24, 28, 30})  # AF_INET, and AF_INET6 of Linux and the BSDs


class CaptureError(Exception):
    """The file cannot be read or is not a capture. The text is one line."""


@dataclass(frozen=True)
class Captured:
    """number: from 1, as in Wireshark. at: ms since the epoch. cut: bytes on the wire that were not captured.

    data: the packet from its IP header on; empty if it is not IP.
    """

    number: int
    at: int
    data: bytes
    cut: int = 0


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
            yield Captured(number, at, data + bytes(missing), missing)


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


def ip_start(frame: bytes, linktype: int) -> int:
    """The offset of the IP header in a frame; -1 without one. Raises CaptureError for an unknown link layer."""
    if linktype == EN10MB:
        return _after_ethertype(frame, 12)
    if linktype in RAW:
        return 0 if frame else -1
    if linktype == LINUX_SLL:
        return _after_ethertype(frame, 14)
    if linktype == LINUX_SLL2:
        return 20 if len(frame) > 20 and _is_ip(u16(frame, 0)) else -1
    if linktype in (NULL, LOOP):
        return (
            4
            if len(frame) > 4 and IP_FAMILIES & set(struct.unpack("<I", frame[:4]) + struct.unpack(">I", frame[:4]))
            else -1
        )
    raise CaptureError(f"unknown link layer type {linktype} (known: Ethernet, Linux cooked capture, raw IP, loopback)")


def _after_ethertype(frame: bytes, at: int) -> int:
    """The offset after the EtherType at `at` and any VLAN tags; -1 if it is not IP."""
    while at + 2 < len(frame):
        kind = u16(frame, at)
        if _is_ip(kind):
            return at + 2
        if kind not in VLAN_TAGS:
            return -1
        at += 4
    return -1


def _is_ip(ethertype: int) -> bool:
    return ethertype in (ETHERTYPE_IPV4, ETHERTYPE_IPV6)
