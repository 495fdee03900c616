"""Connections, expectations, events and refused packets as the answers of the control socket."""

import time as wall_clock
from collections.abc import Callable, Mapping
from typing import Final, cast

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.events import Event
from conntrackd_py.conntrack.expect import FLAG_NAMES, Expectation, ExpectationEvent
from conntrackd_py.const import (
    CTINFO_NAMES,
    HOOK_NAMES,
    ICMP_PROTOCOLS,
    IPCT_DESTROY,
    IPPROTO_GRE,
    ORIGINAL,
    PROTO_NAMES,
    REPLY,
    STATUS_NAMES,
    WITH_PORTS,
)
from conntrackd_py.control.protocol import answers
from conntrackd_py.explain import packet_line, sentences
from conntrackd_py.explain.expired import ExpiredConnection
from conntrackd_py.explain.hints import sentence
from conntrackd_py.explain.refusals import Refusal
from conntrackd_py.match.address import address_text
from conntrackd_py.proto.sctp import SctpInfo
from conntrackd_py.reasons import END_NAMES, EXPIRED_IN_USE, HELPER_NOT_ENABLED, MARK_OVERWRITTEN, REASON_NAMES

NO_NAMES: Final[Mapping[int, str]] = {}

CHANGE_NAMES: Final = (
    *("new", "related", "destroy", "reply", "assured", "protoinfo", "helper", "mark", "seqadj", "secmark", "label"),
)


def epoch(clock: Callable[[], int]) -> float:
    """The time at which the engine's clock was 0, in seconds since 1970."""
    return wall_clock.time() - clock() / 1000


def connection(
    ct: NfConn,
    now: int,
    accounting: bool,
    epoch: float | None = None,
    interfaces: Mapping[int, str] = NO_NAMES,
    helper: str = "",
) -> answers.Connection:
    """ct at `now` (ms). epoch: when the engine's clock was 0; None: without timestamps. interfaces: names by index."""
    described = _describe(ct, ct, ct.remaining(now), accounting)
    if epoch is not None:
        described["start"] = wall(epoch, ct.born)
        if ct.dying:
            described["stop"] = wall(epoch, min(ct.ended, ct.timeout) if ct.confirmed else ct.ended)
    if helper:
        described["helper"] = helper
    if ct.iif in interfaces:
        described["in"] = interfaces[ct.iif]
    if ct.oif in interfaces:
        described["out"] = interfaces[ct.oif]
    return described


def event(
    what: Event, time: float, accounting: bool, timestamps: bool = False, helper: str = ""
) -> answers.ConnectionEvent:
    """time: of the event, in seconds since 1970. helper: its name; the kernel does not report that of an end."""
    head = {
        "event": what.kind,
        "seq": what.sequence,
        "time": round(time, 6),
        "changed": names(what.bits, CHANGE_NAMES),
    }
    described = cast(answers.ConnectionEvent, head | _describe(what.conn, what, what.timeout, accounting))
    if what.bits & IPCT_DESTROY and what.conn.end_reason >= 0:
        described["reason"] = END_NAMES[what.conn.end_reason]
    if helper and not what.bits & IPCT_DESTROY:
        described["helper"] = helper
    if timestamps:
        epoch = time - what.at / 1000
        described["start"] = wall(epoch, what.born)
        if what.bits & IPCT_DESTROY:
            described["stop"] = wall(epoch, what.ended)
    return described


def expectation(known: Expectation, now: int) -> answers.Expectation:
    """known at `now` (ms)."""
    t = known.tuple
    protonum = tuples.protonum(t)
    described: answers.Expectation = {
        "timeout": max(known.until - now, 0) // 1000,
        "family": _family(t),
        "proto": PROTO_NAMES.get(protonum, "unknown"),
        "protonum": protonum,
        "tuple": tuple_fields(t),
        "mask": tuple_fields(tuples.with_protonum(known.mask, t)),  # the mask's own protocol byte is 255
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


def expectation_event(what: ExpectationEvent, time: float) -> answers.ExpectationEvent:
    """time: of the event, in seconds since 1970."""
    head = {"event": what.kind, "seq": what.sequence, "time": round(time, 6)}
    then = {"timeout": what.timeout // 1000, "flags": names(what.flags, FLAG_NAMES)}  # they may have changed since
    return cast(answers.ExpectationEvent, head | expectation(what.expectation, what.at) | then)


def refused_packet(note: Refusal, time: float) -> answers.RefusedPacket:
    """time: of the refusal, in seconds since 1970."""
    packet = packet_line.fields(note.header, note.length)
    described: answers.RefusedPacket = {
        "sequence": note.sequence,
        "time": round(time, 6),
        "hook": HOOK_NAMES[note.hook],
        "outcome": sentences.outcome(note.reason) or "ACCEPTED",
        "reason": _reason(note),
        "numbers": list(note.numbers),
        "why": sentence(note),
        "ctinfo": CTINFO_NAMES[note.ctinfo],
        "packet": packet,
        "text": packet_line.text(packet),
    }
    if note.cause:
        described["cause"] = REASON_NAMES[note.cause]
    if note.rule:
        described["rule"] = note.rule
    if note.original:
        described["connection"] = _refused_connection(note)
    if note.expired is not None:
        described["expired_in_use"] = expired_in_use(note.expired, note.at)
    return described


def _reason(note: Refusal) -> str:
    if note.reason:
        return REASON_NAMES[note.reason]
    if note.lacks:
        return HELPER_NOT_ENABLED
    return MARK_OVERWRITTEN if note.overwritten else EXPIRED_IN_USE


def _refused_connection(note: Refusal) -> dict[str, object]:
    return {
        "id": note.id,
        **({"state": note.state} if note.state else {}),
        "status": names(note.status, STATUS_NAMES),
        "timeout": note.timeout // 1000,
        "orig": tuple_fields(note.original),
    }


def expired_in_use(expired: ExpiredConnection, at: int) -> dict[str, object]:
    """at: ms, of the packet."""
    return {
        "proto": expired.proto,
        "after": expired.lifetime / 1000,
        "ago": (at - expired.ended) / 1000,
        "keepalive": expired.keepalive() / 1000,
    }


def wall(epoch: float, at: int) -> float:
    """The engine's `at` (ms) in seconds since 1970."""
    return round(epoch + at / 1000, 6)


def _family(t: bytes) -> str:
    return "ipv4" if tuples.address_length(t) == 4 else "ipv6"


def names(bits: int, by_bit: tuple[str, ...]) -> list[str]:
    """The names of the bits that are set, lowest first."""
    return [name for bit, name in enumerate(by_bit) if bits >> bit & 1]


def _describe(ct: NfConn, seen: NfConn | Event, left: int, accounting: bool) -> answers.Connection:
    """seen: ct itself or an event of it; the source of status, state, mark, labels and counters."""
    protonum = tuples.protonum(ct.original)
    zone = tuples.zone(ct.original)
    described: answers.Connection = {
        "family": _family(ct.original),
        "proto": PROTO_NAMES.get(protonum, "unknown"),
        "protonum": protonum,
        "timeout": left // 1000,
        "status": names(seen.status, STATUS_NAMES),
        "orig": _direction(ct, seen, ORIGINAL, accounting),
        "reply": _direction(ct, seen, REPLY, accounting),
        "mark": seen.mark,
        "id": ct.id,
    }
    if ct.l4proto.shows_state:
        described["state"] = ct.l4proto.state_names[seen.state]
    if zone and zone == tuples.zone(ct.reply):
        described["zone"] = zone
    if seen.labels:
        described["labels"] = [bit for bit in range(seen.labels.bit_length()) if seen.labels >> bit & 1]
    return described


def _direction(ct: NfConn, seen: NfConn | Event, direction: int, accounting: bool) -> answers.Side:
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


def tuple_fields(t: bytes) -> answers.Side:
    """Addresses as text, and ports, keys, or ICMP type, code and id."""
    fields: answers.Side = {"src": address_text(tuples.src(t)), "dst": address_text(tuples.dst(t))}
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
