"""A connection as bytes: what the journal writes and what a new process reads back. No checksum, no place.

    fixed part (HEAD) | labels 16 | counters 4 x 8 | original tuple | reply tuple | ProtoInfo
                        if any      if any                                          L4Proto.pack_info

- Only confirmed connections have a record. A record is at most LARGEST bytes.
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
from conntrackd_py.const import IPS_CONFIRMED, IPS_DYING

VERSION: Final = 1  # of the record; a reader takes no other
CONNECTION: Final = 1  # kinds of records
EXPECTATION: Final = 2
LINK: Final = 3  # an interface, by index and name

# version, kind, length, timeout, born, id, slot and id of the master, iif, oif, mark, profile, status, state,
# flags, layout, lengths of the tuples
HEAD: Final = Struct("<BBHqqiiiiiIIHBBBBB")
# version, kind, length, until, id, slot and id of the master, flags, class, lengths of tuple (and mask) and helper
EXPECTATION_HEAD: Final = Struct("<BBHqIiiBBBB")
LONGEST_HELPER: Final = 64  # bytes
LINK_HEAD: Final = Struct("<BBHi")  # version, kind, length, index; then the name
LABELS: Final = 16
COUNTERS: Final = Struct("<QQQQ")
LONGEST_TUPLE: Final = 39
LARGEST: Final = HEAD.size + LABELS + COUNTERS.size + 2 * LONGEST_TUPLE + INFO_LIMIT
TUPLE_LENGTHS: Final = (13, 15, 37, 39)
NO_MASTER: Final = -1

MASQUERADE: Final = 1
REMEMBERED: Final = 2
PORT_COUNTED: Final = 4
SOURCE_EARLY: Final = 8
HAS_LABELS: Final = 16
HAS_COUNTERS: Final = 32


class Trackers(ABC):
    """The trackers of the process that reads."""

    @abstractmethod
    def of(self, protonum: int, layout: int, profile: int) -> L4Proto | None:
        """The tracker for a record; None if no tracker of this process has this layout."""


@final
class Record:
    """A connection that was read, and what it does not hold itself."""

    def __init__(self, ct: NfConn, master_slot: int, master_id: int) -> None:
        self.ct = ct
        self.master_slot = master_slot
        self.master_id = master_id


def encode(ct: NfConn) -> bytes:
    """The record of a confirmed connection."""
    l4proto, counters, master = ct.l4proto, ct.counters, ct.master
    rest = ct.original + ct.reply + l4proto.pack_info(ct)
    flags = (
        (MASQUERADE if ct.masquerade else 0)
        | (REMEMBERED if ct.remembered else 0)
        | (PORT_COUNTED if ct.port_counted else 0)
        | (SOURCE_EARLY if ct.source_early else 0)
    )
    if counters is not None:
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
    middle: int = at + fixed[16]
    end: int = middle + fixed[17]
    original, reply, info = data[at:middle], data[middle:end], data[end:]
    if not _is_pair(original, reply):
        return None
    l4proto = trackers.of(tuples.protonum(original), fixed[15], fixed[11])
    if l4proto is None or not _is_valid(fixed, l4proto):
        return None
    ct = NfConn(original, reply, l4proto, fixed[4])
    _fill(ct, fixed, flags)
    if labels:
        ct.labels = int.from_bytes(data[labels : labels + LABELS], "little")
    if counters:
        ct.counters = _counters(data, counters)
    if not l4proto.unpack_info(ct, info):
        return None
    return Record(ct, fixed[6], fixed[7])


def _is_valid(fixed: tuple[int, ...], l4proto: L4Proto) -> bool:
    """Whether id, status and state are those of a confirmed connection of this tracker."""
    alive = fixed[12] & (IPS_CONFIRMED | IPS_DYING) == IPS_CONFIRMED
    return alive and fixed[5] > 0 and fixed[13] < len(l4proto.state_names)


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
    """The record of an expectation; empty if the name of its helper is too long."""
    helper = known.helper.encode()
    if len(helper) > LONGEST_HELPER:
        return b""
    rest = known.tuple + known.mask + helper
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
        len(known.tuple),
        len(helper),
    )
    return head + rest


def master_of(data: bytes) -> tuple[int, int]:
    """Slot and id of the master in the record of an expectation."""
    fixed = EXPECTATION_HEAD.unpack_from(data)
    return fixed[5], fixed[6]


def decode_expectation(data: bytes, master: NfConn) -> Expectation:
    fixed = EXPECTATION_HEAD.unpack_from(data)
    at = EXPECTATION_HEAD.size
    middle: int = at + fixed[9]
    end: int = middle + fixed[9]
    known = Expectation(master, data[at:middle], data[middle:end], fixed[3], flags=fixed[7], kind=fixed[8])
    known.helper = data[end:].decode()
    known.id = fixed[4]
    return known


def encode_link(index: int, name: str) -> bytes:
    """The record of an interface."""
    raw = name.encode()
    return LINK_HEAD.pack(VERSION, LINK, LINK_HEAD.size + len(raw), index) + raw


def decode_link(data: bytes) -> tuple[int, str]:
    """Index and name of an interface."""
    return LINK_HEAD.unpack_from(data)[3], data[LINK_HEAD.size :].decode()
