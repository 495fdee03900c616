"""A kernel packet queue: every packet gets exactly one verdict, also when our own code raises an exception.

A `PacketQueue` is a backend; it passes each packet to a `Visitor`. When `fileno()` is readable, the caller calls
`drain`, which handles a bounded number of packets and never blocks.
"""

import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, final

import structlog

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import NF_ACCEPT, NF_DROP
from conntrackd_py.kernel.failures import FailureLog
from conntrackd_py.kernel.histogram import Histogram

log = structlog.get_logger()

ANSWER_WITHIN: Final = 2.0  # seconds for the kernel's acknowledgement
SAMPLE_EVERY: Final = 512  # packets: one visit of them is timed

Clock = Callable[[], int]
Handle = Callable[[Skb, int, int], int]  # Engine.handle


class QueueError(Exception):
    """The queue cannot be bound or configured; the text is for the operator."""


@final
class QueueCounters:
    def __init__(self) -> None:
        self.enobufs = 0  # the socket's buffer was full; /proc counts the lost packets
        self.verdict_errors = 0  # exceptions of our own code
        self.truncated = 0  # truncated packets, dropped
        self.copies_lost = 0  # copies that the kernel dropped, by the gaps in their sequence (mode observe)
        self.translations_lost = 0  # times that the kernel dropped events of translated connections (mode observe)
        self.visits = Histogram()  # times of sampled visits
        self.backend = ""  # for the metric build_info


class PacketQueue(ABC):
    counters: QueueCounters

    @abstractmethod
    def fileno(self) -> int:
        """Readable when packets wait."""

    @abstractmethod
    def drain(self, limit: int) -> int:
        """Handle at most `limit` waiting messages without blocking; returns how many."""

    @abstractmethod
    def refuse(self) -> None:
        """Take no further packets (the kernel drops them); those waiting can still be drained."""

    @abstractmethod
    def close(self) -> None:
        """Unbind the queue; the kernel drops waiting packets. May be called again."""


@final
class Visitor:
    """Passes a packet to the engine. An exception of our own code becomes the verdict `on_error`."""

    def __init__(self, handle: Handle, counters: QueueCounters, on_error: int = NF_DROP) -> None:
        self.handle = handle
        self.counters = counters
        self.on_error = on_error
        self.failures = FailureLog("packet_failed")

    def visit(self, skb: Skb, hook: int, now: int) -> int:
        """The verdict; skb.data and skb.mark belong to it."""
        data, mark = skb.data, skb.mark
        try:
            return self.handle(skb, hook, now)
        except Exception as error:  # noqa: BLE001  a packet without a verdict would hold its slot for ever
            skb.data, skb.mark = data, mark
            return self.failed(error)

    def failed(self, error: Exception) -> int:
        """Count the exception, log it once for its place in the code; returns on_error."""
        self.counters.verdict_errors += 1
        self.failures.note(error, packet="accepted" if self.on_error == NF_ACCEPT else "dropped")
        return self.on_error


def grow_buffer(sock: socket.socket, size: int) -> None:
    """Set the receive buffer of a netlink socket; logs a smaller one."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_RCVBUFFORCE", 33), size)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        granted = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
        if granted < size:
            log.warning("socket_buffer_small", wanted=size, granted=granted, help="raise net.core.rmem_max")


def is_truncated(data: bytes) -> bool:
    """Whether the IP header gives a greater length than data has."""
    if data[0] >> 4 == 4:
        return len(data) < 4 or int.from_bytes(data[2:4]) > len(data)
    return len(data) < 6 or int.from_bytes(data[4:6]) + 40 > len(data)
