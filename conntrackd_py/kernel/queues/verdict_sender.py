"""Sends verdicts: many with one call. A send that fails loses none.

The kernel takes all bytes of a send or none. It refuses more than the socket's send buffer (EMSGSIZE), and any number
when it has no memory (ENOBUFS, ENOMEM). Then each verdict is sent alone. A rewritten packet that cannot be sent alone
is dropped. A verdict without a packet is tried again for RETRY_FOR; then the OSError ends the daemon, and the kernel
drops what waits.
"""

import errno
import socket
import struct
import time
from collections.abc import Iterator
from typing import Final, final

import structlog

from conntrackd_py.const import NF_DROP
from conntrackd_py.kernel.queues.packet_message import ID_AT, MARK_SIZE, VERDICT_SIZE, VerdictMessages
from conntrackd_py.kernel.queues.queue import QueueCounters

log = structlog.get_logger()

REFUSED: Final = (errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN, errno.EMSGSIZE)
ONE_COPY: Final = 16384  # bytes: from here on, passing the parts costs less than joining them
RETRY_FOR: Final = 1.0  # seconds
RETRY_EVERY: Final = 0.001
_LENGTH: Final = struct.Struct("=I")


@final
class VerdictSender:
    def __init__(self, sock: socket.socket, number: int, counters: QueueCounters) -> None:
        self.sock = sock
        self.messages = VerdictMessages(number)
        self.counters = counters

    def send(self, verdicts: list[bytes], size: int) -> None:
        """Send these parts, of `size` bytes in all. OSError when the socket is broken or memory stays short."""
        try:
            if size < ONE_COPY:
                self.sock.send(b"".join(verdicts))
            else:
                self.sock.sendmsg(verdicts)
        except OSError as error:
            if error.errno not in REFUSED:
                raise
            if not self.counters.send_errors:
                log.warning("verdicts_refused", error=str(error), bytes=size, help="each is sent alone")
            self.counters.send_errors += 1
            for verdict in each(b"".join(verdicts)):
                self._send_alone(verdict)

    def _send_alone(self, verdict: bytes) -> None:
        if len(verdict) > VERDICT_SIZE + MARK_SIZE:
            try:
                self.sock.send(verdict)
                return
            except OSError as error:
                if error.errno not in REFUSED:
                    raise
            verdict = self.messages.plain(verdict[ID_AT : ID_AT + 4], NF_DROP)
        until = time.monotonic() + RETRY_FOR
        while True:
            try:
                self.sock.send(verdict)
                return
            except OSError as error:
                if error.errno not in REFUSED or time.monotonic() > until:
                    raise
            time.sleep(RETRY_EVERY)


def each(verdicts: bytes) -> Iterator[bytes]:
    """The messages one by one."""
    at = 0
    while at < len(verdicts):
        length = _LENGTH.unpack_from(verdicts, at)[0]
        yield verdicts[at : at + length]
        at += (length + 3) & ~3
