"""L4Proto: what the core asks of a layer 4 protocol. One subclass a protocol, one file each in proto.

A tracker never touches the table, the clock or the events; it reads the packet, changes the
connection it is given, and answers with one of the outcomes below.
"""

from abc import ABC, abstractmethod
from typing import Final

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.icmp_error import INNER_TRACKED
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.reasons import L4_CHECKSUM, L4_TRUNCATED, OK
from conntrackd_py.wire import checksum
from conntrackd_py.wire.packet import u16

TRACKED: Final = 0  # part of the connection (skb.reason may say that nothing changed)
REFUSED: Final = 1  # not part of it: the packet goes on as INVALID, skb.reason says why
REPEAT: Final = 2  # the connection is over and this packet starts another one
KILL: Final = 3  # part of the connection, which ends with it
UNCOUNTED: Final = 5  # part of the connection, but it neither refreshes nor counts
REOPENED: Final = 4  # the connection it belonged to is over and goes on as a new one, same tuples, same NAT


class L4Proto(ABC):
    """Stateless apart from its timeouts. `entries[state]` counts confirmed connections, kept by the table."""

    name: str = "unknown"
    protonum: int = 0
    state_names: tuple[str, ...] = ("",)  # by NfConn.state
    shows_state: bool = False  # whether conntrack -L prints the state
    ports: bool = False  # l4 src and l4 dst are ports, which NAT may choose

    def __init__(self) -> None:
        self.entries = [0] * len(self.state_names)

    def tune(self, tunables: Tunables) -> None:
        """Take over other timeouts and switches, for packets from now on."""
        return

    def l4(self, skb: Skb) -> bytes:
        """The four layer 4 bytes of the packet's tuple; empty when its header is cut off."""
        return b"\0\0\0\0"

    def invert(self, l4: bytes) -> bytes:
        """The layer 4 bytes of the answer; empty when no answer is possible."""
        return l4[2:] + l4[:2]

    def check(self, skb: Skb, verify: bool) -> int:
        """OK, or why this packet must not be tracked. verify: compute the checksum too."""
        return OK

    def quotes(self, skb: Skb) -> int:
        """Offset of the packet that this one, an ICMP error, quotes; or INNER_TRACKED, INNER_UNTRACKED."""
        return INNER_TRACKED

    def resets(self, skb: Skb) -> bool:
        """Whether this checked packet is a TCP RST."""
        return False

    def lifetime(self, ct: NfConn) -> int:
        """The ms without a packet that ct lives, as it is now; 0 when unknown. For people, not for judging."""
        return 0

    def closing(self, state: int) -> bool:
        """Whether a connection in this state is ending, so that its entry may go first (can_early_drop)."""
        return False

    def adopt(self, ct: NfConn) -> None:
        """Give ct, which no packet has made, the memory that packet() expects to find."""
        return

    def set_state(self, ct: NfConn, state: int) -> None:
        """Somebody outside says that ct is in this state."""
        ct.state = state

    def set_tags(self, ct: NfConn, tags: tuple[int, int]) -> None:
        """SCTP's verification tags, by direction; nothing to anybody else."""
        return

    @abstractmethod
    def packet(self, ct: NfConn, skb: Skb, direction: int, now: int, new: bool) -> int:
        """Run the tracker over one checked packet; new: it has just created ct. Returns an outcome."""


class PortProto(L4Proto):
    """A protocol whose header begins with source and destination port."""

    ports = True

    def l4(self, skb: Skb) -> bytes:
        at = skb.dataoff
        return skb.data[at : at + 4] if at + 4 <= skb.end else b""


def truncated(skb: Skb, needed: int) -> int:
    """The packet has not the bytes of layer 4 that it needs, or that its own length field claims."""
    skb.numbers = (skb.end - skb.dataoff, needed)
    return L4_TRUNCATED


def wrong_checksum(skb: Skb, at: int, end: int, pseudo: int) -> int:
    """The checksum `at` bytes into layer 4, which covers it up to `end`, is not the one it should be."""
    field = skb.dataoff + at
    others = skb.data[skb.dataoff : field] + b"\0\0" + skb.data[field + 2 : end]
    skb.numbers = (u16(skb.data, field), checksum.finish(checksum.total(others) + pseudo))
    return L4_CHECKSUM
