"""A kernel packet queue: every packet gets exactly one verdict, also when our own code raises an exception.

When `fileno()` is readable, the caller calls `drain`, which handles a bounded number of packets and does not wait for
more.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, final

from conntrackd_py.kernel.histogram import Histogram

ANSWER_WITHIN: Final = 2.0  # seconds for the kernel's acknowledgement

Clock = Callable[[], int]


class QueueError(Exception):
    """The queue cannot be bound or configured; the text is for the operator."""


@final
class QueueCounters:
    def __init__(self) -> None:
        self.enobufs = 0  # the socket's buffer was full; /proc counts the lost packets
        self.verdict_errors = 0  # exceptions of our own code
        self.send_errors = 0  # sends of verdicts that the kernel refused; each verdict was sent again
        self.truncated = 0  # truncated packets, dropped
        self.copies_lost = 0  # copies that the kernel dropped, by the gaps in their sequence (mode observe)
        self.translations_lost = 0  # times that the kernel dropped events of translated connections (mode observe)
        self.visits = Histogram()  # times of sampled visits
        self.names: dict[int, str] = {}  # of the queues, by number
        self.backend = ""  # for the metric build_info


class PacketQueue(ABC):
    counters: QueueCounters

    @abstractmethod
    def fileno(self) -> int:
        """Readable when packets wait."""

    @abstractmethod
    def drain(self, limit: int) -> int:
        """Handle at most `limit` waiting messages without blocking; returns how many."""

    def copy_whole(self) -> None:  # noqa: B027  most queues do so already
        """Copy packets of any length whole from now on."""

    @abstractmethod
    def refuse(self) -> None:
        """Take no further packets (the kernel drops them); those waiting can still be drained."""

    @abstractmethod
    def close(self) -> None:
        """Unbind the queue; the kernel drops waiting packets. May be called again."""
