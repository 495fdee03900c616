"""Messages that add, delete and read map elements. Numbers: linux/netfilter/nf_tables.h.

A change is one nf_tables transaction, whose last message is acknowledged. The kernel reports each element with its
counter if it is read, and if it is deleted with `echo`. A mark is in host order, as the kernel compares it. The parts
of a key begin at multiples of four bytes.
"""

import struct
from collections.abc import Iterator
from itertools import groupby
from typing import Final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.engine.mark_maps import FLOWS, LEAVES, SOURCES, Element
from conntrackd_py.kernel.netlink import NFNL_SUBSYS_NFTABLES, NLM_F_ACK, NLM_F_REQUEST, attribute, attributes

NFNL_MSG_BATCH_BEGIN: Final = 0x10
NFNL_MSG_BATCH_END: Final = 0x11
NFT_MSG_NEWSETELEM: Final = 12
NFT_MSG_GETSETELEM: Final = 13
NFT_MSG_DELSETELEM: Final = 14
NLM_F_CREATE: Final = 0x400
NLM_F_EXCL: Final = 0x200
NLM_F_ECHO: Final = 8
NFTA_SET_ELEM_LIST_ELEMENTS: Final = 3
NFTA_SET_ELEM_KEY: Final = 1
NFTA_SET_ELEM_EXPR: Final = 7
NFTA_COUNTER_BYTES: Final = 1
NFTA_COUNTER_PACKETS: Final = 2
NESTED: Final = 0x8000
AF: Final = {4: 2, 6: 10}
MOST_IN_A_MESSAGE: Final = 512  # elements: a nested attribute has at most 64 kB

_HEADER: Final = struct.Struct("=IHHII")
_MARK: Final = struct.Struct("=I")
_MESSAGE: Final = struct.Struct(">BBH")


def transaction(table: str, kind: int, elements: list[Element], sequence: int, *, echo: bool = False) -> bytes:
    """kind: NFT_MSG_NEWSETELEM or NFT_MSG_DELSETELEM. The acknowledgement has this sequence number.

    echo: the kernel reports elements of `flows`.
    """
    new = kind == NFT_MSG_NEWSETELEM
    bodies = list(_bodies(table, elements, new=new))
    parts = [_message(NFNL_MSG_BATCH_BEGIN, 0, 0, NFNL_SUBSYS_NFTABLES, b"", 0)]
    for number, (family, name, body) in enumerate(bodies, 1):
        flags = (NLM_F_CREATE | NLM_F_EXCL if new else 0) | (NLM_F_ECHO if echo and name == FLOWS else 0)
        flags |= NLM_F_ACK if number == len(bodies) else 0
        parts.append(_message(NFNL_SUBSYS_NFTABLES << 8 | kind, flags, family, 0, body, sequence))
    parts.append(_message(NFNL_MSG_BATCH_END, 0, 0, NFNL_SUBSYS_NFTABLES, b"", 0))
    return b"".join(parts)


def questions(table: str, elements: list[Element], sequence: int) -> list[bytes]:
    """Requests for these elements. Each has one answer an element, and an acknowledgement."""
    kind = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETSETELEM
    bodies = _bodies(table, elements, new=False)
    return [_message(kind, NLM_F_ACK, family, 0, body, sequence) for family, _, body in bodies]


def _bodies(table: str, elements: list[Element], *, new: bool) -> Iterator[tuple[int, str, bytes]]:
    for (family, name), group in groupby(sorted(elements), key=lambda element: (element.family, element.map)):
        inside = [_element(element, new) for element in group]
        for at in range(0, len(inside), MOST_IN_A_MESSAGE):
            listed = attribute(NFTA_SET_ELEM_LIST_ELEMENTS | NESTED, b"".join(inside[at : at + MOST_IN_A_MESSAGE]))
            yield AF[family], name, _text(1, table) + _text(2, name) + listed


def _element(element: Element, new: bool) -> bytes:
    key, value = key_and_value(element)
    packed = attribute(NFTA_SET_ELEM_KEY | NESTED, attribute(1, key))
    return attribute(1 | NESTED, packed + attribute(2 | NESTED, attribute(1, value)) if new and value else packed)


def key_and_value(element: Element) -> tuple[bytes, bytes]:
    """As the kernel has them; the value is empty in a set."""
    mark = _MARK.pack(element.mark)
    if element.map == FLOWS:
        return _padded(element.value), mark
    if element.map == LEAVES:
        return mark + element.value + b"\0\0", b""
    return (mark + element.value, b"") if element.map == SOURCES else (mark, element.value)


def _padded(t: bytes) -> bytes:
    """A tuple as nft concatenates it: addresses, protocol, ports."""
    at = 2 * tuples.address_length(t)
    return t[:at] + t[at + 4 :] + b"\0\0\0" + t[at : at + 2] + b"\0\0" + t[at + 2 : at + 4] + b"\0\0"


def counters(body: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The key, the packets and the bytes of each element in a message of the kernel."""
    for kind, listed in attributes(body):
        if kind != NFTA_SET_ELEM_LIST_ELEMENTS:
            continue
        for _, element in attributes(listed):
            parts = dict(attributes(element))
            if NFTA_SET_ELEM_EXPR not in parts:
                continue
            counter = dict(attributes(dict(attributes(parts[NFTA_SET_ELEM_EXPR]))[2]))
            packets, size = counter[NFTA_COUNTER_PACKETS], counter[NFTA_COUNTER_BYTES]
            key = parts[NFTA_SET_ELEM_KEY][4:]
            yield key, int.from_bytes(packets, "big"), int.from_bytes(size, "big")


def _text(kind: int, text: str) -> bytes:
    return attribute(kind, text.encode() + b"\0")


def _message(kind: int, flags: int, family: int, resource: int, body: bytes, sequence: int) -> bytes:
    body = _MESSAGE.pack(family, 0, resource) + body
    return _HEADER.pack(_HEADER.size + len(body), kind, NLM_F_REQUEST | flags, sequence, 0) + body
