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
from conntrackd_py.engine.mark_maps import ALIVE, FLOWS, LEAVES, SOURCES, Element
from conntrackd_py.kernel.netlink import NFNL_SUBSYS_NFTABLES, NLM_F_ACK, NLM_F_REQUEST, attribute, attributes

NFNL_MSG_BATCH_BEGIN: Final = 0x10
NFNL_MSG_BATCH_END: Final = 0x11
NFT_MSG_NEWSETELEM: Final = 12
NFT_MSG_GETSETELEM: Final = 13
NFT_MSG_DELSETELEM: Final = 14
NLM_F_CREATE: Final = 0x400
NLM_F_EXCL: Final = 0x200
NLM_F_ECHO: Final = 8
NLM_F_DUMP: Final = 0x300
NFTA_SET_ELEM_LIST_ELEMENTS: Final = 3
NFTA_SET_ELEM_KEY: Final = 1
NFTA_SET_ELEM_EXPR: Final = 7
NFTA_COUNTER_BYTES: Final = 1
NFTA_COUNTER_PACKETS: Final = 2
NFTA_SET_ELEM_DATA: Final = 2
NESTED: Final = 0x8000
AF: Final = {4: 2, 6: 10}
ETHER_TYPE: Final = {4: b"\x08\x00", 6: b"\x86\xdd"}
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


def renewal(table: str, sequence: int) -> bytes:
    """A transaction that puts the elements of `alive` anew, whether they are there or not; acknowledged."""
    parts = [_message(NFNL_MSG_BATCH_BEGIN, 0, 0, NFNL_SUBSYS_NFTABLES, b"", 0)]
    bodies = list(_bodies(table, [Element(family, ALIVE, 0, ETHER_TYPE[family]) for family in AF], new=True))
    for number, (family, name, body) in enumerate(bodies, 1):
        emptied = _text(1, table) + _text(2, name)
        parts.append(_message(NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELSETELEM, 0, family, 0, emptied, sequence))
        flags = NLM_F_CREATE | (NLM_F_ACK if number == len(bodies) else 0)
        parts.append(_message(NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWSETELEM, flags, family, 0, body, sequence))
    parts.append(_message(NFNL_MSG_BATCH_END, 0, 0, NFNL_SUBSYS_NFTABLES, b"", 0))
    return b"".join(parts)


def listing(table: str, family: int, name: str, sequence: int) -> bytes:
    """A request for all elements of a map or set."""
    kind = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETSETELEM
    return _message(kind, NLM_F_DUMP, AF[family], 0, _text(1, table) + _text(2, name), sequence)


def _bodies(table: str, elements: list[Element], *, new: bool) -> Iterator[tuple[int, str, bytes]]:
    for (family, name), group in groupby(sorted(elements), key=lambda element: (element.family, element.map)):
        inside = [_element(element, new) for element in group]
        for at in range(0, len(inside), MOST_IN_A_MESSAGE):
            listed = attribute(NFTA_SET_ELEM_LIST_ELEMENTS | NESTED, b"".join(inside[at : at + MOST_IN_A_MESSAGE]))
            yield AF[family], name, _text(1, table) + _text(2, name) + listed


def _element(element: Element, new: bool) -> bytes:
    key, value = key_and_value(element)
    packed = attribute(NFTA_SET_ELEM_KEY | NESTED, attribute(1, key))
    if new and value:
        packed += attribute(NFTA_SET_ELEM_DATA | NESTED, attribute(1, value))
    if new and element.map == FLOWS:
        packed += attribute(NFTA_SET_ELEM_EXPR | NESTED, _counter(element))
    return attribute(1 | NESTED, packed)


def _counter(element: Element) -> bytes:
    values = ((NFTA_COUNTER_BYTES, element.size), (NFTA_COUNTER_PACKETS, element.packets))
    data = b"".join(attribute(kind, value.to_bytes(8, "big")) for kind, value in values)
    return attribute(1, b"counter\0") + attribute(2 | NESTED, data)


def key_and_value(element: Element) -> tuple[bytes, bytes]:
    """As the kernel has them; the value is empty in a set."""
    mark = _MARK.pack(element.mark)
    if element.map == FLOWS:
        return _padded(element.value), mark
    if element.map == ALIVE:
        return element.value, b""
    if element.map == LEAVES:
        return mark + element.value + b"\0\0", b""
    return (mark + element.value, b"") if element.map == SOURCES else (mark, element.value)


def _padded(t: bytes) -> bytes:
    """A tuple as nft concatenates it: addresses, protocol, ports."""
    at = 2 * tuples.address_length(t)
    return t[:at] + t[at + 4 :] + b"\0\0\0" + t[at : at + 2] + b"\0\0" + t[at + 2 : at + 4] + b"\0\0"


def read_back(family: int, name: str, key: bytes, value: bytes) -> Element:
    """The inverse of key_and_value."""
    mark = _MARK.unpack(value if name == FLOWS else key[: _MARK.size])[0]
    if name == FLOWS:
        at = 2 * (4 if family == 4 else 16)
        return Element(family, name, mark, key[:at] + key[at + 4 : at + 6] + key[at + 8 : at + 10] + key[at : at + 1])
    if name == LEAVES:
        return Element(family, name, mark, key[_MARK.size : -2])
    return Element(family, name, mark, key[_MARK.size :] if name == SOURCES else value)


def elements(family: int, name: str, body: bytes) -> Iterator[Element]:
    """The elements of this map or set in a message of the kernel."""
    for parts in _listed(body):
        key, value = (
            dict(attributes(parts.get(part, b""))).get(1, b"") for part in (NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_DATA)
        )
        found = read_back(family, name, key, value)
        packets, size = _counted(parts) if name == FLOWS else (0, 0)
        yield found._replace(packets=packets, size=size)


def counters(body: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The key, the packets and the bytes of each element in a message of the kernel that has them."""
    for parts in _listed(body):
        if NFTA_SET_ELEM_EXPR in parts:
            yield parts[NFTA_SET_ELEM_KEY][4:], *_counted(parts)


def _listed(body: bytes) -> Iterator[dict[int, bytes]]:
    """The attributes of each element in a message."""
    for kind, listed in attributes(body):
        if kind == NFTA_SET_ELEM_LIST_ELEMENTS:
            yield from (dict(attributes(element)) for _, element in attributes(listed))


def _counted(parts: dict[int, bytes]) -> tuple[int, int]:
    counter = dict(attributes(dict(attributes(parts[NFTA_SET_ELEM_EXPR]))[2]))
    return int.from_bytes(counter[NFTA_COUNTER_PACKETS], "big"), int.from_bytes(counter[NFTA_COUNTER_BYTES], "big")


def _text(kind: int, text: str) -> bytes:
    return attribute(kind, text.encode() + b"\0")


def _message(kind: int, flags: int, family: int, resource: int, body: bytes, sequence: int) -> bytes:
    body = _MESSAGE.pack(family, 0, resource) + body
    return _HEADER.pack(_HEADER.size + len(body), kind, NLM_F_REQUEST | flags, sequence, 0) + body
