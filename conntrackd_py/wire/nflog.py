"""NFLOG messages: copies of packets, several in one datagram (linux/netfilter/nfnetlink_log.h).

Netlink fields are in host order, nfnetlink's own in network order; messages and attributes are padded to four bytes.
A malformed message ends the datagram.
"""

import sys
from typing import Final, final

from conntrackd_py.wire.packet import u16, u32

MESSAGE_HEADER: Final = 20  # struct nlmsghdr and struct nfgenmsg
PACKET: Final = 4 << 8  # NFNL_SUBSYS_ULOG, NFULNL_MSG_PACKET

NFULA_PACKET_HDR: Final = 1
NFULA_MARK: Final = 2
NFULA_IFINDEX_INDEV: Final = 4
NFULA_IFINDEX_OUTDEV: Final = 5
NFULA_PAYLOAD: Final = 9
NFULA_SEQ: Final = 12

LITTLE: Final = sys.byteorder == "little"
NO_SEQUENCE: Final = -1


@final
class Copies:
    """The copies in a datagram. `next` moves to the next one: its fields are payload, hook, mark, indev, outdev.

    sequence: of the group, 32 bits; NO_SEQUENCE if the message has none.
    """

    def __init__(self, datagram: bytes) -> None:
        self.datagram = datagram
        self.at = 0
        self._clear()

    def _clear(self) -> None:
        self.payload = b""
        self.hook = 0
        self.mark = 0
        self.indev = 0
        self.outdev = 0
        self.sequence = NO_SEQUENCE

    def next(self) -> bool:
        """False when no copy is left."""
        data = self.datagram
        while self.at + MESSAGE_HEADER <= len(data):
            at = self.at
            length = _host32(data, at)
            if length < MESSAGE_HEADER or at + length > len(data):
                break
            self.at = at + (length + 3 & ~3)
            if _host16(data, at + 4) == PACKET:
                self._clear()
                self._read(at + MESSAGE_HEADER, at + length)
                if self.payload:
                    return True
        self.at = len(data)
        return False

    def _read(self, at: int, end: int) -> None:
        data = self.datagram
        while at + 4 <= end:
            length = _host16(data, at)
            if length < 4 or at + length > end:
                return
            kind = _host16(data, at + 2)
            if kind == NFULA_PAYLOAD:
                self.payload = data[at + 4 : at + length]
            elif kind == NFULA_PACKET_HDR and length >= 7:
                self.hook = data[at + 6]
            elif length >= 8:
                self._number(kind, u32(data, at + 4))
            at += length + 3 & ~3

    def _number(self, kind: int, value: int) -> None:
        if kind == NFULA_SEQ:
            self.sequence = value
        elif kind == NFULA_IFINDEX_INDEV:
            self.indev = value
        elif kind == NFULA_IFINDEX_OUTDEV:
            self.outdev = value
        elif kind == NFULA_MARK:
            self.mark = value


def _host16(data: bytes, at: int) -> int:
    return data[at] | data[at + 1] << 8 if LITTLE else u16(data, at)


def _host32(data: bytes, at: int) -> int:
    return _host16(data, at) | _host16(data, at + 2) << 16 if LITTLE else u32(data, at)
