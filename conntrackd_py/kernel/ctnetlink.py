"""Reads the kernel's own connection table by ctnetlink: one connection by its tuple, or all.

Tuples have the layout of conntrack.tuple, so that both tables can be compared. The ctnetlink client of pyroute2 reads
IPv4 only. Numbers: linux/netfilter/nfnetlink_conntrack.h.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self, final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.const import IPPROTO_ICMP, IPPROTO_ICMPV6
from conntrackd_py.kernel.netlink import NETLINK_NETFILTER, NLM_F_REQUEST, NLMSG_ERROR, attribute

NLMSG_DONE: Final = 3
NLM_F_DUMP: Final = 0x300
CT_GET: Final = 1 << 8 | 1  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET
NESTED: Final = 0x8000
CTA_TUPLE_ORIG: Final = 1
CTA_TUPLE_REPLY: Final = 2
CTA_STATUS: Final = 3
CTA_PROTOINFO: Final = 4
CTA_TIMEOUT: Final = 7
CTA_COUNTERS_ORIG: Final = 9
CTA_COUNTERS_REPLY: Final = 10
CTA_ZONE: Final = 18
CTA_TUPLE_ZONE: Final = 3
ROOM: Final = 1 << 16


@dataclass(frozen=True)
class Entry:
    """A confirmed connection. timeout: seconds left. state: 0 for a protocol without states."""

    state: int
    status: int
    timeout: int
    original: bytes
    reply: bytes
    counters: tuple[int, int, int, int] = (0, 0, 0, 0)  # packets and bytes, original and reply; with accounting


def attributes(data: bytes) -> dict[int, bytes]:
    """Netlink attributes by kind, without the flags in the kind."""
    found = {}
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


@final
class Ctnetlink:
    """A ctnetlink socket of the current network namespace. OSError without nf_conntrack or permission."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        self.socket.bind((0, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def get(self, t: bytes) -> Entry | None:
        """The connection with this tuple as its original one, or None."""
        family = socket.AF_INET if tuples.address_length(t) == 4 else socket.AF_INET6
        self._ask(family, attribute(CTA_TUPLE_ORIG | NESTED, _pack(t)), NLM_F_REQUEST)
        answer = self.socket.recv(ROOM)
        (kind,) = struct.unpack_from("=H", answer, 4)
        if kind == NLMSG_ERROR:
            if _error(answer) != errno.ENOENT:
                raise OSError(_error(answer), os.strerror(_error(answer)))
            return None
        return _entry(answer[20:])

    def dump(self) -> list[Entry]:
        """All connections of both families."""
        self._ask(socket.AF_UNSPEC, b"", NLM_F_REQUEST | NLM_F_DUMP)
        return list(self._answers())

    def _ask(self, family: int, body: bytes, flags: int) -> None:
        body = struct.pack(">BBH", family, 0, 0) + body
        self.socket.send(struct.pack("=IHHII", 16 + len(body), CT_GET, flags, 1, 0) + body)

    def _answers(self) -> Iterator[Entry]:
        while True:
            data = self.socket.recv(ROOM)
            at = 0
            while at + 16 <= len(data):
                length, kind = struct.unpack_from("=IH", data, at)
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    raise OSError(_error(data[at:]), os.strerror(_error(data[at:])))
                yield _entry(data[at + 20 : at + length])
                at += (length + 3) & ~3


def _error(message: bytes) -> int:
    (code,) = struct.unpack_from("=i", message, 16)
    return -int(code)


def tuples_of(ct: dict[int, bytes]) -> tuple[bytes, bytes]:
    """The original and the reply tuple of a connection's attributes, each in its zone."""
    both = int.from_bytes(ct.get(CTA_ZONE, b""), "big")
    return _unpack(ct[CTA_TUPLE_ORIG], both), _unpack(ct[CTA_TUPLE_REPLY], both)


def _entry(data: bytes) -> Entry:
    ct = attributes(data)
    state = 0
    for protocol in attributes(ct.get(CTA_PROTOINFO, b"")).values():
        state = attributes(protocol)[1][0]
    (status,) = struct.unpack(">I", ct[CTA_STATUS])
    (timeout,) = struct.unpack(">I", ct.get(CTA_TIMEOUT, bytes(4)))
    original, reply = tuples_of(ct)
    counters = (*_counters(ct.get(CTA_COUNTERS_ORIG)), *_counters(ct.get(CTA_COUNTERS_REPLY)))
    return Entry(state, status, timeout, original, reply, counters)


def _counters(data: bytes | None) -> tuple[int, int]:
    if data is None:
        return 0, 0
    found = attributes(data)
    return int.from_bytes(found[1], "big"), int.from_bytes(found[2], "big")


def _pack(t: bytes) -> bytes:
    """A tuple as ctnetlink attributes: CTA_TUPLE_IP, CTA_TUPLE_PROTO."""
    v4 = tuples.address_length(t) == 4
    addresses = attribute(1 if v4 else 3, tuples.src(t)) + attribute(2 if v4 else 4, tuples.dst(t))
    proto, l4 = tuples.protonum(t), tuples.l4(t)
    parts = attribute(1, bytes((proto,)))
    if proto in (IPPROTO_ICMP, IPPROTO_ICMPV6):
        first = 4 if proto == IPPROTO_ICMP else 7
        parts += attribute(first, l4[:2]) + attribute(first + 1, l4[2:3]) + attribute(first + 2, l4[3:])
    else:
        parts += attribute(2, l4[:2]) + attribute(3, l4[2:])
    return attribute(1 | NESTED, addresses) + attribute(2 | NESTED, parts)


def _unpack(data: bytes, zone: int) -> bytes:
    """A ctnetlink tuple in the layout of conntrack.tuple. zone: of both directions; the tuple may have its own."""
    parts = attributes(data)
    addresses = attributes(parts[1])
    pair = addresses[1] + addresses[2] if 1 in addresses else addresses[3] + addresses[4]
    proto = attributes(parts[2])
    if 4 in proto:  # ICMP: id, type, code
        l4 = proto[4] + proto[5] + proto[6]
    elif 7 in proto:  # ICMPv6
        l4 = proto[7] + proto[8] + proto[9]
    else:
        l4 = proto.get(2, b"\0\0") + proto.get(3, b"\0\0")
    own = int.from_bytes(parts.get(CTA_TUPLE_ZONE, b""), "big")
    return tuples.with_zone(pair + l4 + proto[1][:1], own or zone)
