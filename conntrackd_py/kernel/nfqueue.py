"""A packet queue bound by NetfilterQueue, with workarounds where it loses packets or bytes.

- It asks for 4,016 bytes of each packet and reads into 4,096: the copy range is raised on a duplicate of its
  socket (the kernel knows the queue's owner by the socket), and `run_socket` reads through `_Inlet`, which
  returns whole messages. A packet that is still truncated is counted and dropped.
- It hides ENOBUFS; `_Inlet` counts it.
- An exception in the callback would leave the packet without a verdict: the callback never raises (Visitor).
- It binds before the queue is configured: it binds in mode NFQNL_COPY_NONE, in which the kernel drops packets, and the
  last step of the configuration turns copies on.

One visit in SAMPLE_EVERY is timed; a drain without one pays one comparison. One socket serves IPv4 and IPv6: kernels
since 3.8 ignore the family of the bind.
"""

import contextlib
import errno
import os
import select
import socket
import time
import warnings
from collections import deque
from itertools import count
from typing import Final, final

from netfilterqueue import NetfilterQueue, Packet

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import NF_ACCEPT, NF_DROP
from conntrackd_py.kernel import netlink
from conntrackd_py.kernel.proc_queues import QUEUES, queue_rows
from conntrackd_py.kernel.queue import (
    ANSWER_WITHIN,
    SAMPLE_EVERY,
    Clock,
    Handle,
    PacketQueue,
    QueueCounters,
    QueueError,
    Visitor,
    grow_buffer,
    is_truncated,
)

MESSAGE_ROOM: Final = 131072  # bytes, more than the largest packet with its other attributes
BACKEND: Final = "netfilterqueue"
MAY_BE_TRUNCATED: Final = 4016  # NetfilterQueue's copy range


@final
class _Inlet:
    """The socket given to NetfilterQueue.run_socket: returns `left` whole messages at most, and counts ENOBUFS."""

    def __init__(self, sock: socket.socket, counters: QueueCounters) -> None:
        self.sock = sock
        self.counters = counters
        self.early: deque[bytes] = deque()  # packets received before an acknowledgement
        self.left = 0
        self.message = b""  # the one NetfilterQueue is reading now
        self.buffer = bytearray(MESSAGE_ROOM)
        self.view = memoryview(self.buffer)

    def recv(self, _size: int) -> bytes:
        """The next message. BlockingIOError, which ends run_socket, when none waits or `left` is 0."""
        if self.left <= 0:
            raise BlockingIOError(errno.EAGAIN, "enough for now")
        message = self.early.popleft() if self.early else self.read(socket.MSG_DONTWAIT)
        self.left -= 1
        self.message = message
        return message

    def read(self, flags: int = 0) -> bytes:
        while True:
            try:
                return bytes(self.view[: self.sock.recv_into(self.buffer, 0, flags)])
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.counters.enobufs += 1

    def discard(self) -> None:
        """Empty the socket."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.read(socket.MSG_DONTWAIT)


@final
class NfqueueQueue(PacketQueue):
    """Bound from construction until close(). QueueError when it cannot be bound."""

    def __init__(
        self,
        handle: Handle,
        clock: Clock,
        *,
        number: int,
        max_length: int = 8192,
        socket_buffer: int = 16777216,
        on_error: int = NF_DROP,
        fail_open: bool = False,
        counters: QueueCounters | None = None,
        gso: bool = False,
    ) -> None:
        self.number = number
        self.gso = gso
        self.clock = clock
        self.now = clock()  # of all packets of a drain
        self.counters = counters or QueueCounters()
        self.counters.backend = BACKEND
        self.visit = self._visit  # or _sampled
        self.until_sample = SAMPLE_EVERY  # packets
        self.visitor = Visitor(handle, self.counters, on_error)
        self.sequence = count(1)
        self.nfq = self._bind(max_length, socket_buffer)
        self.sock = socket.socket(fileno=os.dup(self.nfq.get_fd()))
        self.inlet = _Inlet(self.sock, self.counters)
        grow_buffer(self.sock, socket_buffer)
        try:
            wanted = (netlink.NFQA_CFG_F_FAIL_OPEN if fail_open else 0) | (netlink.NFQA_CFG_F_GSO if gso else 0)
            if wanted:
                self._configure(netlink.flags(wanted))
            self._configure(netlink.copy_params(netlink.NFQNL_COPY_PACKET, netlink.LARGEST_COPY))
        except OSError as error:
            self.close()
            raise QueueError(f"cannot configure packet queue {number}: {error}") from error

    def _bind(self, max_length: int, socket_buffer: int) -> NetfilterQueue:
        try:
            nfq = NetfilterQueue()
            with warnings.catch_warnings():  # about the buffer size; grow_buffer checks it
                warnings.simplefilter("ignore", RuntimeWarning)
                nfq.bind(self.number, self._callback, max_length, netlink.NFQNL_COPY_NONE, 0, socket_buffer)
        except OSError as error:
            raise QueueError(f"cannot bind packet queue {self.number}: {_why(self.number)}") from error
        return nfq

    def _configure(self, attributes: bytes) -> None:
        """OSError when the kernel refuses or does not answer."""
        sequence = next(self.sequence)
        self.sock.send(netlink.queue_config(self.number, sequence, attributes))
        deadline = time.monotonic() + ANSWER_WITHIN
        while select.select([self.sock], [], [], max(0.0, deadline - time.monotonic()))[0]:
            message = self.inlet.read()
            if netlink.is_reply_to(message, sequence):
                return
            self.inlet.early.append(message)
        raise TimeoutError(errno.ETIMEDOUT, "the kernel did not answer")

    def fileno(self) -> int:
        return self.sock.fileno()

    def drain(self, limit: int) -> int:
        self.inlet.left = limit
        self.now = self.clock()
        due = self.until_sample <= limit
        if due:
            self.visit = self._sampled
        self.nfq.run_socket(self.inlet)  # type: ignore[arg-type]  # it only calls recv
        handled = limit - self.inlet.left
        if due:
            self.visit = self._visit
        else:
            self.until_sample -= handled
        return handled

    def refuse(self) -> None:
        # Without acknowledgement, which a full buffer would lose.
        self.sock.send(netlink.queue_config(self.number, 0, netlink.copy_params(netlink.NFQNL_COPY_NONE, 0)))

    def close(self) -> None:
        if self.sock.fileno() < 0:
            return
        self.refuse()
        self.inlet.discard()  # unbind() waits for an answer, which a full buffer would lose
        self.nfq.unbind()
        self.sock.close()

    def _callback(self, packet: Packet) -> None:
        try:
            verdict = self.visit(packet)
        except Exception as error:  # noqa: BLE001  a packet without a verdict would hold its slot for ever
            verdict = self.visitor.failed(error)
        if verdict == NF_ACCEPT:
            packet.accept()
        else:
            packet.drop()

    def _sampled(self, packet: Packet) -> int:
        self.until_sample -= 1
        if self.until_sample:
            return self._visit(packet)
        self.until_sample = SAMPLE_EVERY
        began = time.perf_counter_ns()
        verdict = self._visit(packet)
        self.counters.visits.observe(time.perf_counter_ns() - began)
        return verdict

    def _visit(self, packet: Packet) -> int:
        """Sets payload and mark of the verdict only if they changed."""
        data: bytes = packet.get_payload()
        if len(data) >= MAY_BE_TRUNCATED and is_truncated(data):
            self.counters.truncated += 1
            return NF_DROP
        mark: int = packet.mark
        skb = Skb(data, mark, packet.indev, packet.outdev)
        if self.gso:
            info = netlink.skb_info(self.inlet.message, len(data))
            if info:
                # A GSO packet keeps its pseudo-header checksum, also after a rewrite.
                skb.segments = info & netlink.SKB_GSO != 0
                skb.checksum_partial = skb.segments or info & netlink.SKB_CSUM_NOT_READY != 0
        verdict = self.visitor.visit(skb, packet.hook, self.now)
        if verdict == NF_ACCEPT:
            if skb.data is not data:
                packet.set_payload(skb.data)
            if skb.mark != mark:
                packet.set_mark(skb.mark)
        return verdict


def _why(number: int) -> str:
    """The cause, from the kernel's list of queues: NetfilterQueue does not report it."""
    if not QUEUES.exists():
        return "the kernel has no packet queues (module nfnetlink_queue)"
    owners = [row.portid for row in queue_rows(QUEUES) if row.number == number]
    if owners:
        return f"another program has it (netlink port {owners[0]}, often its process id)"
    return "the permission is missing (CAP_NET_ADMIN)"
