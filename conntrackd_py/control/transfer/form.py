"""The line of an export: a connection as JSON. form() writes it; packed() makes it a record of the journal.

- Times are relative: seconds left, seconds since the first packet. Interfaces are names, a master is its tuple.
- A line is read through its record, so records/record.py checks it as it checks the journal. What the journal's CRC
  vouches for is checked here: numbers that a tracker uses as an index, and status bits that belong to one process.
"""

import struct
from collections.abc import Mapping
from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NO_INTERFACE, L4Proto, NfConn
from conntrackd_py.conntrack.records import record
from conntrackd_py.conntrack.records.record import Help, Trackers
from conntrackd_py.conntrack.seqadj import BASE, MOST, NONE, ONE, Corrections, SeqAdj
from conntrackd_py.const import (
    IPS_CONFIRMED,
    IPS_DYING,
    IPS_HELPER,
    IPS_HW_OFFLOAD,
    IPS_OFFLOAD,
    PROTO_NAMES,
    STATUS_NAMES,
)
from conntrackd_py.control import view
from conntrackd_py.control.matcher import label_bits, status_bits
from conntrackd_py.control.protocol.requests import (
    U8,
    U32,
    Labels,
    RequestError,
    Status,
)
from conntrackd_py.control.transfer.parts import MOST_EXPECTED, Expected, Seconds, Side, expected, tuple_of
from conntrackd_py.engine.engine import Engine
from conntrackd_py.proto import sctp, tcp_window
from conntrackd_py.proto.rfc7857 import RFC7857_LAYOUT
from conntrackd_py.proto.tcp import TCP_LAYOUT
from conntrackd_py.proto.tcp_states import KIND_NONE

UNKNOWN: Final = "?"  # an interface without a name; empty: this machine
VERSION: Final = 2  # of the form
READABLE: Final = (1, VERSION)  # 1: without expectations
I32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Nat = Literal["masquerade", "mapping", "port", "early"]
NAT_FLAGS: Final[Mapping[Nat, int]] = {
    "masquerade": record.MASQUERADE,
    "mapping": record.REMEMBERED,
    "port": record.PORT_COUNTED,
    "early": record.SOURCE_EARLY,
}
OWN: Final = IPS_DYING | IPS_OFFLOAD | IPS_HW_OFFLOAD  # bits that end with the process

SIDE: Final = ("end", "maxend", "maxwin", "maxack", "scale", "flags")
FIELDS: Final[Mapping[int, tuple[struct.Struct, tuple[str, ...]]]] = {  # by layout: what L4Proto.pack_info packs
    TCP_LAYOUT: (
        tcp_window.PACKED,
        (
            *(f"orig_{name}" for name in SIDE),
            *(f"reply_{name}" for name in SIDE),
            *("last_seq", "last_ack", "last_end", "last_win", "last_flags", "last_kind"),
            *("last_direction", "last_scale", "retrans"),
        ),
    ),
    sctp.SCTP_LAYOUT: (
        sctp.PACKED,
        ("orig_vtag", "reply_vtag", "orig_init", "reply_init", "heartbeat_failed", "last_direction"),
    ),
}
SWITCHES: Final = {1: ("stream", b"a", b""), RFC7857_LAYOUT: ("from_inside", b"i", b"o")}  # name, if true, if false
MOST_OF: Final = {"last_direction": 1, "last_kind": KIND_NONE, "orig_scale": 14, "reply_scale": 14, "last_scale": 14}


class Master(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    protonum: U8
    orig: Side


class Adjustment(Struct, frozen=True, forbid_unknown_fields=True):
    """Of the sequence numbers of one direction: corrections are (position, offset)."""

    base: I32
    corrections: Annotated[tuple[tuple[U32, I32], ...], Meta(max_length=MOST)]


class Connection(
    Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename={"iif": "in", "oif": "out"}
):
    """timeout: seconds left. age: seconds since the first packet. docs/export.md explains each key."""

    protonum: U8
    orig: Side
    reply: Side
    timeout: Seconds
    age: Seconds
    status: Status
    proto: str = ""  # for people
    state: str = ""
    mark: U32 = 0
    labels: Labels = ()
    iif: str = ""
    oif: str = ""
    nat: Annotated[tuple[Nat, ...], Meta(max_length=len(NAT_FLAGS))] = ()
    helper: Annotated[str, Meta(max_length=record.LONGEST_HELPER)] = ""
    seqadj: tuple[Adjustment, Adjustment] | None = None
    expects: Annotated[tuple[Expected, ...], Meta(max_length=MOST_EXPECTED)] = ()
    master: Master | None = None
    layout: U8 = 0  # which tracker keeps `tracker`
    profile: U32 = 0  # which timeouts of a raw rule
    tracker: dict[str, int] = {}  # what the tracker keeps besides the state


def form(ct: NfConn, engine: Engine, now: int) -> Connection:
    """A confirmed connection at `now` (ms)."""
    core, l4proto = engine.core, ct.l4proto
    flags = record.flags_of(ct)
    adjusted = core.seqadj.get(ct.slot)
    return Connection(
        protonum=tuples.protonum(ct.original),
        proto=PROTO_NAMES.get(tuples.protonum(ct.original), "unknown"),
        orig=_side(ct.original, ct, 0),
        reply=_side(ct.reply, ct, 1),
        timeout=ct.remaining(now) / 1000,
        age=max(now - ct.born, 0) / 1000,
        status=tuple(view.names(ct.status & ~OWN, STATUS_NAMES)),  # type: ignore[arg-type]  # these are the names
        state=l4proto.state_names[ct.state],
        mark=ct.mark,
        labels=tuple(bit for bit in range(ct.labels.bit_length()) if ct.labels >> bit & 1),
        iif=engine.names.get(ct.iif, UNKNOWN) if ct.iif else "",
        oif=engine.names.get(ct.oif, UNKNOWN) if ct.oif else "",
        nat=tuple(name for name, bit in NAT_FLAGS.items() if flags & bit),
        helper=core.helper_names.get(ct.slot, "") if ct.status & IPS_HELPER else "",
        seqadj=None if adjusted is None else (_adjustment(adjusted.sides[0]), _adjustment(adjusted.sides[1])),
        expects=tuple(expected(known, now) for known in core.expectations.by_master.get(ct.slot, ())[:MOST_EXPECTED]),
        master=_master(ct.master),
        layout=l4proto.layout,
        profile=l4proto.profile,
        tracker=_tracker(ct),
    )


def _side(t: bytes, ct: NfConn, direction: int) -> Side:
    counted = {}
    if ct.counters is not None:
        counters = ct.counters
        counted["packets"] = counters.packets_reply if direction else counters.packets_original
        counted["bytes"] = counters.bytes_reply if direction else counters.bytes_original
    return Side(**view.tuple_fields(t), zone=tuples.zone(t), **counted)  # type: ignore[misc]  # other keys than zone


def _adjustment(known: Corrections) -> Adjustment:
    return Adjustment(known.offsets[0], tuple(zip(known.positions, known.offsets[1:], strict=True)))


def _master(master: NfConn | None) -> Master | None:
    if master is None:
        return None
    return Master(tuples.protonum(master.original), _side(master.original, master, 0))


def _tracker(ct: NfConn) -> dict[str, int]:
    data, layout = ct.l4proto.pack_info(ct), ct.l4proto.layout
    if layout in SWITCHES:
        name, on, _ = SWITCHES[layout]
        return {name: int(data == on)}
    if layout not in FIELDS:
        return {}
    fields, names = FIELDS[layout]
    return dict(zip(names, map(int, fields.unpack(data)), strict=True))


def packed(line: Connection, trackers: Trackers, links: Mapping[str, int]) -> bytes:
    """The record of a line, its times in ms from now. links: indexes of the interfaces by name.

    Raises RequestError or RefusedError, which say what is wrong.
    """
    original, reply = (tuple_of(line.protonum, side) for side in (line.orig, line.reply))
    l4proto = trackers.of(line.protonum, line.layout, line.profile)
    if l4proto is None or line.state not in l4proto.state_names:
        raise RequestError(f"no tracker has layout {line.layout} and state {line.state[:40]!r}")
    middle = _optional(line)
    flags = sum(NAT_FLAGS[name] for name in set(line.nat)) | middle[0]
    rest = middle[1] + original + reply + _info(line, l4proto)
    return (
        record.HEAD.pack(
            record.VERSION,
            record.CONNECTION,
            record.HEAD.size + len(rest),
            round(line.timeout * 1000),
            -round(line.age * 1000),
            1,  # the table gives it another id
            record.NO_MASTER,
            record.NO_MASTER,
            links.get(line.iif, NO_INTERFACE) if line.iif else 0,
            links.get(line.oif, NO_INTERFACE) if line.oif else 0,
            line.mark,
            line.profile,
            status_bits(line.status) & ~OWN | IPS_CONFIRMED,
            l4proto.state_names.index(line.state),
            flags,
            line.layout,
            len(original),
            len(reply),
        )
        + rest
    )


def _optional(line: Connection) -> tuple[int, bytes]:
    """Flags and bytes of labels, counters and help."""
    flags, data = 0, b""
    if line.labels:
        flags |= record.HAS_LABELS
        data += label_bits(line.labels).to_bytes(record.LABELS, "little")
    if line.orig.packets is not UNSET or line.reply.packets is not UNSET:
        flags |= record.HAS_COUNTERS
        counts = (line.orig.packets, line.reply.packets, line.orig.bytes, line.reply.bytes)
        data += record.COUNTERS.pack(*(0 if count is UNSET else count for count in counts))
    if line.helper or line.seqadj is not None:
        flags |= record.HAS_HELP
        data += Help(line.helper, _seqadj(line)).packed(MOST)
    return flags, data


def _seqadj(line: Connection) -> SeqAdj | None:
    if line.seqadj is None:
        return None
    data = b""
    for side in line.seqadj:
        data += BASE.pack(len(side.corrections) + 1, side.base) if side.corrections or side.base else NONE
        data += b"".join(ONE.pack(*correction) for correction in side.corrections)
    adjusted = SeqAdj()
    if adjusted.unpack(data, 0) != len(data):
        raise RequestError("the positions of seqadj do not ascend")
    return adjusted


def _info(line: Connection, l4proto: L4Proto) -> bytes:
    """What the tracker unpacks. Raises RequestError."""
    if line.layout in SWITCHES:
        name, on, off = SWITCHES[line.layout]
        return on if line.tracker.get(name) else off
    if l4proto.layout not in FIELDS:
        return b""
    fields, names = FIELDS[l4proto.layout]
    if set(line.tracker) != set(names):
        raise RequestError(f"tracker must have exactly these keys: {', '.join(names)}")
    for name, most in MOST_OF.items():
        if not 0 <= line.tracker.get(name, 0) <= most:
            raise RequestError(f"tracker.{name} must be from 0 to {most}")
    try:
        return fields.pack(*(line.tracker[name] for name in names))
    except struct.error as error:
        raise RequestError(f"tracker: {error}") from error
