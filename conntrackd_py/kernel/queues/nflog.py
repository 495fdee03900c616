"""An NFLOG group: copies of packets. The kernel holds no packet and asks for no verdict.

The kernel collects copies and sends them together: THRESHOLD of them, a full buffer, or those of FLUSH. When the socket
is full it drops copies; the gaps in their sequence numbers count them. Copies are cut to COPIED bytes and may lack a
finished checksum, so checksums are not verified.
"""

import errno
import select
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, final

import structlog

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import LOCAL_OUT, PRE_ROUTING
from conntrackd_py.kernel import netlink
from conntrackd_py.kernel.failures import FailureLog
from conntrackd_py.kernel.netlink import attribute
from conntrackd_py.kernel.queues.batch import SAMPLE_EVERY, Handle
from conntrackd_py.kernel.queues.queue import (
    ANSWER_WITHIN,
    Clock,
    PacketQueue,
    QueueCounters,
    QueueError,
)
from conntrackd_py.kernel.receive_buffer import grow_buffer
from conntrackd_py.kernel.steering.plan import COPIED, THRESHOLD
from conntrackd_py.wire.nflog import NO_SEQUENCE, Copies

log = structlog.get_logger()

BACKEND: Final = "nflog"
GROUPS: Final = Path("/proc/net/netfilter/nfnetlink_log")
ROOM: Final = 1 << 17
KERNEL_BUFFER: Final = 16384  # bytes: THRESHOLD copies with their attributes
FLUSH: Final = 1  # hundredths of a second
SEQUENCE: Final = 1

NFNL_SUBSYS_ULOG: Final = 4
NFULNL_MSG_CONFIG: Final = 1
NFULA_CFG_CMD: Final = 1
NFULA_CFG_MODE: Final = 2
NFULA_CFG_NLBUFSIZ: Final = 3
NFULA_CFG_TIMEOUT: Final = 4
NFULA_CFG_QTHRESH: Final = 5
NFULA_CFG_FLAGS: Final = 6
NFULNL_CFG_CMD_BIND: Final = 1
NFULNL_CFG_CMD_UNBIND: Final = 2
NFULNL_COPY_PACKET: Final = 2
NFULNL_CFG_F_SEQ: Final = 1
M32: Final = 0xFFFFFFFF


@final
class NflogGroup(PacketQueue):
    """Bound from construction until close(). QueueError when it cannot be bound.

    before: called after copies were received and before they are judged.
    """

    def __init__(
        self,
        handle: Handle,
        clock: Clock,
        *,
        number: int,
        socket_buffer: int,
        counters: QueueCounters,
        before: Callable[[], object],
    ) -> None:
        self.number = number
        self.clock = clock
        self.counters = counters
        counters.backend = BACKEND
        self.before = before
        self.handle = handle
        self.failures = FailureLog("packet_failed")
        self.expected = NO_SEQUENCE
        self.until_sample = SAMPLE_EVERY
        self.sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, netlink.NETLINK_NETFILTER)
        try:
            self.sock.bind((0, 0))
            grow_buffer(self.sock, socket_buffer)
            self._bind()
        except OSError as error:
            self.sock.close()
            raise QueueError(f"cannot bind NFLOG group {number}: {_why(number, error)}") from error

    def _bind(self) -> None:
        parts = attribute(NFULA_CFG_CMD, bytes((NFULNL_CFG_CMD_BIND,)))
        parts += attribute(NFULA_CFG_MODE, struct.pack(">IBx", COPIED, NFULNL_COPY_PACKET))
        parts += attribute(NFULA_CFG_NLBUFSIZ, struct.pack(">I", KERNEL_BUFFER))
        parts += attribute(NFULA_CFG_TIMEOUT, struct.pack(">I", FLUSH))
        parts += attribute(NFULA_CFG_QTHRESH, struct.pack(">I", THRESHOLD))
        parts += attribute(NFULA_CFG_FLAGS, struct.pack(">H", NFULNL_CFG_F_SEQ))
        self._configure(SEQUENCE, parts)
        deadline = time.monotonic() + ANSWER_WITHIN
        while select.select([self.sock], [], [], max(0.0, deadline - time.monotonic()))[0]:
            if netlink.is_reply_to(self.sock.recv(ROOM), SEQUENCE):
                return
        raise TimeoutError(errno.ETIMEDOUT, "the kernel did not answer")

    def _configure(self, sequence: int, attributes: bytes) -> None:
        kind = NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_CONFIG
        self.sock.send(netlink.request(kind, self.number, sequence, attributes))

    def fileno(self) -> int:
        return self.sock.fileno()

    def drain(self, limit: int) -> int:
        """Judge waiting copies, a whole datagram at a time; the last one may pass the limit."""
        judged = 0
        while judged < limit:
            try:
                datagram = self.sock.recv(ROOM, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.counters.enobufs += 1
                continue
            self.before()
            judged += self._judge(datagram)
        return judged

    def _judge(self, datagram: bytes) -> int:
        copies = Copies(datagram)
        now = self.clock()
        judged = 0
        while copies.next():
            judged += 1
            if copies.sequence != self.expected:
                self._gap(copies.sequence)
            self.expected = copies.sequence + 1 & M32
            if copies.hook not in (PRE_ROUTING, LOCAL_OUT):
                continue  # from another program's rule with this group
            skb = Skb(copies.payload, copies.mark, copies.indev, copies.outdev)
            skb.copy = True
            self.until_sample -= 1
            if self.until_sample:
                self._visit(skb, copies.hook, now)
            else:
                self._sampled(skb, copies.hook, now)
        return judged

    def _visit(self, skb: Skb, hook: int, now: int) -> None:
        try:
            self.handle(skb, hook, now)
        except Exception as error:  # noqa: BLE001  a mistake of our code must not end the daemon
            self.counters.verdict_errors += 1
            self.failures.note(error, packet="passed")

    def _gap(self, sequence: int) -> None:
        if self.expected != NO_SEQUENCE:
            if not self.counters.copies_lost:
                log.warning("copies_lost", help="observe.socket_buffer; further losses are only counted")
            self.counters.copies_lost += sequence - self.expected & M32

    def _sampled(self, skb: Skb, hook: int, now: int) -> None:
        self.until_sample = SAMPLE_EVERY
        began = time.perf_counter_ns()
        self._visit(skb, hook, now)
        self.counters.visits.observe(time.perf_counter_ns() - began)

    def refuse(self) -> None:
        self._configure(0, attribute(NFULA_CFG_CMD, bytes((NFULNL_CFG_CMD_UNBIND,))))

    def close(self) -> None:
        self.sock.close()  # the kernel unbinds the group


def _why(number: int, error: OSError) -> str:
    """The cause, from the kernel's list of groups: it answers EPERM for two of them."""
    if error.errno != errno.EPERM:
        return error.strerror or str(error)
    rows = [line.split() for line in GROUPS.read_text().splitlines()] if GROUPS.exists() else []
    owners = [row[1] for row in rows if row[0] == str(number)]
    if owners:
        return f"another program has it (netlink port {owners[0]})"
    return "the permission is missing (CAP_NET_ADMIN)"
