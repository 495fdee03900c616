"""Messages that add and delete map elements: one nf_tables transaction, whose last message is acknowledged.

A mark is in host order, as the kernel compares it. Numbers: linux/netfilter/nf_tables.h.
"""

import struct
from itertools import groupby
from typing import Final

from conntrackd_py.engine.mark_maps import Element
from conntrackd_py.kernel.netlink import NFNL_SUBSYS_NFTABLES, NLM_F_ACK, NLM_F_REQUEST, attribute

NFNL_MSG_BATCH_BEGIN: Final = 0x10
NFNL_MSG_BATCH_END: Final = 0x11
NFT_MSG_NEWSETELEM: Final = 12
NFT_MSG_DELSETELEM: Final = 14
NLM_F_CREATE: Final = 0x400
NLM_F_EXCL: Final = 0x200
NESTED: Final = 0x8000
AF: Final = {4: 2, 6: 10}
MOST_IN_A_MESSAGE: Final = 512  # elements: a nested attribute has at most 64 kB

_HEADER: Final = struct.Struct("=IHHII")
_MARK: Final = struct.Struct("=I")
_MESSAGE: Final = struct.Struct(">BBH")


def transaction(table: str, kind: int, elements: list[Element], sequence: int) -> bytes:
    """kind: NFT_MSG_NEWSETELEM or NFT_MSG_DELSETELEM. The acknowledgement has this sequence number."""
    bodies = []
    for (family, name), group in groupby(sorted(elements), key=lambda element: (element.family, element.map)):
        inside = [_element(element, kind == NFT_MSG_NEWSETELEM) for element in group]
        for at in range(0, len(inside), MOST_IN_A_MESSAGE):
            listed = attribute(3 | NESTED, b"".join(inside[at : at + MOST_IN_A_MESSAGE]))
            bodies.append((AF[family], _text(1, table) + _text(2, name) + listed))
    create = NLM_F_CREATE | NLM_F_EXCL if kind == NFT_MSG_NEWSETELEM else 0
    parts = [_message(NFNL_MSG_BATCH_BEGIN, 0, 0, NFNL_SUBSYS_NFTABLES, b"", 0)]
    for number, (family, body) in enumerate(bodies, 1):
        flags = create | (NLM_F_ACK if number == len(bodies) else 0)
        parts.append(_message(NFNL_SUBSYS_NFTABLES << 8 | kind, flags, family, 0, body, sequence))
    parts.append(_message(NFNL_MSG_BATCH_END, 0, 0, NFNL_SUBSYS_NFTABLES, b"", 0))
    return b"".join(parts)


def _element(element: Element, new: bool) -> bytes:
    key = attribute(1 | NESTED, attribute(1, _MARK.pack(element.mark)))
    return attribute(1 | NESTED, key + attribute(2 | NESTED, attribute(1, element.value)) if new else key)


def _text(kind: int, text: str) -> bytes:
    return attribute(kind, text.encode() + b"\0")


def _message(kind: int, flags: int, family: int, resource: int, body: bytes, sequence: int) -> bytes:
    body = _MESSAGE.pack(family, 0, resource) + body
    return _HEADER.pack(_HEADER.size + len(body), kind, NLM_F_REQUEST | flags, sequence, 0) + body
