"""A packet queue bound by NetfilterQueue, or taken over. Packets are read and answered by our own loop.

NetfilterQueue reads and answers one packet a call, cuts packets at 4,016 bytes and hides ENOBUFS. So it only binds,
owns and unbinds the queue. The loop works on a duplicate of its socket (the kernel knows the queue's owner by the
socket):

    recvmmsg ─► heads, tails ─► Batch.visit ─► verdicts ─► send
      Messages                    compiled                   VerdictSender

- Every packet received gets exactly one verdict before `drain` returns, also when our own code raises an exception.
  A packet that did not fit its message is counted and dropped.
- ENOBUFS is counted.
- NetfilterQueue cannot take over a queue that is bound. The loop works on the socket alone (takeover.py).
- The queue is bound in mode NFQNL_COPY_NONE, in which the kernel drops packets. The last step of the configuration
  turns copies on.

One socket serves IPv4 and IPv6: kernels since 3.8 ignore the family of the bind.
"""

import contextlib
import errno
import os
import select
import socket
import time
import warnings
from pathlib import Path
from typing import Final, final

from netfilterqueue import NetfilterQueue, Packet

from conntrackd_py.const import NF_ACCEPT, NF_DROP
from conntrackd_py.kernel import netlink
from conntrackd_py.kernel.failures import FailureLog
from conntrackd_py.kernel.queues.batch import Batch, Handle
from conntrackd_py.kernel.queues.mmsg import MOST, Messages
from conntrackd_py.kernel.queues.proc_queues import QUEUES, queue_rows
from conntrackd_py.kernel.queues.queue import ANSWER_WITHIN, Clock, PacketQueue, QueueCounters, QueueError
from conntrackd_py.kernel.queues.takeover import Takeover
from conntrackd_py.kernel.queues.verdict_sender import VerdictSender
from conntrackd_py.kernel.receive_buffer import grow_buffer

ANSWER_ROOM: Final = 4096  # bytes
BACKEND: Final = "netfilterqueue"
SO_SNDBUFFORCE: Final = 32
LEAST_SEND_BUFFER: Final = 262144  # bytes: Batch.MOST_BYTES, one more packet, and what the kernel adds


@final
class NfqueueQueue(PacketQueue):
    """Bound from construction until close(). QueueError when it cannot be bound.

    adopted: the socket to which the queue belongs already; closed when it does not. kept: another process has a
    duplicate of the socket, and the queue outlives close(). repeated: packets that waited and are queued again.
    copied: bytes of each packet. headers: handles a longer one; whole: the queue to which it can send it (NF_QUEUE).
    """

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
        copied: int = netlink.LARGEST_COPY,
        headers: Handle | None = None,
        whole: int = -1,
        adopted: socket.socket | None = None,
    ) -> None:
        self.number = number
        self.adopted = adopted is not None
        self.kept, self.repeated = False, 0
        self.clock = clock
        self.on_error = on_error
        self.counters = counters or QueueCounters()
        self.counters.backend = BACKEND
        self.failures = FailureLog("packet_failed")
        self.nfq: NetfilterQueue | None = None
        self.sock = adopted if adopted is not None else self._bind(max_length, socket_buffer)
        self.received = Messages()
        observe = self.counters.visits.observe
        self.batch = Batch(number, handle, self._failed, time.perf_counter_ns, observe, headers, whole)
        self.sender = VerdictSender(self.sock, number, self.counters)
        self.sock.setsockopt(netlink.SOL_NETLINK, netlink.NETLINK_CAP_ACK, 1)  # an error does not quote the packet
        _grow_send_buffer(self.sock)
        grow_buffer(self.sock, socket_buffer)
        wanted = (netlink.NFQA_CFG_F_FAIL_OPEN if fail_open else 0) | (netlink.NFQA_CFG_F_GSO if gso else 0)
        self._begin(max_length, netlink.flags(wanted), _copy(copied))

    def _bind(self, max_length: int, socket_buffer: int) -> socket.socket:
        try:
            nfq = NetfilterQueue()
            with warnings.catch_warnings():  # about the buffer size; grow_buffer checks it
                warnings.simplefilter("ignore", RuntimeWarning)
                nfq.bind(self.number, _unused, max_length, netlink.NFQNL_COPY_NONE, 0, socket_buffer)
        except OSError as error:
            raise QueueError(f"cannot bind packet queue {self.number}: {_why(self.number)}") from error
        self.nfq = nfq
        return socket.socket(fileno=os.dup(nfq.get_fd()))

    def _begin(self, max_length: int, flags: bytes, copy: bytes) -> None:
        """Packets come from here on. QueueError."""
        try:
            if self.nfq is None:
                self._take_over(netlink.max_length(max_length) + flags + copy)
                return
            self._configure(netlink.copy_params(netlink.NFQNL_COPY_NONE, 0) + flags)
        except OSError as error:
            self.close()
            raise QueueError(f"cannot configure packet queue {self.number}: {error}") from error
        # No answer is asked for, packets may come before it. The mode cannot fail: the one before was accepted.
        self._send(copy)

    def _configure(self, attributes: bytes) -> None:
        """OSError when the kernel refuses or does not answer."""
        self.sock.send(netlink.queue_config(self.number, 1, attributes))
        if not select.select([self.sock], [], [], ANSWER_WITHIN)[0]:
            raise TimeoutError(errno.ETIMEDOUT, "the kernel did not answer")
        if not netlink.is_reply_to(self.sock.recv(ANSWER_ROOM), 1):
            raise OSError(errno.EPROTO, "the kernel answered something else")

    def _take_over(self, attributes: bytes) -> None:
        """OSError when the queue does not belong to this socket."""
        takeover = Takeover(self.sock, self.number, self.received)
        takeover.configure(attributes)
        self.repeated = takeover.repeated

    def _send(self, attributes: bytes) -> None:
        """Configure without acknowledgement, which a full buffer would lose."""
        self.sock.send(netlink.queue_config(self.number, 0, attributes))

    def fileno(self) -> int:
        return self.sock.fileno()

    def drain(self, limit: int) -> int:
        lengths = self._receive(limit)
        if not lengths:
            return 0
        heads = self.received.heads(len(lengths))
        now = self.clock()
        at = 0
        while at < len(lengths):
            at = self.batch.visit(heads, self.received.tails, lengths, at, now)
            if self.batch.size:
                self.sender.send(self.batch.verdicts, self.batch.size)
        self.counters.truncated += self.batch.truncated
        self.batch.truncated = 0
        return len(lengths)

    def _receive(self, limit: int) -> list[int]:
        """The lengths of the messages received now."""
        while True:
            try:
                return self.received.receive(self.sock, limit)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.counters.enobufs += 1

    def _failed(self, error: Exception) -> int:
        """Count the exception, log it once for its place in the code; returns on_error."""
        self.counters.verdict_errors += 1
        self.failures.note(error, packet="accepted" if self.on_error == NF_ACCEPT else "dropped")
        return self.on_error

    def refuse(self) -> None:
        self._send(netlink.copy_params(netlink.NFQNL_COPY_NONE, 0))

    def close(self) -> None:
        if self.sock.fileno() < 0:
            return
        if self.kept and self.nfq is not None:
            with Path(os.devnull).open("rb") as nothing:  # NetfilterQueue unbinds when it is deleted
                os.dup2(nothing.fileno(), self.nfq.get_fd())
        elif self.nfq is not None:
            self.refuse()
            while self._receive(MOST):  # unbind() waits for an answer, which a full buffer would lose
                pass
            self.nfq.unbind()
        elif not self.kept:
            self._send(netlink.unbind())
        self.sock.close()


def _unused(packet: Packet) -> None:
    """NetfilterQueue wants a callback, but reads no packet."""


def _copy(size: int) -> bytes:
    return netlink.copy_params(netlink.NFQNL_COPY_PACKET, size)


def _grow_send_buffer(sock: socket.socket) -> None:
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) < LEAST_SEND_BUFFER:
        with contextlib.suppress(PermissionError):  # larger sends are split
            sock.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, LEAST_SEND_BUFFER)


def _why(number: int) -> str:
    """The cause, from the kernel's list of queues: NetfilterQueue does not report it."""
    if not QUEUES.exists():
        return "the kernel has no packet queues (module nfnetlink_queue)"
    owners = [row.portid for row in queue_rows(QUEUES) if row.number == number]
    if owners:
        return f"another program has it (netlink port {owners[0]}, often its process id)"
    return "the permission is missing (CAP_NET_ADMIN)"
