"""The queue rule of an nft chain by nfnetlink: nft's own `queue`, or the target of iptables if the kernel lacks it.

The nft program can write only the first. Numbers: linux/netfilter/nf_tables.h, nf_tables_compat.h, xt_NFQUEUE.h.
"""

import errno
import os
import socket
import struct
from typing import Final

from conntrackd_py.kernel.netlink import NETLINK_NETFILTER, NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR, attribute

NFNL_MSG_BATCH_BEGIN: Final = 0x10
NFNL_MSG_BATCH_END: Final = 0x11
NFNL_SUBSYS_NFTABLES: Final = 10
NFT_MSG_NEWTABLE: Final = 0
NFT_MSG_NEWCHAIN: Final = 3
NFT_MSG_NEWRULE: Final = 6
NLM_F_CREATE: Final = 0x400  # without NLM_F_APPEND: before the first rule
NESTED: Final = 0x8000
XT_NFQUEUE_REVISION: Final = 3
BYPASS: Final = 1  # NFT_QUEUE_FLAG_BYPASS, NFQ_FLAG_BYPASS
ROOM: Final = 8192

FAMILY: Final = {"ip": socket.AF_INET, "ip6": socket.AF_INET6}
PROBE: Final = b"conntrackd_py_probe\0"
ABSENT: Final = (errno.ENOENT, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.EINVAL)
NO_NFTABLES: Final = "the kernel has no nftables"
NO_QUEUE: Final = "the kernel has no queue for nft: neither nft_queue nor the target NFQUEUE of iptables (nft_compat)"


def insert(family: str, table: str, chain: str, number: int, *, bypass: bool) -> None:
    """Insert the rule before the others of the chain. OSError."""
    place = _text(1, table) + _text(2, chain)
    for expression in _expressions(number, bypass=bypass):
        rule = place + attribute(4 | NESTED, attribute(1 | NESTED, expression))
        try:
            return _send(FAMILY[family], [(NFT_MSG_NEWRULE, rule)], commit=True)
        except OSError as error:
            if error.errno not in ABSENT:
                raise
    raise OSError(errno.ENOENT, missing(family) or f"chain {chain} of table {table} is gone")


def missing(family: str) -> str:
    """Why the kernel cannot take the rule; empty if it can, or if this user may not ask. Changes nothing.

    The kernel waits some ms for its other processors when it drops a batch.
    """
    table, chain = attribute(1, PROBE), attribute(1, PROBE) + attribute(3, PROBE)
    messages = [(NFT_MSG_NEWTABLE, table), (NFT_MSG_NEWCHAIN, chain)]
    for expression in _expressions(0, bypass=False):
        rule = attribute(1, PROBE) + attribute(2, PROBE) + attribute(4 | NESTED, attribute(1 | NESTED, expression))
        if not _refused(family, [*messages, (NFT_MSG_NEWRULE, rule)]):
            return ""
    return NO_NFTABLES if _refused(family, messages[:1]) else NO_QUEUE


def _refused(family: str, messages: list[tuple[int, bytes]]) -> bool:
    """Whether the kernel lacks what the messages need."""
    try:
        _send(FAMILY[family], messages, commit=False)
    except OSError as error:
        return error.errno in ABSENT
    return False


def _expressions(number: int, *, bypass: bool) -> list[bytes]:
    """NFTA_EXPR_NAME and NFTA_EXPR_DATA of both forms."""
    flags = BYPASS if bypass else 0
    native = b"".join(attribute(kind, struct.pack(">H", value)) for kind, value in ((1, number), (2, 1), (3, flags)))
    info = struct.pack("=HHHxx", number, 1, flags)  # struct xt_NFQ_info_v3, padded to 8 bytes
    target = _text(1, "NFQUEUE") + attribute(2, struct.pack(">I", XT_NFQUEUE_REVISION)) + attribute(3, info)
    return [_text(1, name) + attribute(2 | NESTED, data) for name, data in (("queue", native), ("target", target))]


def _text(kind: int, text: str) -> bytes:
    return attribute(kind, text.encode() + b"\0")


def _message(kind: int, flags: int, family: int, body: bytes, subsystem: int, sequence: int) -> bytes:
    body = struct.pack(">BBH", family, 0, subsystem) + body
    return struct.pack("=IHHII", 16 + len(body), kind, NLM_F_REQUEST | flags, sequence, 0) + body


def _send(family: int, messages: list[tuple[int, bytes]], *, commit: bool) -> None:
    """One batch. Without its end the kernel checks it and takes nothing over. OSError when it refuses a message."""
    batch = [_message(NFNL_MSG_BATCH_BEGIN, 0, 0, b"", NFNL_SUBSYS_NFTABLES, 0)]
    for sequence, (kind, body) in enumerate(messages, 1):
        flags = NLM_F_CREATE | (NLM_F_ACK if sequence == len(messages) else 0)
        batch.append(_message(NFNL_SUBSYS_NFTABLES << 8 | kind, flags, family, body, 0, sequence))
    if commit:
        batch.append(_message(NFNL_MSG_BATCH_END, 0, 0, b"", NFNL_SUBSYS_NFTABLES, 0))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as netlink:
        netlink.bind((0, 0))
        netlink.send(b"".join(batch))
        while True:
            kind, sequence, code = struct.unpack_from("=4xH2xI4xi", netlink.recv(ROOM))
            if kind == NLMSG_ERROR and code:
                raise OSError(-code, os.strerror(-code))
            if kind == NLMSG_ERROR and sequence == len(messages):
                return
