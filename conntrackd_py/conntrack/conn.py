"""NfConn, one tracked connection, and L4Proto, the tracker that judges its packets. Each type names the other.

- `reply` is the tuple of the answers. Only NAT alters it, and only while the connection is unconfirmed.
- `timeout` is a span in ms while unconfirmed and an absolute time once confirmed, as in the kernel.
- Only the tracker changes `state`; `l4proto.state_names` has its names.
- A million connections are usual, so each byte counts. The integers are as narrow as their ranges allow, and
  `acyclic` omits the header of the garbage collector: no connection leads back to itself. ARCHITECTURE.md has the sum.
- A connection has slot `slot` of the table from allocation until release. A packet mark carries the slot, not the id.
- A tracker reads the packet, changes the connection it is given and returns an outcome. It never touches the table,
  the clock or the events.
"""

from abc import ABC, abstractmethod
from typing import Final, final

from mypy_extensions import i16, i32, i64, mypyc_attr, u8

from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPCT_ASSURED, IPS_ASSURED, IPS_CONFIRMED, IPS_DYING, IPS_FIXED_TIMEOUT, ORIGINAL
from conntrackd_py.reasons import OK
from conntrackd_py.wire.packet import Packet

NO_INTERFACE: Final = -1  # no packet has left yet, or an operator made the connection
LATE_INTERFACE: Final = -2  # of a former boot: it is not there yet, and another one is not the right one

# outcomes of L4Proto.packet
TRACKED: Final = 0  # part of the connection; packet.reason is set if it changed nothing
REFUSED: Final = 1  # not part of it: the packet is INVALID, packet.reason says why
REPEAT: Final = 2  # the connection has ended and this packet starts another one: look it up again (NF_REPEAT)
KILL: Final = 3  # part of the connection, which ends with it (nf_ct_kill)
REOPENED: Final = 4  # the old connection has ended and a new one starts in its entry, same tuples, same NAT
UNCOUNTED: Final = 5  # part of the connection, but it neither refreshes nor counts

INFO_LIMIT: Final = 60  # bytes of L4Proto.pack_info

# what L4Proto.quotes returns for a packet without a quoted one
NO_QUOTE: Final = 0
LEAVE_UNTRACKED: Final = -1  # and this packet must stay untracked


@mypyc_attr(acyclic=True)
class ProtoInfo:
    """What a tracker keeps of a connection besides `state` (nf_conntrack_proto)."""


class L4Proto(ABC):
    """entries[state]: number of confirmed connections, which the table counts."""

    name: str = "unknown"
    protonum: int = 0
    state_names: tuple[str, ...] = ("",)  # by NfConn.state
    shows_state: bool = False  # whether conntrack -L prints the state
    ports: bool = False  # l4 src and l4 dst are ports, which NAT may choose
    layout: int = 0  # of pack_info: a number of its own for each tracker whose states or ProtoInfo differ

    def __init__(self, tunables: Tunables) -> None:
        self.entries = [0] * len(self.state_names)
        self.profile = 0  # which tunables of a raw rule it has; 0: the ordinary ones
        self.tune(tunables)

    @abstractmethod
    def tune(self, tunables: Tunables) -> None:
        """Use these timeouts and switches from now on."""

    def l4(self, packet: Packet) -> bytes:
        """The four layer 4 bytes of the packet's tuple; empty when its header is cut off."""
        return b"\0\0\0\0"

    def invert(self, l4: bytes) -> bytes:
        """The layer 4 bytes of the answer; empty when no answer is possible."""
        return l4[2:] + l4[:2]

    def check(self, packet: Packet, verify: bool) -> int:
        """OK, or why this packet must not be tracked. verify: compute the checksum too."""
        return OK

    def quotes(self, packet: Packet) -> int:
        """Offset of the packet that this checked ICMP error quotes; NO_QUOTE or LEAVE_UNTRACKED for another packet."""
        return NO_QUOTE

    def resets(self, packet: Packet) -> bool:
        """Whether this checked packet is a TCP RST."""
        return False

    def starts_or_ends(self, packet: Packet) -> bool:
        """Whether this checked packet starts a connection or ends one, by its header alone."""
        return False

    def lifetime(self, ct: "NfConn") -> int:
        """The ms that ct lives without a packet, in its present state; 0 when unknown. For reports only."""
        return 0

    def in_use(self, ct: "NfConn") -> bool:
        """Whether both ends used ct and neither closed it. For reports only."""
        return ct.status & IPS_ASSURED != 0

    def closing(self, state: int) -> bool:
        """Whether a connection in this state is closing, so that it may be evicted (can_early_drop)."""
        return False

    def adopt(self, ct: "NfConn") -> None:
        """Create the ProtoInfo of a connection that an operator made."""
        return

    def set_state(self, ct: "NfConn", state: int) -> None:
        """An operator sets the state."""
        ct.state = state

    def set_protoinfo(self, ct: "NfConn", values: tuple[int, ...]) -> None:
        """An operator sets what CTA_PROTOINFO holds besides the state; the tracker's file defines the values."""
        return

    def offloaded(self, ct: "NfConn", on: bool) -> None:
        """From now on the kernel forwards its packets; or the tracker judges them again (flow_offload_fixup_ct)."""
        return

    def pack_info(self, ct: "NfConn") -> bytes:
        """What the tracker keeps of ct besides its state, for a record; at most INFO_LIMIT bytes."""
        return b""

    def unpack_info(self, ct: "NfConn", data: bytes) -> bool:
        """Restore what pack_info wrote; False if it is not of this layout."""
        return not data

    def resume(self, ct: "NfConn") -> None:
        """Packets of ct may have passed since its record was written."""
        return

    @abstractmethod
    def packet(self, ct: "NfConn", packet: Packet, direction: int, now: int, new: bool) -> int:
        """Judge a checked packet of ct; new: it has just created ct. Returns an outcome."""


@final
@mypyc_attr(acyclic=True)
class Counters:
    """Packets and bytes by direction (nf_conn_counter)."""

    def __init__(self) -> None:
        self.packets_original = 0
        self.packets_reply = 0
        self.bytes_original = 0
        self.bytes_reply = 0


@final
@mypyc_attr(acyclic=True)
class NfConn:
    """The fields are in the order of their sizes, so that there are no gaps."""

    def __init__(self, original: bytes, reply: bytes, l4proto: L4Proto, now: int) -> None:
        self.original = original
        self.reply = reply
        self.l4proto = l4proto
        self.proto: ProtoInfo | None = None
        self.master: NfConn | None = None
        self.counters: Counters | None = None  # None: nothing counted
        self.labels = 0  # 128 bits (connlabel)
        self.timeout: i64 = 0
        self.due: i64 = 0  # ms: when gc checks its timeout; of a dying connection, when it ended
        self.born: i64 = now
        self.mark: i64 = 0  # 32 bits
        self.id: i32 = 0  # 31 bits
        self.slot: i32 = 0
        self.status: i32 = 0  # IPS_*, 16 bits
        self.iif: i32 = 0  # incoming interface of its first packet; 0: sent by this machine
        self.oif: i32 = NO_INTERFACE  # outgoing interface of its first packet, bound by masquerade; 0: delivered here
        self.pending_events: i16 = 0  # IPCT_* bits not yet reported
        self.end_reason: i16 = -1
        self.volume: i16 = 0  # of the packets in `visits`, in units of 64 bytes
        self.state: u8 = 0
        self.visits: u8 = 0  # packets since it was last tried for offload, or rewritten by the daemon
        self.masquerade = False
        self.remembered = False  # its source mapping is counted in nat.ports
        self.port_counted = False  # in nat.port_usage
        self.source_early = False  # PREROUTING changed its source port (null binding)

    def tuple(self, direction: int) -> bytes:
        return self.original if direction == ORIGINAL else self.reply

    @property
    def confirmed(self) -> bool:
        return self.status & IPS_CONFIRMED != 0

    @property
    def dying(self) -> bool:
        return self.status & IPS_DYING != 0

    @property
    def ended(self) -> int:
        """When it ended, in ms; 0 while it lives."""
        return self.due if self.status & IPS_DYING else 0

    @property
    def packets_original(self) -> int:
        return self.counters.packets_original if self.counters is not None else 0

    @property
    def packets_reply(self) -> int:
        return self.counters.packets_reply if self.counters is not None else 0

    @property
    def bytes_original(self) -> int:
        return self.counters.bytes_original if self.counters is not None else 0

    @property
    def bytes_reply(self) -> int:
        return self.counters.bytes_reply if self.counters is not None else 0

    def refresh(self, now: int, span: int) -> None:
        """Set the timeout to span ms from now (from its confirmation, while unconfirmed)."""
        if self.status & IPS_FIXED_TIMEOUT:
            return
        self.timeout = now + span if self.status & IPS_CONFIRMED else span

    def remaining(self, now: int) -> int:
        """Milliseconds left, never negative."""
        left = self.timeout - now if self.status & IPS_CONFIRMED else self.timeout
        return left if left > 0 else 0

    def assure(self) -> None:
        """Set ASSURED and cache its event."""
        self.status |= IPS_ASSURED
        self.pending_events |= IPCT_ASSURED

    def account(self, direction: int, length: int, packets: int = 1) -> None:
        """Count packets, which have this length together."""
        counters = self.counters
        if counters is None:
            counters = self.counters = Counters()
        if direction == ORIGINAL:
            counters.packets_original += packets
            counters.bytes_original += length
        else:
            counters.packets_reply += packets
            counters.bytes_reply += length
