"""The packets of one recvmmsg: each visits the engine and gets exactly one verdict. Compiled; no I/O, no clock.

The caller fills `heads` and `tails`, calls `visit` until it has handled all messages, and sends `verdicts` after each
call, as they are: a list of byte strings without a gap between two verdicts.

Invariants:
- Verdicts stand in the order of the packets.
- A packet gets its verdict in the turn in which it is visited, also when our own code raises an exception. Then it is
  on_error, and the packet is as the kernel has it.
- Payload and mark go back only if they changed.
- Equal verdicts in a row, without payload, become one on all packets up to the last of them. It reaches no other
  packet: those before have their verdicts already, and the kernel numbers packets in the order in which it sends them.
- `verdicts` never exceed MOST_BYTES by more than one packet.
"""

from collections.abc import Callable
from typing import Final, final

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import NF_ACCEPT, NF_DROP, NF_QUEUE
from conntrackd_py.kernel.queues.packet_message import (
    BEGINNING,
    OTHER,
    SKB_CSUM_NOT_READY,
    SKB_CSUM_NOT_VERIFIED,
    SKB_GSO,
    VERDICT_BATCH_TYPE,
    WHOLE,
    PacketMessage,
    VerdictMessages,
)

HEAD: Final = 512  # bytes of a message in `heads`; holds every attribute before the payload
MOST_BYTES: Final = 65536  # of verdicts sent at once
SAMPLE_EVERY: Final = 512  # packets
NO_RUN: Final = -3
PADDING: Final = (b"", b"\0\0\0", b"\0\0", b"\0")  # by length modulo 4

Handle = Callable[[Skb, int, int], int]  # Engine.handle
Failed = Callable[[Exception], int]  # counts an exception of our own code; returns on_error
Ticks = Callable[[], int]  # nanoseconds
Observe = Callable[[int], None]


@final
class Batch:
    """number: of the queue. observe: gets the time of one visit in SAMPLE_EVERY, by `ticks`.

    headers: handles a packet of which only the beginning is here; whole: the queue to which it can send it (NF_QUEUE).
    """

    def __init__(
        self,
        number: int,
        handle: Handle,
        failed: Failed,
        ticks: Ticks,
        observe: Observe,
        headers: Handle | None = None,
        whole: int = -1,
    ) -> None:
        self.whole_packet = handle
        self.headers = headers
        self.handle = handle  # of the packet at hand
        self.whole = whole
        self.failed = failed
        self.ticks = ticks
        self.observe = observe
        self.until_sample = SAMPLE_EVERY
        self.message = PacketMessage()
        self.one = VerdictMessages(number)
        self.up_to = VerdictMessages(number, VERDICT_BATCH_TYPE)
        self.verdicts: list[bytes] = []
        self.size = 0  # bytes of verdicts
        self.run = NO_RUN  # the last of verdicts: -1 drops, -2 accepts, others accept with this mark
        self.truncated = 0  # packets dropped because they were incomplete

    def visit(self, heads: bytes, tails: list[memoryview], lengths: list[int], at: int, now: int) -> int:
        """Visit the messages from number `at` on; returns the number of the next one.

        Stops early when the verdicts have MOST_BYTES. heads: the first HEAD bytes of each message; tails: the others.
        """
        self.verdicts = []
        self.size = 0
        self.run = NO_RUN
        while at < len(lengths) and self.size < MOST_BYTES:
            length = lengths[at]
            held = length if length < HEAD else HEAD
            found = self.message.read(heads, at * HEAD, held, length)
            if found == WHOLE or (found == BEGINNING and self.headers is not None):
                self.handle = self.headers if found == BEGINNING and self.headers is not None else self.whole_packet
                self._packet(heads, tails[at], at * HEAD + HEAD, now)
            elif found != OTHER:
                self.truncated += 1
                self._plain(NF_DROP)
            at += 1
        return at

    def _packet(self, heads: bytes, tail: memoryview, head_end: int, now: int) -> None:
        already, size = len(self.verdicts), self.size
        try:
            self._visit(heads, tail, head_end, now)
        except Exception as error:  # noqa: BLE001  a packet without a verdict would hold its slot for ever
            del self.verdicts[already:]
            self.size = size
            self.run = NO_RUN
            self._plain(self.failed(error))

    def _visit(self, heads: bytes, tail: memoryview, head_end: int, now: int) -> None:
        message = self.message
        if message.payload_end <= head_end:
            data = heads[message.payload_at : message.payload_end]
        else:
            data = b"".join((heads[message.payload_at : head_end], tail[: message.payload_end - head_end]))
        skb = Skb(data, message.mark, message.indev, message.outdev)
        if message.skb_info:
            # A GSO packet keeps its pseudo-header checksum, also after a rewrite.
            skb.segments = message.skb_info & SKB_GSO != 0
            skb.checksum_partial = skb.segments or message.skb_info & SKB_CSUM_NOT_READY != 0
        skb.checksum_verified = message.skb_info & SKB_CSUM_NOT_VERIFIED == 0
        self.until_sample -= 1
        if self.until_sample:
            verdict = self.handle(skb, message.hook, now)
        else:
            self.until_sample = SAMPLE_EVERY
            began = self.ticks()
            verdict = self.handle(skb, message.hook, now)
            self.observe(self.ticks() - began)
        if verdict == NF_QUEUE:
            self._add(self.one.queued(message.id, self.whole), False)
            self.run = NO_RUN
        elif verdict == NF_ACCEPT and skb.data is not data:
            if skb.copy:
                raise RuntimeError("a packet was changed of which only the headers are here")
            self._rewritten(skb)
        elif verdict == NF_ACCEPT and skb.mark != message.mark:
            self._marked(skb.mark)
        else:
            self._plain(verdict)

    def _plain(self, verdict: int) -> None:
        again = self.run == -1 - verdict
        self._add((self.up_to if again else self.one).plain(self.message.id, verdict), again)
        self.run = -1 - verdict

    def _marked(self, mark: int) -> None:
        again = self.run == mark
        self._add((self.up_to if again else self.one).marked(self.message.id, mark), again)
        self.run = mark

    def _add(self, verdict: bytes, again: bool) -> None:
        """again: for the packets of the last verdict too."""
        if again:
            self.verdicts[-1] = verdict
        else:
            self.verdicts.append(verdict)
            self.size += len(verdict)

    def _rewritten(self, skb: Skb) -> None:
        data = skb.data
        head = self.one.rewritten(self.message.id, skb.mark, len(data))
        self.verdicts.append(head)
        self.verdicts.append(data)
        padding = len(data) & 3
        if padding:
            self.verdicts.append(PADDING[padding])
        self.size += len(head) + len(data)
        self.run = NO_RUN
