"""The messages of a packet queue: a queued packet read by offset, a verdict built. Compiled; no I/O.

    a queued packet                                  a verdict
     0  length, type, flags, sequence, port           0  length, type, flags, sequence, port     (host order)
    16  family, version, queue                       16  family, version, queue                  (network order)
    20  PACKET_HDR: id, protocol, hook               20  VERDICT_HDR: verdict, id
    32  MARK, interfaces, SKB_INFO and others        32  MARK                                    if it changed
     .  PAYLOAD, the last attribute                   .  PAYLOAD                                 if it changed

An attribute is a length (of header and value), a type, the value, and padding to four bytes. The kernel leaves out an
attribute whose value is 0. Headers of messages and attributes are in host order, values in network order.

Invariants:
- `PacketMessage.read` raises nothing and reads only the bytes it was told are there.
- A packet whose id is known gets a verdict, whatever else the message lacks.

Numbers: linux/netfilter/nfnetlink_queue.h.
"""

import sys
from typing import Final, final

from conntrackd_py.const import NF_ACCEPT, NF_DROP, NF_QUEUE, NF_REPEAT
from conntrackd_py.wire.packet import u32

HEADERS: Final = 20  # bytes of nlmsghdr and nfgenmsg
NFNL_SUBSYS_QUEUE: Final = 3
NFQNL_MSG_PACKET: Final = 0
NFQNL_MSG_VERDICT: Final = 1
NFQNL_MSG_VERDICT_BATCH: Final = 3
PACKET_TYPE: Final = NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_PACKET
VERDICT_TYPE: Final = NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_VERDICT
VERDICT_BATCH_TYPE: Final = NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_VERDICT_BATCH
NLM_F_REQUEST: Final = 1

NFQA_PACKET_HDR: Final = 1
NFQA_VERDICT_HDR: Final = 2
NFQA_MARK: Final = 3
NFQA_IFINDEX_INDEV: Final = 5
NFQA_IFINDEX_OUTDEV: Final = 6
NFQA_PAYLOAD: Final = 10
NFQA_CAP_LEN: Final = 13  # the packet's length, only if the payload is shorter
NFQA_SKB_INFO: Final = 14

SKB_CSUM_NOT_READY: Final = 1
SKB_GSO: Final = 2
SKB_CSUM_NOT_VERIFIED: Final = 4

# What `read` returns.
OTHER: Final = 0  # not a packet: an acknowledgement or an error
WHOLE: Final = 1
TRUNCATED: Final = 2  # a packet without its last bytes, or without payload
BEGINNING: Final = 3  # the first bytes of a packet, as many as the kernel was asked for

VERDICT_SIZE: Final = 32  # bytes of a verdict that changes nothing
ID_AT: Final = 28  # the packet id in a verdict
MARK_SIZE: Final = 8
PACKET_HDR_SIZE: Final = 11

ORDER: Final = sys.byteorder
LOW: Final = 0 if sys.byteorder == "little" else 1  # of a 16-bit number in host order
HIGH: Final = 1 - LOW


def _attribute(size: int, kind: int) -> bytes:
    """The header of an attribute of so many bytes with its header."""
    return size.to_bytes(2, ORDER) + kind.to_bytes(2, ORDER)


VERDICT_HDR: Final = _attribute(12, NFQA_VERDICT_HDR)
MARK: Final = _attribute(MARK_SIZE, NFQA_MARK)
PAYLOAD: Final = NFQA_PAYLOAD.to_bytes(2, ORDER)


@final
class PacketMessage:
    """The fields of the message that was read last."""

    def __init__(self) -> None:
        self.id = b""  # four bytes, as a verdict returns them
        self.hook = 0
        self.mark = 0
        self.indev = 0
        self.outdev = 0
        self.skb_info = 0  # SKB_* bits
        self.payload_at = 0
        self.payload_end = 0

    def read(self, data: bytes, at: int, held: int, length: int) -> int:
        """Read the message of `length` bytes at `at`, of which data holds the first `held`.

        Returns OTHER, WHOLE, BEGINNING or TRUNCATED. payload_at and payload_end are offsets in data; payload_end may
        lie beyond the bytes held.
        """
        self.id = b""
        self.hook = self.mark = self.indev = self.outdev = self.skb_info = 0
        self.payload_at = self.payload_end = 0
        end = at + held
        if held < HEADERS or end > len(data) or _host16(data, at + 4) != PACKET_TYPE:
            return OTHER
        last = at + length
        at += HEADERS
        whole = True
        while at + 4 <= end:
            size = _host16(data, at)
            kind = _host16(data, at + 2)
            if kind == NFQA_PAYLOAD:
                self.payload_at = at + 4
                self.payload_end = at + size
                break
            if size < 4 or at + size > end:
                break
            if kind == NFQA_CAP_LEN:
                whole = False
            elif size >= 8:
                self._field(data, at + 4, kind, size)
            at += (size + 3) & ~3
        if not self.id:
            return OTHER
        if not self.payload_at < self.payload_end <= last:
            return TRUNCATED
        return WHOLE if whole else BEGINNING

    def _field(self, data: bytes, at: int, kind: int, size: int) -> None:
        """The value, of at least four bytes, of an attribute of `size` bytes."""
        if kind == NFQA_PACKET_HDR:
            if size >= PACKET_HDR_SIZE:
                self.id = data[at : at + 4]
                self.hook = data[at + 6]
        elif kind == NFQA_MARK:
            self.mark = u32(data, at)
        elif kind == NFQA_IFINDEX_INDEV:
            self.indev = u32(data, at)
        elif kind == NFQA_IFINDEX_OUTDEV:
            self.outdev = u32(data, at)
        elif kind == NFQA_SKB_INFO:
            self.skb_info = u32(data, at)


def _host16(data: bytes, at: int) -> int:
    return data[at + LOW] | data[at + HIGH] << 8


@final
class VerdictMessages:
    """Builds the verdicts of one queue. packet: the id of a PacketMessage.

    kind: VERDICT_TYPE, or VERDICT_BATCH_TYPE for a verdict on all waiting packets up to this one.
    """

    def __init__(self, number: int, kind: int = VERDICT_TYPE) -> None:
        accept, drop = _from_type_to_id(number, kind, NF_ACCEPT), _from_type_to_id(number, kind, NF_DROP)
        self.accepting = VERDICT_SIZE.to_bytes(4, ORDER) + accept
        self.dropping = VERDICT_SIZE.to_bytes(4, ORDER) + drop
        self.marking = (VERDICT_SIZE + MARK_SIZE).to_bytes(4, ORDER) + accept
        self.rewriting = accept

    def plain(self, packet: bytes, verdict: int) -> bytes:
        """The packet continues unchanged, or is dropped."""
        return (self.accepting if verdict == NF_ACCEPT else self.dropping) + packet

    def marked(self, packet: bytes, mark: int) -> bytes:
        """The packet continues with this mark."""
        return b"%b%b%b%b" % (self.marking, packet, MARK, mark.to_bytes(4, "big"))

    def queued(self, packet: bytes, queue: int) -> bytes:
        """The packet goes to another queue, unchanged."""
        return self._verdict(packet, queue << 16 | NF_QUEUE)

    def repeated(self, packet: bytes) -> bytes:
        """The packet passes the chain of the queue rule once more, unchanged."""
        return self._verdict(packet, NF_REPEAT)

    def _verdict(self, packet: bytes, verdict: int) -> bytes:
        return self.accepting[: ID_AT - 4] + verdict.to_bytes(4, "big") + packet

    def rewritten(self, packet: bytes, mark: int, payload: int) -> bytes:
        """The packet continues with this mark and a new payload of so many bytes, which follow, padded to four."""
        size = 4 + payload
        return b"%b%b%b%b%b%b%b" % (
            (VERDICT_SIZE + MARK_SIZE + ((size + 3) & ~3)).to_bytes(4, ORDER),
            self.rewriting,
            packet,
            MARK,
            mark.to_bytes(4, "big"),
            size.to_bytes(2, ORDER),
            PAYLOAD,
        )


def _from_type_to_id(number: int, kind: int, verdict: int) -> bytes:
    """The bytes of a verdict between its length and the packet id. number: of the queue."""
    return (
        kind.to_bytes(2, ORDER)
        + NLM_F_REQUEST.to_bytes(2, ORDER)
        + bytes(10)  # sequence, port, family, version
        + number.to_bytes(2, "big")
        + VERDICT_HDR
        + verdict.to_bytes(4, "big")
    )
