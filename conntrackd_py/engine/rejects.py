"""Answers to packets that the filter rejected, or that found no free port: built here, drained and sent by the daemon.

A translated destination is undone before the answer is built: the answer comes from the address, and quotes the
packet, that the sender knows. (In the kernel, NAT translates the answer of nf_reject on its way out.)
Bounds: ANSWERS_A_SECOND, ANSWERS_WAITING.
"""

from typing import Final, final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.core import Conntrack
from conntrackd_py.conntrack.skb import Skb, direction_of
from conntrackd_py.const import (
    AF_INET,
    AF_INET6,
    IP_CT_RELATED,
    IP_CT_RELATED_REPLY,
    IPS_DST_NAT,
    IPS_SRC_NAT,
    LOCAL_IN,
    MANIP_DST,
    MANIP_SRC,
)
from conntrackd_py.filter import reject
from conntrackd_py.nat.interfaces import Interfaces
from conntrackd_py.nat.rewrite import manip
from conntrackd_py.wire import ip
from conntrackd_py.wire.packet import Packet

ANSWERS_A_SECOND: Final = 1000  # as net.ipv4.icmp_msgs_per_sec
ANSWERS_WAITING: Final = 1024
SECOND: Final = 1000  # ms

# The ctinfo in the mark of an answer. No other packet has it; answers are accepted unchanged at every visit.
IP_CT_ANSWER: Final = 6


@final
class Answer:
    """data: the packet; its source may be unspecified (filter.reject). outdev: interface index, 0: by routing."""

    def __init__(self, data: bytes, family: int, outdev: int) -> None:
        self.data = data
        self.family = family
        self.outdev = outdev


@final
class Rejects:
    def __init__(self, core: Conntrack, interfaces: Interfaces) -> None:
        self.core = core
        self.interfaces = interfaces
        self.waiting: list[Answer] = []
        self.second = 0  # of `answered`
        self.answered = 0
        self.limited = 0  # rejected without an answer, because of the bounds
        self.unanswerable = 0  # rejected without an answer, because RFC 1122 or 4443 allows none

    def answer(self, skb: Skb, hook: int, now: int) -> None:
        """Build the answer to a packet rejected at hook; skb.reject is its kind."""
        if now // SECOND != self.second:
            self.second = now // SECOND
            self.answered = 0
        if self.answered >= ANSWERS_A_SECOND or len(self.waiting) >= ANSWERS_WAITING:
            self.limited += 1
            return
        data = self._answer(skb, hook)
        if not data:
            self.unanswerable += 1
            return
        self.answered += 1
        self.waiting.append(Answer(data, AF_INET if skb.version == 4 else AF_INET6, skb.indev))

    def _answer(self, skb: Skb, hook: int) -> bytes:
        if not skb.version:
            return b""
        arrived = ip.destination(skb)
        if hook == LOCAL_IN and not self._is_local(arrived):
            return b""  # a broadcast
        sent = self._as_sent(skb)
        known = ip.destination(sent)
        decided = hook == LOCAL_IN or known != arrived
        return reject.answer(sent, skb.reject, known if decided else b"")

    def _is_local(self, address: bytes) -> bool:
        return self.interfaces.is_local(address)

    def _as_sent(self, skb: Skb) -> Packet:
        """The packet with the destination its sender gave it, and the source port (Nat, early source)."""
        packet = Packet(skb.data)
        packet.checksum_partial = skb.checksum_partial
        packet.segments = skb.segments
        if ip.parse(packet):
            return packet
        ct = skb.ct
        if (
            ct is None
            or not ct.status & (IPS_SRC_NAT | IPS_DST_NAT)
            or skb.ctinfo in (IP_CT_RELATED, IP_CT_RELATED_REPLY)
        ):
            return packet
        mine = ct.tuple(direction_of(skb.ctinfo))
        answer = tuples.swapped(mine, ct.l4proto.invert(tuples.l4(mine)))
        manip.translate(packet, answer, MANIP_DST, ct.l4proto.ports)
        if ct.source_early:
            manip.translate(packet, answer, MANIP_SRC, ct.l4proto.ports)
        return packet

    def drain(self) -> list[Answer]:
        """Everything since the last call, oldest first."""
        answers = self.waiting
        self.waiting = []
        return answers
