"""A kernel packet queue: packets in, exactly one verdict each out, whatever happens in between.

`Visitor` is what every backend does with one packet; a `PacketQueue` is a backend. A backend is driven from
outside: when `fileno()` is readable, `drain` handles a bounded number of packets and never blocks.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import final

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import NF_ACCEPT, NF_DROP
from conntrackd_py.kernel.failures import FailureLog
from conntrackd_py.kernel.histogram import Histogram

Clock = Callable[[], int]
Handle = Callable[[Skb, int, int], int]  # Engine.handle


class QueueError(Exception):
    """The queue cannot be had; the text is for the operator."""


@final
class QueueCounters:
    def __init__(self) -> None:
        self.enobufs = 0  # times the kernel said that the socket's buffer was full; packets lost: see /proc
        self.verdict_errors = 0  # packets our own code failed on
        self.truncated = 0  # packets that did not arrive whole, dropped
        self.visits = Histogram()  # time of a visit, of one packet in many
        self.backend = ""  # what binds the queue


class PacketQueue(ABC):
    counters: QueueCounters

    @abstractmethod
    def fileno(self) -> int:
        """Readable when packets wait."""

    @abstractmethod
    def drain(self, limit: int) -> int:
        """Handle at most `limit` waiting messages without blocking; how many there were."""

    @abstractmethod
    def refuse(self) -> None:
        """Take no further packets (the kernel drops them); those waiting can still be drained."""

    @abstractmethod
    def close(self) -> None:
        """Give the queue back. The kernel drops what still waits. May be called again."""


@final
class Visitor:
    """One packet through the engine. An exception of ours ends here, as the verdict `on_error`."""

    def __init__(self, handle: Handle, counters: QueueCounters, on_error: int = NF_DROP) -> None:
        self.handle = handle
        self.counters = counters
        self.on_error = on_error
        self.failures = FailureLog("packet_failed")

    def visit(self, skb: Skb, hook: int, now: int) -> int:
        """The verdict; skb.data and skb.mark are what must go with it."""
        data, mark = skb.data, skb.mark
        try:
            return self.handle(skb, hook, now)
        except Exception as error:  # noqa: BLE001  a packet without a verdict would hold its slot for ever
            skb.data, skb.mark = data, mark
            return self.failed(error)

    def failed(self, error: Exception) -> int:
        """Count our mistake, tell of it once for each place in the code; the verdict of last resort."""
        self.counters.verdict_errors += 1
        self.failures.note(error, packet="accepted" if self.on_error == NF_ACCEPT else "dropped")
        return self.on_error


def is_truncated(data: bytes) -> bool:
    """Whether the IP header promises more bytes than there are."""
    if data[0] >> 4 == 4:
        return len(data) < 4 or int.from_bytes(data[2:4]) > len(data)
    return len(data) < 6 or int.from_bytes(data[4:6]) + 40 > len(data)
