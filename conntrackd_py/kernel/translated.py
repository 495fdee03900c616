"""Reads which connections the kernel translates, for mode observe: ctnetlink events, and dumps after a loss.

- A socket filter passes only events of translated connections, so a flood of others costs nothing here.
- When the kernel reports a loss (ENOBUFS), and at the start, two filtered dumps read all translated connections, in
  pieces, over the same socket. Two dumps begin at least DUMP_EVERY apart.
- The kernel sends the event of a first packet before the answer arrives. The caller reads a packet, then all events,
  then judges the packet. So every connection that the packet may answer has its reply tuple.
"""

import errno
import os
import select
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Final, final

import structlog

from conntrackd_py.const import IPS_DST_NAT, IPS_NAT_MASK, IPS_SRC_NAT
from conntrackd_py.engine.engine import Engine
from conntrackd_py.kernel.ctnetlink import (
    CT_GET,
    CTA_STATUS,
    NLM_F_DUMP,
    NLMSG_DONE,
    attributes,
    tuples_of,
)
from conntrackd_py.kernel.netlink import (
    NETLINK_NETFILTER,
    NLM_F_REQUEST,
    NLMSG_ERROR,
    attach_filter,
    attribute,
)
from conntrackd_py.kernel.queues.queue import Clock, PacketQueue, QueueCounters
from conntrackd_py.kernel.receive_buffer import grow_buffer

log = structlog.get_logger()

NFNLGRP_CONNTRACK_NEW: Final = 1
SOL_NETLINK: Final = 270
NETLINK_ADD_MEMBERSHIP: Final = 1
NLM_F_MULTI: Final = 2
CT_NEW: Final = 1 << 8  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_NEW
CTA_STATUS_MASK: Final = 26
HEADER: Final = 20  # struct nlmsghdr and struct nfgenmsg
ROOM: Final = 1 << 16
DUMP_EVERY: Final = 5_000  # ms
A_TURN: Final = 256  # reports, 10 to 20 us each
SYSCTL: Final = Path("/proc/sys/net/netfilter/nf_conntrack_events")
BUFFER: Final = 1 << 22

# Accept a message of another type, a message of a dump, and one without CTA_STATUS; of the rest, those with a NAT bit.
# Half-words of the netlink header are in host order, which the filter reads as big-endian.
_BIG: Final = sys.byteorder == "big"
_FILTER: Final = (
    (0x28, 0, 0, 4),  # A = nlmsg_type
    (0x15, 0, 9, CT_NEW if _BIG else CT_NEW >> 8),  # accept unless it is CT_NEW
    (0x28, 0, 0, 6),  # A = nlmsg_flags
    (0x45, 7, 0, NLM_F_MULTI if _BIG else NLM_F_MULTI << 8),
    (0x01, 0, 0, CTA_STATUS),  # X = attribute type
    (0x00, 0, 0, HEADER),  # A = where to search
    (0x30, 0, 0, 0xFFFFF00C),  # A = its offset (SKF_AD_NLATTR)
    (0x15, 3, 0, 0),
    (0x07, 0, 0, 0),  # X = A
    (0x40, 0, 0, 4),  # A = status
    (0x45, 0, 1, IPS_NAT_MASK),
    (0x06, 0, 0, 0xFFFFFFFF),  # accept
    (0x06, 0, 0, 0),
)


@final
class Translated(PacketQueue):
    """Tells the engine. OSError without permission."""

    def __init__(self, engine: Engine, clock: Clock, counters: QueueCounters, buffer: int = BUFFER) -> None:
        self.translations = engine.translations
        self.clock = clock
        self.counters = counters
        self.wanted = True  # a dump
        self.dumps: list[int] = []  # status bits still to be dumped; the first is under way
        self.dumped_at = -DUMP_EVERY
        self.sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK_NETFILTER)
        self.sock.bind((0, 0))
        grow_buffer(self.sock, buffer)
        attach_filter(self.sock, _FILTER)
        self.sock.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NFNLGRP_CONNTRACK_NEW)

    def fileno(self) -> int:
        return self.sock.fileno()

    def drain(self, limit: int = A_TURN) -> int:
        """Read waiting reports, about `limit` at most (a datagram of a dump has several); returns how many."""
        now = self.clock()
        count = 0
        while count < limit:
            try:
                datagram = self.sock.recv(ROOM)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.counters.translations_lost += 1
                self.wanted = True
                continue
            count += self._read(datagram, now)
        if self.wanted and not self.dumps and now - self.dumped_at >= DUMP_EVERY:
            self.wanted = False
            self.dumped_at = now
            self.dumps = [IPS_SRC_NAT, IPS_DST_NAT]
            self._ask()
        return count

    def settle(self, seconds: float) -> None:
        """Read all translated connections, at the start; for at most `seconds`."""
        if SYSCTL.exists() and SYSCTL.read_text().strip() == "0":
            log.warning("translations_unknown", error="the kernel's events are off", help="nf_conntrack_events = 2")
        deadline = time.monotonic() + seconds
        self.drain()
        while self.dumps and select.select([self.sock], [], [], max(0.0, deadline - time.monotonic()))[0]:
            self.drain()

    def _ask(self) -> None:
        """Begin the first dump of self.dumps. A kernel without the filter sends all connections."""
        status = struct.pack(">I", self.dumps[0])
        body = struct.pack(">BBH", socket.AF_UNSPEC, 0, 0)
        body += attribute(CTA_STATUS, status) + attribute(CTA_STATUS_MASK, status)
        header = struct.pack("=IHHII", 16 + len(body), CT_GET, NLM_F_REQUEST | NLM_F_DUMP, 1, 0)
        self.sock.send(header + body)

    def _read(self, datagram: bytes, now: int) -> int:
        """Returns the number of messages, at least 1."""
        at = count = 0
        while at + 16 <= len(datagram):
            length, kind, flags = struct.unpack_from("=IHH", datagram, at)
            if kind == CT_NEW:
                self._learn(datagram[at + HEADER : at + length], now, not flags & NLM_F_MULTI)
            elif kind in (NLMSG_DONE, NLMSG_ERROR):
                self._dumped(struct.unpack_from("=i", datagram, at + 16)[0])
            at += max(length + 3 & ~3, 16)
            count += 1
        return max(count, 1)

    def _learn(self, body: bytes, now: int, new: bool) -> None:
        ct = attributes(body)
        status = int.from_bytes(ct.get(CTA_STATUS, b""), "big")
        if status & IPS_NAT_MASK:
            original, reply = tuples_of(ct)
            self.translations.learn(original, reply, status, now, new)

    def _dumped(self, code: int) -> None:
        """A dump is complete, or has failed: without the module nf_conntrack_netlink nothing can be learned."""
        if code < 0:
            log.warning("translations_unknown", error=os.strerror(-code), help="modprobe nf_conntrack_netlink")
            self.dumps = []
            return
        self.dumps = self.dumps[1:]
        if self.dumps:
            self._ask()

    def refuse(self) -> None:
        return

    def close(self) -> None:
        self.sock.close()
