"""NfConn, one tracked connection: two tuples, a status word, a timeout, and its protocol's memory.

Invariants:
- `tuples[REPLY]` is what answers will look like; NAT alters it, nothing else does, and only while
  the connection is unconfirmed.
- `timeout` is a span in milliseconds while unconfirmed and an absolute time once confirmed, as in the
  kernel.
- `state` belongs to the protocol tracker; its names and count are in its L4Proto.
- A connection sits in slot `slot` of the table from allocation until it is reaped; the slot, not the
  id, is what travels in a packet mark.
"""

from typing import TYPE_CHECKING, Final, final

from conntrackd_py.const import IPS_CONFIRMED, IPS_DYING, IPS_FIXED_TIMEOUT, ORIGINAL

if TYPE_CHECKING:
    from conntrackd_py.conntrack.expect import Expectation
    from conntrackd_py.conntrack.l4proto import L4Proto


NO_INTERFACE: Final = -1  # no packet has left yet, or the connection was made by hand


class ProtoInfo:
    """What a protocol remembers of one connection beyond `state` (nf_conntrack_proto)."""


@final
class NfConn:
    def __init__(self, original: bytes, reply: bytes, l4proto: "L4Proto", now: int) -> None:
        self.original = original
        self.reply = reply
        self.l4proto = l4proto
        self.proto: ProtoInfo | None = None
        self.id = 0
        self.slot = 0
        self.status = 0
        self.state = 0
        self.timeout = 0
        self.due = 0  # when gc looks at it next
        self.pending_events = 0  # IPCT_* bits not yet reported
        self.born = now
        self.ended = 0
        self.end_reason = -1
        self.mark = 0
        self.packets_original = 0
        self.packets_reply = 0
        self.bytes_original = 0
        self.bytes_reply = 0
        self.iif = 0  # interface its first packet came in by, 0 when this machine made it
        self.oif = NO_INTERFACE  # and left by, for which its source was bound; 0 when it ended at this machine
        self.masquerade = False
        self.remembered = False  # its source mapping is counted in nat.ports
        self.port_counted = False  # in nat.port_usage
        self.source_early = False  # a null binding changed its source port, for which PREROUTING is the place
        self.master: NfConn | None = None
        self.expectation: Expectation | None = None  # what it fulfilled
        self.labels = 0  # 128 bits (connlabel)

    def tuple(self, direction: int) -> bytes:
        return self.original if direction == ORIGINAL else self.reply

    @property
    def confirmed(self) -> bool:
        return self.status & IPS_CONFIRMED != 0

    @property
    def dying(self) -> bool:
        return self.status & IPS_DYING != 0

    def refresh(self, now: int, span: int) -> None:
        """Let it live span milliseconds from now (from its confirmation, while unconfirmed)."""
        if self.status & IPS_FIXED_TIMEOUT:
            return
        self.timeout = now + span if self.status & IPS_CONFIRMED else span

    def remaining(self, now: int) -> int:
        """Milliseconds left, never negative."""
        left = self.timeout - now if self.status & IPS_CONFIRMED else self.timeout
        return left if left > 0 else 0

    def account(self, direction: int, length: int) -> None:
        if direction == ORIGINAL:
            self.packets_original += 1
            self.bytes_original += length
        else:
            self.packets_reply += 1
            self.bytes_reply += length
