"""Parts of a line of an export: the tuple of a direction, and the expectations of a connection.

An expectation belongs to the line of its master, so an import finds the master.
"""

from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.expect import FLAG_NAMES, Expectation
from conntrackd_py.conntrack.records import record
from conntrackd_py.const import IPPROTO_GRE
from conntrackd_py.control import spec, view
from conntrackd_py.control.protocol.requests import U8, U16, RequestError, TupleFields

Seconds = Annotated[float, Meta(ge=0, le=4294967295)]
U63 = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Helper = Annotated[str, Meta(max_length=record.LONGEST_HELPER)]
Flag = Literal["PERMANENT", "INACTIVE", "USERSPACE", "KEEPS_SOURCE"]
FLAGS: Final = (*FLAG_NAMES, "KEEPS_SOURCE")  # by bit
MOST_EXPECTED: Final = 32  # of one connection, in a line


class Side(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The tuple of one direction, and its counters."""

    src: str
    dst: str
    sport: U16 | UnsetType = UNSET
    dport: U16 | UnsetType = UNSET
    type: U8 | UnsetType = UNSET  # ICMP
    code: U8 | UnsetType = UNSET
    id: U16 | UnsetType = UNSET
    srckey: U16 | UnsetType = UNSET  # GRE
    dstkey: U16 | UnsetType = UNSET
    zone: U16 = 0
    packets: U63 | UnsetType = UNSET
    bytes: U63 | UnsetType = UNSET


class Expected(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename={"kind": "class"}):
    """timeout: seconds left. source, sport: the bits of the source that count. follows: translated as its master."""

    protonum: U8
    orig: Side
    timeout: Seconds
    source: str
    sport: U16
    flags: Annotated[tuple[Flag, ...], Meta(max_length=len(FLAGS))] = ()
    kind: U8 = 0
    follows: bool = False
    direction: Annotated[int, Meta(ge=0, le=1)] = 0
    port: U16 = 0
    helper: Helper = ""
    child_helper: Helper = ""


def expected(known: Expectation, now: int) -> Expected:
    """An expectation at `now` (ms)."""
    t, mask = known.tuple, known.mask
    return Expected(
        protonum=tuples.protonum(t),
        orig=Side(**view.tuple_fields(t), zone=tuples.zone(t)),  # type: ignore[misc]  # other keys than zone
        timeout=max(known.until - now, 0) / 1000,
        source=view.tuple_fields(tuples.with_protonum(mask, t))["src"],
        sport=tuples.l4src(mask),
        flags=tuple(name for bit, name in enumerate(FLAGS) if known.flags >> bit & 1),  # type: ignore[misc]  # the names
        kind=known.kind,
        follows=known.follows,
        direction=known.direction,
        port=known.port,
        helper=known.helper,
        child_helper=known.child_helper,
    )


def expectation(line: Expected, master: NfConn, now: int) -> Expectation:
    """Raises RequestError and RefusedError."""
    t, address = tuple_of(line.protonum, line.orig), spec.packed(line.source)
    if len(address) != tuples.address_length(t):
        raise RequestError("expects: the mask and the tuple are of different families")
    if line.follows and len(address) != tuples.address_length(master.original):
        raise RequestError("expects: it follows a connection of another family")
    mask = tuples.with_src(b"\xff" * len(t), address, line.sport)
    flags = sum(1 << FLAGS.index(name) for name in set(line.flags))
    known = Expectation(master, t, mask, now + round(line.timeout * 1000), flags=flags, kind=line.kind)
    known.follows, known.direction, known.port = line.follows, line.direction, line.port
    known.helper, known.child_helper = line.helper, line.child_helper
    return known


def tuple_of(protonum: int, side: Side) -> bytes:
    """Raises RequestError and RefusedError."""
    gre = protonum == IPPROTO_GRE
    return spec.one_tuple(
        TupleFields(
            proto=protonum,
            src=side.src,
            dst=side.dst,
            sport=side.sport,
            dport=side.dport,
            srckey=side.srckey if gre else UNSET,
            dstkey=side.dstkey if gre else UNSET,
            icmp_type=side.type,
            icmp_code=side.code,
            icmp_id=side.id,
            zone=side.zone,
        )
    )
