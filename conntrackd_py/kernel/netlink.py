"""Netlink messages: header, attributes, and the configuration of a packet queue that NetfilterQueue lacks.

Numbers: linux/netlink.h, linux/netfilter/nfnetlink*.h.
Header fields and attribute headers are in host order, nfnetlink's own fields in network order; the length of an
attribute excludes its padding to four bytes.
"""

import os
import struct
from typing import Final

NETLINK_NETFILTER: Final = 12
NLMSG_ERROR: Final = 2
NLM_F_REQUEST: Final = 1
NLM_F_ACK: Final = 4

NFNL_SUBSYS_QUEUE: Final = 3
NFQNL_MSG_CONFIG: Final = 2

NFQA_CFG_PARAMS: Final = 2
NFQA_CFG_MASK: Final = 4
NFQA_CFG_FLAGS: Final = 5

NFQNL_COPY_NONE: Final = 0
NFQNL_COPY_PACKET: Final = 2
NFQA_CFG_F_FAIL_OPEN: Final = 1
NFQA_CFG_F_GSO: Final = 4

NFQA_SKB_INFO: Final = 14
SKB_CSUM_NOT_READY: Final = 1
SKB_GSO: Final = 2

LARGEST_COPY: Final = 0xFFFF - 4  # an attribute's length has 16 bits and includes its header

_HEADER: Final = struct.Struct("=IHHII")
_NFGENMSG: Final = struct.Struct(">BBH")
_ATTRIBUTE: Final = struct.Struct("=HH")
_ERROR: Final = struct.Struct("=i")
_SKB_INFO: Final = struct.Struct(">HHI")
_SKB_INFO_HEAD: Final = _ATTRIBUTE.pack(_SKB_INFO.size, NFQA_SKB_INFO)


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
    return attribute(NFQA_CFG_MASK, struct.pack(">I", value)) + attribute(NFQA_CFG_FLAGS, struct.pack(">I", value))


def skb_info(message: bytes, payload: int) -> int:
    """The SKB_* bits of a queued packet; 0 without the attribute. payload: length of the packet, in bytes.

    The kernel writes this attribute directly before the payload, which is the last one.
    """
    at = len(message) - payload - _ATTRIBUTE.size - _SKB_INFO.size
    if at < 0 or message[at : at + _ATTRIBUTE.size] != _SKB_INFO_HEAD:
        return 0
    return int(_SKB_INFO.unpack_from(message, at)[2])


def is_reply_to(message: bytes, sequence: int) -> bool:
    """Whether the message acknowledges this request. OSError when it reports an error."""
    _, kind, _, number, _ = _HEADER.unpack_from(message)
    if kind != NLMSG_ERROR or number != sequence:
        return False
    code = -_ERROR.unpack_from(message, _HEADER.size)[0]
    if code:
        raise OSError(code, os.strerror(code))
    return True
