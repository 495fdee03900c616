"""Messages of a packet queue, as the kernel builds them (nfqnl_build_packet_message)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

PACKET = 0x300
VERDICT_BATCH = 0x303


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def message(attributes: bytes, kind: int = PACKET) -> bytes:
    return struct.pack("=IHHII", 20 + len(attributes), kind, 0, 0, 0) + b"\2\0\0\3" + attributes


def queued(
    packet: int,
    hook: int,
    payload: bytes | None,
    *,
    mark: int = 0,
    indev: int = 0,
    outdev: int = 0,
    skb_info: int = 0,
    cap_len: int = 0,
) -> bytes:
    """payload None: without the attribute."""
    attributes = attribute(1, struct.pack(">IHB", packet, 0x800, hook))
    for kind, value in ((5, indev), (6, outdev), (3, mark)):
        if value:
            attributes += attribute(kind, struct.pack(">I", value))
    attributes += attribute(4, bytes(16))  # a timestamp
    for kind, value in ((13, cap_len), (14, skb_info)):
        if value:
            attributes += attribute(kind, struct.pack(">I", value))
    if payload is not None:
        attributes += attribute(10, payload)
    return message(attributes)


class Verdict(NamedTuple):
    """mark and payload: None if the packet keeps its own."""

    packet: int
    verdict: int
    mark: int | None = None
    payload: bytes | None = None


def verdicts_in(data: bytes, waiting: list[int] | None = None) -> list[Verdict]:
    """The verdict messages of a send, as the kernel reads them.

    waiting: the packets in the queue, which a batch verdict needs; those with a verdict leave it.
    """
    found = []
    while data:
        length, kind = struct.unpack_from("=IH", data)
        values = dict(attributes_of(data[20:length]))
        verdict, packet = struct.unpack(">II", values.pop(2))
        mark = values.pop(3, None)
        packets = [packet]
        if kind == VERDICT_BATCH:
            assert waiting is not None
            packets = waiting[: waiting.index(packet) + 1]
        for each in packets:
            if waiting is not None:
                waiting.remove(each)
            found.append(Verdict(each, verdict, None if mark is None else int.from_bytes(mark), values.get(10)))
        assert values.keys() <= {10}, "attributes the kernel does not know"
        data = data[length:]
    return found


def attributes_of(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        size, kind = struct.unpack_from("=HH", data)
        assert 4 <= size <= len(data), "an attribute beyond its message"
        yield kind, data[4:size]
        data = data[(size + 3) & ~3 :]
