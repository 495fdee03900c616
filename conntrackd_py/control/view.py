"""Connections and events as JSON-able dicts: what the control socket sends and `-o json` prints.

The keys are a contract: they may be added to, never renamed. Absent means not known or not applicable:

    family proto protonum timeout [state] status[] orig{} reply{} mark id [zone] [labels[]] [start] [stop]
    [in] [out]: interfaces its first packet came in and left by (a listing's)
    orig, reply: src dst, then sport dport | type code id | srckey dstkey, then [packets bytes] [vtag] (sctp)
    an event has first: event seq time changed[], and a DESTROY also: reason
    one that somebody's order caused has: userspace{pid [program]}

    an expectation: timeout family proto protonum tuple{} mask{} master{} flags[] class id [zone] [helper]

`timeout` is whole seconds left; `time` is seconds since the epoch; `changed` names the IPCT_* bits.
`packets` and `bytes` are there while accounting is on. `labels` are the numbers of the bits that are set.
While timestamps are on, `start` and, once it has ended, `stop` are seconds since the epoch.
"""

from collections.abc import Mapping
from socket import AF_INET, AF_INET6, inet_ntop
from typing import Final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.events import Event
from conntrackd_py.conntrack.expect import FLAG_NAMES, Expectation, ExpectationEvent
from conntrackd_py.const import (
    ICMP_PROTOCOLS,
    IPCT_DESTROY,
    IPPROTO_GRE,
    ORIGINAL,
    PROTO_NAMES,
    REPLY,
    STATUS_NAMES,
    WITH_PORTS,
)
from conntrackd_py.proto.sctp import SctpInfo
from conntrackd_py.reasons import END_NAMES

Json = dict[str, object]

CHANGE_NAMES: Final = (
    *("new", "related", "destroy", "reply", "assured", "protoinfo", "helper", "mark", "seqadj", "secmark", "label"),
)


def connection(ct: NfConn, now: int, accounting: bool, epoch: float | None = None) -> Json:
    """ct as it is at `now` (ms). epoch: when the engine's clock was zero; None: without timestamps."""
    described = _describe(ct, ct, ct.remaining(now), accounting)
    if epoch is not None:
        described["start"] = wall(epoch, ct.born)
        if ct.dying:
            described["stop"] = wall(epoch, min(ct.ended, ct.timeout) if ct.confirmed else ct.ended)
    return described


def event(what: Event, time: float, accounting: bool, timestamps: bool = False) -> Json:
    """An event whose wall-clock time is `time`, in seconds since the epoch."""
    head: Json = {
        "event": what.kind,
        "seq": what.sequence,
        "time": round(time, 6),
        "changed": names(what.bits, CHANGE_NAMES),
    }
    head.update(_describe(what.conn, what, what.timeout, accounting))
    if what.bits & IPCT_DESTROY and what.conn.end_reason >= 0:
        head["reason"] = END_NAMES[what.conn.end_reason]
    if timestamps:
        epoch = time - what.at / 1000
        head["start"] = wall(epoch, what.born)
        if what.bits & IPCT_DESTROY:
            head["stop"] = wall(epoch, what.ended)
    return head


def expectation(known: Expectation, now: int) -> Json:
    """known as it is at `now` (ms)."""
    t = known.tuple
    protonum = tuples.protonum(t)
    described: Json = {
        "timeout": max(known.until - now, 0) // 1000,
        "family": _family(t),
        "proto": PROTO_NAMES.get(protonum, "unknown"),
        "protonum": protonum,
        "tuple": tuple_fields(t),
        "mask": tuple_fields(tuples.with_protonum(known.mask, t)),  # a mask of the protocol: the protocol
        "master": tuple_fields(known.master.original),
        "flags": names(known.flags, FLAG_NAMES),
        "class": known.kind,
        "id": known.id,
    }
    if tuples.zone(t):
        described["zone"] = tuples.zone(t)
    if known.helper:
        described["helper"] = known.helper
    return described


def interfaces(ct: NfConn, names: Mapping[int, str]) -> Json:
    """Where its first packet came in and went out, as far as that is known."""
    return {key: names[index] for key, index in (("in", ct.iif), ("out", ct.oif)) if index in names}


def expectation_event(what: ExpectationEvent, time: float) -> Json:
    """An event of an expectation whose wall-clock time is `time`, in seconds since the epoch."""
    head: Json = {"event": what.kind, "seq": what.sequence, "time": round(time, 6)}
    return head | expectation(what.expectation, what.at)


def wall(epoch: float, at: int) -> float:
    """The engine's `at` (ms) in seconds since 1970."""
    return round(epoch + at / 1000, 6)


def _family(t: bytes) -> str:
    return "ipv4" if tuples.address_length(t) == 4 else "ipv6"


def names(bits: int, by_bit: tuple[str, ...]) -> list[str]:
    """The names of the bits that are set, lowest first."""
    return [name for bit, name in enumerate(by_bit) if bits >> bit & 1]


def _describe(ct: NfConn, seen: NfConn | Event, left: int, accounting: bool) -> Json:
    """seen: who knows status, state, mark and counters: the connection now, or an event then."""
    protonum = tuples.protonum(ct.original)
    zone = tuples.zone(ct.original)
    described: Json = {
        "family": _family(ct.original),
        "proto": PROTO_NAMES.get(protonum, "unknown"),
        "protonum": protonum,
        "timeout": left // 1000,
    }
    if ct.l4proto.shows_state:
        described["state"] = ct.l4proto.state_names[seen.state]
    described["status"] = names(seen.status, STATUS_NAMES)
    described["orig"] = _direction(ct, seen, ORIGINAL, accounting)
    described["reply"] = _direction(ct, seen, REPLY, accounting)
    if zone and zone == tuples.zone(ct.reply):
        described["zone"] = zone
    described["mark"] = seen.mark
    described["id"] = ct.id
    if seen.labels:
        described["labels"] = [bit for bit in range(seen.labels.bit_length()) if seen.labels >> bit & 1]
    return described


def _direction(ct: NfConn, seen: NfConn | Event, direction: int, accounting: bool) -> Json:
    side = tuple_fields(ct.tuple(direction))
    zone = tuples.zone(ct.tuple(direction))
    if zone and zone != tuples.zone(ct.tuple(1 - direction)):
        side["zone"] = zone
    if accounting:
        original = direction == ORIGINAL
        side["packets"] = seen.packets_original if original else seen.packets_reply
        side["bytes"] = seen.bytes_original if original else seen.bytes_reply
    if isinstance(ct.proto, SctpInfo):
        side["vtag"] = ct.proto.vtag[direction]
    return side


def tuple_fields(t: bytes) -> Json:
    """Addresses as text and what identifies the connection in layer 4."""
    family = AF_INET if tuples.address_length(t) == 4 else AF_INET6
    fields: Json = {"src": inet_ntop(family, tuples.src(t)), "dst": inet_ntop(family, tuples.dst(t))}
    protonum = tuples.protonum(t)
    first, second = tuples.l4src(t), tuples.l4dst(t)
    if protonum in WITH_PORTS:
        fields["sport"] = first
        fields["dport"] = second
    elif protonum in ICMP_PROTOCOLS:
        fields["type"] = second >> 8
        fields["code"] = second & 0xFF
        fields["id"] = first
    elif protonum == IPPROTO_GRE:
        fields["srckey"] = first
        fields["dstkey"] = second
    return fields
