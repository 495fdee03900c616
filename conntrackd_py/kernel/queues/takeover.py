"""Takes over a packet queue that a former process bound, with the packets that wait in it.

The kernel knows the owner of a queue by the socket. So the queue lives on while any process has a duplicate of it, and
packets wait. Their ids rise:

    read by the former process, without a verdict | not read yet  | from now on
    drop                                          | repeat        | handle

- A packet that the former process read may be the one that ended it. So it is dropped, and its sender repeats it.
- A packet that nobody read passes the chain of the queue rule once more (NF_REPEAT) and is queued again. A verdict
  would not do: the kernel remembers where a packet goes on by the number of the chain, and the tables of this process
  have moved the chains. It would also have been copied as the former process wanted it.
- So no packet that waited is accepted.

The kernel answers a request before send returns. So the acknowledgement comes after the packets that wait.
"""

import errno
import os
import select
import socket
import time
from typing import Final, final

from conntrackd_py.const import NF_DROP
from conntrackd_py.kernel import netlink
from conntrackd_py.kernel.queues.batch import HEAD
from conntrackd_py.kernel.queues.mmsg import MOST, Messages
from conntrackd_py.kernel.queues.packet_message import VERDICT_BATCH_TYPE, PacketMessage, VerdictMessages

TRIES: Final = 5  # a full buffer loses the answer
TRY_FOR: Final = 1.0  # seconds
# A batch verdict reaches ids up to half of all numbers below its own. Together these reach every packet, in any place.
EVERY: Final = (b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff")


def is_packet_queue(sock: socket.socket) -> bool:
    """Whether a packet queue can belong to this socket."""
    return sock.family == socket.AF_NETLINK and sock.proto == netlink.NETLINK_NETFILTER


@final
class Takeover:
    """repeated: packets that are queued again."""

    def __init__(self, sock: socket.socket, number: int, received: Messages) -> None:
        self.sock = sock
        self.number = number
        self.received = received
        self.message = PacketMessage()
        self.first = b""  # packet ids, of those that wait
        self.last = b""
        self.repeated = 0

    def configure(self, attributes: bytes) -> None:
        """Configure the queue and queue again what waits in it. OSError unless the queue belongs to this socket."""
        sequence = int.from_bytes(os.urandom(3), "big") + 1  # not one that the former process used
        for _ in range(TRIES):
            self.sock.send(netlink.queue_config(self.number, sequence, attributes))
            if self._answered(sequence):
                self._release()
                return
        raise TimeoutError(errno.ETIMEDOUT, "the kernel did not answer")

    def _answered(self, sequence: int) -> bool:
        """Read all that waits; whether the acknowledgement was among it. OSError when the kernel refused."""
        answered, until = False, time.monotonic() + TRY_FOR
        while not answered and time.monotonic() < until and select.select([self.sock], [], [], 0)[0]:
            try:
                lengths = self.received.receive(self.sock, MOST)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                continue
            heads = self.received.heads(len(lengths))
            for number, length in enumerate(lengths):
                at = number * HEAD
                answered = self._note(heads, at, min(length, HEAD), length, sequence) or answered
        return answered

    def _note(self, heads: bytes, at: int, held: int, length: int, sequence: int) -> bool:
        """Note the packet; whether it is none but the acknowledgement."""
        self.message.read(heads, at, held, length)
        if not self.message.id:
            return netlink.is_reply_to(heads[at : at + held], sequence)
        self.first = self.first or self.message.id
        self.last = self.message.id
        self.repeated += 1
        return False

    def _release(self) -> None:
        verdicts = VerdictMessages(self.number, VERDICT_BATCH_TYPE)
        if not self.first:
            self.sock.send(b"".join(verdicts.plain(packet, NF_DROP) for packet in EVERY))
            return
        before = (int.from_bytes(self.first, "big") - 1) & 0xFFFFFFFF
        self.sock.send(verdicts.plain(before.to_bytes(4, "big"), NF_DROP) + verdicts.repeated(self.last))
