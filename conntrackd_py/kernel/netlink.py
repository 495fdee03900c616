"""Netlink messages: header, attributes, the configuration of a packet queue that NetfilterQueue lacks, nft counters.

Numbers: linux/netlink.h, linux/netfilter/nfnetlink*.h, nf_tables.h.
Header fields and attribute headers are in host order, nfnetlink's own fields in network order; the length of an
attribute excludes its padding to four bytes.
"""

import os
import socket
import struct
from array import array
from collections.abc import Iterator
from typing import Final

NETLINK_NETFILTER: Final = 12
SOL_NETLINK: Final = 270
NETLINK_CAP_ACK: Final = 10
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLM_F_DUMP_INTR: Final = 16
SO_ATTACH_FILTER: Final = 26
NLM_F_REQUEST: Final = 1
NLM_F_ACK: Final = 4

NFNL_SUBSYS_QUEUE: Final = 3
NFNL_SUBSYS_NFTABLES: Final = 10
NFQNL_MSG_CONFIG: Final = 2

NFQA_CFG_CMD: Final = 1
NFQA_CFG_PARAMS: Final = 2
NFQA_CFG_QUEUE_MAXLEN: Final = 3
NFQA_CFG_MASK: Final = 4
NFQA_CFG_FLAGS: Final = 5

NFQNL_CFG_CMD_UNBIND: Final = 2
NFQNL_COPY_NONE: Final = 0
NFQNL_COPY_PACKET: Final = 2
NFQA_CFG_F_FAIL_OPEN: Final = 1
NFQA_CFG_F_GSO: Final = 4

NFPROTO_INET: Final = 1
NFT_MSG_GETOBJ: Final = 19
NFTA_OBJ_TABLE: Final = 1
NFTA_OBJ_NAME: Final = 2
NFTA_OBJ_TYPE: Final = 3
NFTA_OBJ_DATA: Final = 4
NFT_OBJECT_COUNTER: Final = 1
NFTA_COUNTER_PACKETS: Final = 2
NLA_TYPE: Final = 0x3FFF  # without the flags of an attribute's kind

LARGEST_COPY: Final = 0xFFFF - 4  # an attribute's length has 16 bits and includes its header

_HEADER: Final = struct.Struct("=IHHII")
_NFGENMSG: Final = struct.Struct(">BBH")
_ATTRIBUTE: Final = struct.Struct("=HH")
_ERROR: Final = struct.Struct("=i")


def attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def queue_config(queue: int, sequence: int, attributes: bytes) -> bytes:
    """A request to configure a packet queue. The kernel acknowledges it unless the sequence number is 0."""
    return request(NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_CONFIG, queue, sequence, attributes)


def request(kind: int, resource: int, sequence: int, attributes: bytes) -> bytes:
    """A request of this message type for a queue or a group. Acknowledged unless the sequence number is 0."""
    body = _NFGENMSG.pack(0, 0, resource) + attributes
    return _HEADER.pack(16 + len(body), kind, NLM_F_REQUEST | (NLM_F_ACK if sequence else 0), sequence, 0) + body


def copy_params(mode: int, copy_range: int) -> bytes:
    """Bytes copied of a packet. With NFQNL_COPY_NONE the kernel drops packets instead of queueing them."""
    return attribute(NFQA_CFG_PARAMS, struct.pack(">IB", copy_range, mode))


def flags(value: int) -> bytes:
    """Set these flags of FAIL_OPEN and GSO, and clear the other."""
    mask = NFQA_CFG_F_FAIL_OPEN | NFQA_CFG_F_GSO
    return attribute(NFQA_CFG_MASK, struct.pack(">I", mask)) + attribute(NFQA_CFG_FLAGS, struct.pack(">I", value))


def max_length(packets: int) -> bytes:
    """How many packets may wait; the kernel drops others."""
    return attribute(NFQA_CFG_QUEUE_MAXLEN, struct.pack(">I", packets))


def unbind() -> bytes:
    """The kernel drops the packets that wait, and ends the queue."""
    return attribute(NFQA_CFG_CMD, struct.pack(">BBH", NFQNL_CFG_CMD_UNBIND, 0, 0))


def is_reply_to(message: bytes, sequence: int) -> bool:
    """Whether the message acknowledges this request. OSError when it reports an error."""
    _, kind, _, number, _ = _HEADER.unpack_from(message)
    if kind != NLMSG_ERROR or number != sequence:
        return False
    code = -_ERROR.unpack_from(message, _HEADER.size)[0]
    if code:
        raise OSError(code, os.strerror(code))
    return True


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes in these bytes: kind and value."""
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind & NLA_TYPE, data[at + _ATTRIBUTE.size : at + length]
        at += length + -length % 4


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """The kind, the sequence number and the body of each message."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, _, sequence, _ = _HEADER.unpack_from(data, at)
        yield kind, sequence, data[at + _HEADER.size : at + length]
        at += max(length + -length % 4, _HEADER.size)


def interrupted(data: bytes) -> bool:
    """Whether the kernel says in one of these messages that what it lists has changed meanwhile."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, _, flags, _, _ = _HEADER.unpack_from(data, at)
        if flags & NLM_F_DUMP_INTR:
            return True
        at += max(length + -length % 4, _HEADER.size)
    return False


def kinds(data: bytes) -> Iterator[int]:
    """The kind of each message."""
    return (kind for kind, *_ in messages(data))


def nft_counter(table: str, name: str) -> int:
    """Packets of a named counter of an inet table; 0 if it cannot be read."""
    wanted = attribute(NFTA_OBJ_TABLE, table.encode() + b"\0") + attribute(NFTA_OBJ_NAME, name.encode() + b"\0")
    wanted += attribute(NFTA_OBJ_TYPE, NFT_OBJECT_COUNTER.to_bytes(4, "big"))
    body = _NFGENMSG.pack(NFPROTO_INET, 0, 0) + wanted
    kind = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETOBJ
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK_NETFILTER) as sock:
            sock.send(_HEADER.pack(_HEADER.size + len(body), kind, NLM_F_REQUEST, 1, 0) + body)
            answer = sock.recv(4096)  # the kernel answers before send returns
    except OSError:
        return 0
    of_object = dict(attributes(answer[_HEADER.size + _NFGENMSG.size :]))
    of_counter = dict(attributes(of_object.get(NFTA_OBJ_DATA, b"")))
    return int.from_bytes(of_counter.get(NFTA_COUNTER_PACKETS, b""), "big")


def attach_filter(sock: socket.socket, instructions: tuple[tuple[int, int, int, int], ...]) -> None:
    """Let the kernel drop messages before they come to the socket: classic BPF, (code, jt, jf, k) each."""
    program = array("B", b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(instructions), program.buffer_info()[0]))
