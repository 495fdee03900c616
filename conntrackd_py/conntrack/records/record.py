"""A connection as bytes: what the journal writes and what a new process reads back. No checksum, no place.

    fixed part (HEAD) | labels 16 | counters 4 x 8 | help   | original tuple | reply tuple | ProtoInfo
                        if any      if any           if any                                  L4Proto.pack_info

- Only confirmed connections have a record. A record is at most LARGEST bytes: `fitted` leaves out what is too much.
- Times are those of the engine's clock, in ms. The reader converts them if its clock is another one.
- Packets may have refreshed the connection since its record was made.
- A master is named by slot and id: it may have ended, and its slot may have another connection.
"""

from abc import ABC, abstractmethod
from struct import Struct
from typing import Final, final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import INFO_LIMIT, Counters, L4Proto, NfConn
from conntrackd_py.conntrack.expect import Expectation
from conntrackd_py.conntrack.seqadj import MOST, SeqAdj
from conntrackd_py.const import (
    IPPROTO_TCP,
    IPS_CONFIRMED,
    IPS_DYING,
    IPS_HELPER,
    IPS_OFFLOAD,
    IPS_SEQ_ADJUST,
    ORIGINAL,
    REPLY,
)

VERSION: Final = 1  # of the record; a reader takes no other
CONNECTION: Final = 1  # kinds of records
EXPECTATION: Final = 2
LINK: Final = 3  # an interface, by index and name

# version, kind, length, timeout, born, id, slot and id of the master, iif, oif, mark, profile, status, state,
# flags, layout, lengths of the tuples
HEAD: Final = Struct("<BBHqqiiiiiIIHBBBBB")
# version, kind, length, until, id, slot and id of the master, flags, class, NAT, port, lengths of tuple (and mask),
# helper and helper of the child
EXPECTATION_HEAD: Final = Struct("<BBHqIiiBBBHBBB")
LONGEST_HELPER: Final = 64  # bytes
LINK_HEAD: Final = Struct("<BBHi")  # version, kind, length, index; then the name
LABELS: Final = 16
COUNTERS: Final = Struct("<QQQQ")
LONGEST_TUPLE: Final = 39
LARGEST: Final = 252
assert HEAD.size + LABELS + COUNTERS.size + 2 * LONGEST_TUPLE + INFO_LIMIT <= LARGEST
TUPLE_LENGTHS: Final = (13, 15, 37, 39)
NO_MASTER: Final = -1

MASQUERADE: Final = 1
REMEMBERED: Final = 2
PORT_COUNTED: Final = 4
SOURCE_EARLY: Final = 8
HAS_LABELS: Final = 16
HAS_COUNTERS: Final = 32
HAS_HELP: Final = 64

FOLLOWS: Final = 1  # of the NAT of an expectation
REVERSED: Final = 2  # its direction is REPLY


class Trackers(ABC):
    """The trackers of the process that reads."""

    @abstractmethod
    def of(self, protonum: int, layout: int, profile: int) -> L4Proto | None:
        """The tracker for a record; None if no tracker of this process has this layout."""


@final
class Record:
    """A connection that was read, and what it does not hold itself."""

    def __init__(self, ct: NfConn, master_slot: int, master_id: int, helped: "Help") -> None:
        self.ct = ct
        self.master_slot = master_slot
        self.master_id = master_id
        self.helped = helped


@final
class Help:
    """Of a connection with a helper: its name, and the corrections of its sequence numbers, if any."""

    def __init__(self, helper: str = "", seqadj: SeqAdj | None = None) -> None:
        self.helper = helper
        self.seqadj = seqadj

    def packed(self, most: int) -> bytes:
        """most: corrections of each direction."""
        name = self.helper.encode()
        return bytes([len(name)]) + name + (self.seqadj or SeqAdj()).packed(most)

    def unpack(self, data: bytes, at: int) -> int:
        """Returns the offset behind it, 0 if it cannot be read."""
        behind = at + 1 + (data[at] if at < len(data) else 0)
        self.helper = data[at + 1 : behind].decode(errors="replace")
        adjustment = SeqAdj()
        end = adjustment.unpack(data, behind)
        self.seqadj = None if adjustment.empty else adjustment
        return end


def fitted(ct: NfConn, helped: Help) -> tuple[bytes, bool]:
    """The record of a connection with a helper; and whether all of it is in, but for the oldest corrections.

    If there is no room, the older corrections are left out first, then the counters, at last the name of the helper.
    One correction a direction always fits, which is what the kernel has.
    """
    nameless = Help("", helped.seqadj)
    kept = helped if len(helped.helper.encode()) <= LONGEST_HELPER else nameless
    for most in range(MOST, 0, -1):
        data = encode(ct, kept, most)
        if len(data) <= LARGEST:
            return data, kept is helped
    data = encode(ct, kept, 1, counted=False)
    return data if len(data) <= LARGEST else encode(ct, nameless, 1, counted=False), False


def encode(ct: NfConn, helped: Help | None = None, most: int = MOST, *, counted: bool = True) -> bytes:
    """The record of a confirmed connection. counted: with its counters."""
    l4proto, counters, master = ct.l4proto, ct.counters, ct.master
    rest = ct.original + ct.reply + l4proto.pack_info(ct)
    flags = flags_of(ct)
    if helped is not None:
        flags |= HAS_HELP
        rest = helped.packed(most) + rest
    if counters is not None and counted:
        flags |= HAS_COUNTERS
        rest = _packed(counters) + rest
    if ct.labels:
        flags |= HAS_LABELS
        rest = ct.labels.to_bytes(LABELS, "little") + rest
    head = HEAD.pack(
        VERSION,
        CONNECTION,
        HEAD.size + len(rest),
        ct.timeout,
        ct.born,
        ct.id,
        NO_MASTER if master is None else master.slot,
        NO_MASTER if master is None else master.id,
        ct.iif,
        ct.oif,
        ct.mark,
        l4proto.profile,
        ct.status,
        ct.state,
        flags,
        l4proto.layout,
        len(ct.original),
        len(ct.reply),
    )
    return head + rest


def flags_of(ct: NfConn) -> int:
    """The flags of a record that the NAT needs."""
    return (
        (MASQUERADE if ct.masquerade else 0)
        | (REMEMBERED if ct.remembered else 0)
        | (PORT_COUNTED if ct.port_counted else 0)
        | (SOURCE_EARLY if ct.source_early else 0)
    )


def _packed(counters: Counters) -> bytes:
    return COUNTERS.pack(
        counters.packets_original, counters.packets_reply, counters.bytes_original, counters.bytes_reply
    )


def kind_of(data: bytes) -> int:
    """The kind of a record; 0 if it is of another version or has another length."""
    if len(data) < 4 or data[0] != VERSION or data[2] | data[3] << 8 != len(data):
        return 0
    return data[1]


def decode(data: bytes, trackers: Trackers) -> Record | None:
    """The connection of a record, with its status CONFIRMED and outside any table; None if it cannot be taken over."""
    if kind_of(data) != CONNECTION or len(data) < HEAD.size:
        return None
    fixed = HEAD.unpack_from(data)
    flags: int = fixed[14]
    at = HEAD.size
    labels = counters = 0
    if flags & HAS_LABELS:
        labels, at = at, at + LABELS
    if flags & HAS_COUNTERS:
        counters, at = at, at + COUNTERS.size
    helped = Help()
    if flags & HAS_HELP:
        at = helped.unpack(data, at)
    middle: int = at + fixed[16]
    end: int = middle + fixed[17]
    original, reply, info = data[at:middle], data[middle:end], data[end:]
    if not at or not _is_pair(original, reply):
        return None
    l4proto = trackers.of(tuples.protonum(original), fixed[15], fixed[11])
    if l4proto is None or not _is_valid(fixed, l4proto):
        return None
    if flags & HAS_HELP and not _is_helped(fixed[12], helped, l4proto):
        return None
    ct = NfConn(original, reply, l4proto, fixed[4])
    _fill(ct, fixed, flags)
    if labels:
        ct.labels = int.from_bytes(data[labels : labels + LABELS], "little")
    if counters:
        ct.counters = _counters(data, counters)
    if not l4proto.unpack_info(ct, info):
        return None
    if ct.status & IPS_OFFLOAD:  # until the former process ended
        ct.status &= ~IPS_OFFLOAD
        l4proto.offloaded(ct, False)
    return Record(ct, fixed[6], fixed[7], helped)


def _is_valid(fixed: tuple[int, ...], l4proto: L4Proto) -> bool:
    """Whether id, status and state are those of a confirmed connection of this tracker."""
    alive = fixed[12] & (IPS_CONFIRMED | IPS_DYING) == IPS_CONFIRMED
    return alive and fixed[5] > 0 and fixed[13] < len(l4proto.state_names)


def _is_helped(status: int, helped: Help, l4proto: L4Proto) -> bool:
    """Whether a connection of this status and tracker can have this help."""
    if helped.seqadj is None:
        return status & IPS_HELPER != 0
    both = IPS_HELPER | IPS_SEQ_ADJUST
    return status & both == both and l4proto.protonum == IPPROTO_TCP


def _fill(ct: NfConn, fixed: tuple[int, ...], flags: int) -> None:
    ct.timeout = fixed[3]
    ct.id = fixed[5]
    ct.iif = fixed[8]
    ct.oif = fixed[9]
    ct.mark = fixed[10]
    ct.status = fixed[12]
    ct.state = fixed[13]
    ct.masquerade = flags & MASQUERADE != 0
    ct.remembered = flags & REMEMBERED != 0
    ct.port_counted = flags & PORT_COUNTED != 0
    ct.source_early = flags & SOURCE_EARLY != 0


def _counters(data: bytes, at: int) -> Counters:
    counters = Counters()
    values = COUNTERS.unpack_from(data, at)
    counters.packets_original = values[0]
    counters.packets_reply = values[1]
    counters.bytes_original = values[2]
    counters.bytes_reply = values[3]
    return counters


def _is_pair(original: bytes, reply: bytes) -> bool:
    """Whether these can be the tuples of one connection."""
    if len(original) not in TUPLE_LENGTHS or len(reply) not in TUPLE_LENGTHS:
        return False
    same_family = tuples.address_length(original) == tuples.address_length(reply)
    return same_family and tuples.protonum(original) == tuples.protonum(reply)


def encode_expectation(known: Expectation) -> bytes:
    """The record of an expectation; empty if the name of a helper is too long."""
    helper, child = known.helper.encode(), known.child_helper.encode()
    if len(helper) > LONGEST_HELPER or len(child) > LONGEST_HELPER:
        return b""
    rest = known.tuple + known.mask + helper + child
    master = known.master
    head = EXPECTATION_HEAD.pack(
        VERSION,
        EXPECTATION,
        EXPECTATION_HEAD.size + len(rest),
        known.until,
        known.id,
        master.slot,
        master.id,
        known.flags,
        known.kind,
        (FOLLOWS if known.follows else 0) | (REVERSED if known.direction == REPLY else 0),
        known.port,
        len(known.tuple),
        len(helper),
        len(child),
    )
    return head + rest


def master_of(data: bytes) -> tuple[int, int]:
    """Slot and id of the master in the record of an expectation."""
    if len(data) < EXPECTATION_HEAD.size:
        return NO_MASTER, NO_MASTER
    fixed = EXPECTATION_HEAD.unpack_from(data)
    return fixed[5], fixed[6]


def decode_expectation(data: bytes, master: NfConn) -> Expectation | None:
    """None if it cannot be taken over. The record has its head: master_of found the master."""
    fixed = EXPECTATION_HEAD.unpack_from(data)
    at = EXPECTATION_HEAD.size
    size: int = fixed[11]
    middle, end = at + size, at + 2 * size
    child: int = end + fixed[12]
    if size not in TUPLE_LENGTHS or len(data) != child + fixed[13]:
        return None
    known = Expectation(master, data[at:middle], data[middle:end], fixed[3], flags=fixed[7], kind=fixed[8])
    known.follows = fixed[9] & FOLLOWS != 0
    if known.follows and tuples.address_length(known.tuple) != tuples.address_length(master.original):
        return None
    known.direction = REPLY if fixed[9] & REVERSED else ORIGINAL
    known.port = fixed[10]
    known.helper = data[end:child].decode(errors="replace")
    known.child_helper = data[child:].decode(errors="replace")
    known.id = fixed[4]
    return known


def encode_link(index: int, name: str) -> bytes:
    """The record of an interface."""
    raw = name.encode()
    return LINK_HEAD.pack(VERSION, LINK, LINK_HEAD.size + len(raw), index) + raw


def decode_link(data: bytes) -> tuple[int, str]:
    """Index and name of an interface."""
    return LINK_HEAD.unpack_from(data)[3], data[LINK_HEAD.size :].decode()
