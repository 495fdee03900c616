"""What a client says of a connection or an expectation, as the engine's objects: for create, get, update, delete.

Keys of a connection; what is absent is 0, or the answer to the original direction:

    proto 0..255    src dst reply_src reply_dst "address"    sport dport reply_sport reply_dport 0..65535
    icmp_type icmp_code 0..255, icmp_id 0..65535    srckey dstkey reply_srckey reply_dstkey 0..65535 (gre)
    zone orig_zone reply_zone 0..65535
Of one to be made, also: src_nat dst_nat "address", "address:port", "[address]:port": what it is translated to; the port
only of a protocol that has ports.
Keys of a change (and of one to be made):
    timeout seconds    status ["ASSURED", ...]    state (tcp, sctp)    mark, mark_mask    orig_vtag reply_vtag (sctp)
    label_add, label_del [bits]
Of an expectation: timeout, master {a connection's keys}, tuple and mask {src dst sport dport}.

Two kinds of mistakes: SpecError for what no table could hold, RefusedError for what this one does not take.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.change import UNTOUCHED, Change
from conntrackd_py.conntrack.conn import L4Proto
from conntrackd_py.const import (
    ICMP_PROTOCOLS,
    IPPROTO_DCCP,
    IPPROTO_GRE,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    STATUS_NAMES,
    WITH_PORTS,
)
from conntrackd_py.control.query import FilterError, shown
from conntrackd_py.match.address import AddressError, address_and_port, packed_address
from conntrackd_py.nat.range import Range
from conntrackd_py.proto.icmp import ANSWERS, V6_ANSWERS

Spec = Mapping[str, object]

PORTS: Final = ("sport", "dport", "reply_sport", "reply_dport")
GRE_KEYS: Final = ("srckey", "dstkey", "reply_srckey", "reply_dstkey")
ICMP: Final = {"icmp_type": 255, "icmp_code": 255, "icmp_id": 65535}
ADDRESSES: Final = ("src", "dst", "reply_src", "reply_dst")
ZONES: Final = ("zone", "orig_zone", "reply_zone")
TUPLE_KEYS: Final = frozenset({"proto", *ADDRESSES, *PORTS, *GRE_KEYS, *ICMP, *ZONES})
TAGS: Final = ("orig_vtag", "reply_vtag")
CHANGE_KEYS: Final = frozenset({"timeout", "status", "state", "mark", "mark_mask", *TAGS, "label_add", "label_del"})
CREATE_KEYS: Final = TUPLE_KEYS | CHANGE_KEYS | {"src_nat", "dst_nat"}
U32: Final = 0xFFFFFFFF


class SpecError(FilterError):
    """The words make no sense, whatever the table holds."""


class RefusedError(ValueError):
    """Understood, but it cannot be done here; reads as conntrack(8) says it behind `Operation failed: `."""


class Wanted(NamedTuple):
    """A connection to be made: its tuples, and what they are translated to."""

    original: bytes
    reply: bytes
    source: Range | None
    destination: Range | None


def only(spec: Spec, keys: frozenset[str], what: str) -> None:
    """Raises SpecError for a key that is not one of these."""
    for key in spec:
        if key not in keys:
            raise SpecError(f"unknown key {shown(key)} of {what}")


def wanted(spec: Spec) -> Wanted:
    """The connection that spec asks to make. Raises SpecError and RefusedError."""
    only(spec, CREATE_KEYS, "a connection")
    source, destination = _range(spec, "src_nat"), _range(spec, "dst_nat")
    _one_family(spec, source, destination)
    original, reply = _both(spec)
    if source is not None or destination is not None:
        reply = tuples.swapped(original, inverted(original))
        source, destination = _given_port(spec, "reply_dport", source), _given_port(spec, "reply_sport", destination)
    first, second = zones_of(spec)
    return Wanted(tuples.with_zone(original, first), tuples.with_zone(reply, second), source, destination)


def _one_family(spec: Spec, *bounds: Range | None) -> None:
    lengths = {len(address) for key in ADDRESSES if (address := packed(spec, key))}
    lengths |= {len(bound.low) for bound in bounds if bound is not None}
    if len(lengths) > 1:
        raise SpecError("mismatched address family")


def zones_of(spec: Spec) -> tuple[int, int]:
    """Of the original direction and of the reply."""
    if "zone" in spec and ("orig_zone" in spec or "reply_zone" in spec):
        raise RefusedError("invalid parameters")
    both = number(spec, "zone", 65535)
    return number(spec, "orig_zone", 65535) or both, number(spec, "reply_zone", 65535) or both


def one_tuple(spec: Spec) -> bytes:
    """The tuple of the direction that spec tells, the original one first. Raises SpecError and RefusedError."""
    only(spec, TUPLE_KEYS, "a tuple")
    _one_family(spec)
    original = _tuple(spec, "")
    first, second = zones_of(spec)
    if original:
        return tuples.with_zone(original, first)
    return tuples.with_zone(_known(_tuple(spec, "reply_")), second)


def _known(t: bytes) -> bytes:
    if not t:
        raise RefusedError("invalid parameters")
    return t


def _both(spec: Spec) -> tuple[bytes, bytes]:
    """Both tuples; the one of which no address is told is the other's answer."""
    original = _tuple(spec, "")
    translated = "src_nat" in spec or "dst_nat" in spec
    reply = b"" if original and translated else _tuple(spec, "reply_")
    if not original:
        return tuples.swapped(_known(reply), inverted(reply)), reply
    if reply:
        return original, reply
    return original, tuples.swapped(original, inverted(original))


def _tuple(spec: Spec, prefix: str) -> bytes:
    """The tuple of one direction, of zone 0; empty when none of its addresses is told."""
    source, destination = (packed(spec, prefix + key) for key in ("src", "dst"))
    if not source and not destination:
        return b""
    if not source or not destination:
        raise RefusedError("invalid parameters")
    proto = number(spec, "proto", 255)
    return tuples.make(source + destination, _layer4(spec, proto, len(source), prefix), proto)


def _layer4(spec: Spec, proto: int, length: int, prefix: str) -> bytes:
    if proto in ICMP_PROTOCOLS:
        answers = {IPPROTO_ICMP: ANSWERS, IPPROTO_ICMPV6: V6_ANSWERS}[proto]
        kind, code = number(spec, "icmp_type", 255), number(spec, "icmp_code", 255)
        if kind not in answers or length != (4 if proto == IPPROTO_ICMP else 16):
            raise RefusedError("invalid parameters")
        kind = answers[kind] if prefix else kind
        return number(spec, "icmp_id", 65535).to_bytes(2, "big") + bytes((kind, code))
    first, second = ("srckey", "dstkey") if proto == IPPROTO_GRE else ("sport", "dport")
    if (proto not in WITH_PORTS and proto != IPPROTO_GRE) or proto == IPPROTO_DCCP:
        return bytes(4)  # nobody here tracks DCCP by its ports
    low, high = number(spec, prefix + first, 65535), number(spec, prefix + second, 65535)
    return low.to_bytes(2, "big") + high.to_bytes(2, "big")


def inverted(t: bytes) -> bytes:
    """The layer 4 bytes of the answer to t."""
    l4 = tuples.l4(t)
    answers = {IPPROTO_ICMP: ANSWERS, IPPROTO_ICMPV6: V6_ANSWERS}.get(tuples.protonum(t))
    return l4[2:] + l4[:2] if answers is None else l4[:2] + bytes((answers[l4[2]], l4[3]))


def _range(spec: Spec, key: str) -> Range | None:
    if key not in spec:
        return None
    text = spec[key]
    if not isinstance(text, str):
        raise SpecError(f"{key} must be an address, or an address and a port, not {shown(text)}")
    try:
        address, port = address_and_port(text)
    except AddressError as error:
        raise SpecError(str(error)) from error
    if number(spec, "proto", 255) not in WITH_PORTS:
        port = 0
    return Range(address, address, port or 0, port or 0)


def _given_port(spec: Spec, key: str, bound: Range | None) -> Range | None:
    """bound with the port that `-o save` tells as the reply's, if it tells of the reply."""
    told = "reply_src" in spec or "reply_dst" in spec or ("src_nat" in spec and "dst_nat" in spec)
    if bound is None or bound.has_ports or key not in spec or not told:
        return bound
    port = number(spec, key, 65535)
    return Range(bound.low, bound.high, port, port)


def change_of(spec: Spec, l4proto: L4Proto) -> Change:
    """What spec changes of a connection of this tracker. Raises SpecError and RefusedError."""
    change = Change()
    if "timeout" in spec:
        change.timeout = number(spec, "timeout", U32) * 1000
    if "status" in spec:
        change.status = status_bits(spec["status"])
    if "state" in spec:
        change.state = _state(spec["state"], l4proto)
    if "mark" in spec:
        change.mark_value = number(spec, "mark", U32)
        change.mark_mask = number(spec, "mark_mask", U32) if "mark_mask" in spec else U32
    if any(tag in spec for tag in TAGS):
        change.protoinfo = number(spec, "orig_vtag", U32), number(spec, "reply_vtag", U32)
    change.labels_on = label_bits(spec, "label_add")
    change.labels_off = label_bits(spec, "label_del")
    return change


def _state(name: object, l4proto: L4Proto) -> int:
    if len(l4proto.state_names) == 1:  # the kernel has no tracker for DCCP either, and passes its state over
        return UNTOUCHED
    if not isinstance(name, str) or name not in l4proto.state_names:
        raise RefusedError(f"the tracker of {l4proto.name} has no state {shown(name)}")
    return l4proto.state_names.index(name)


def status_bits(names: object) -> int:
    """["ASSURED", "UNSET"] and the like."""
    if not isinstance(names, list):
        raise SpecError("status must be a list of flag names")
    bits = 0
    for name in names:
        if name not in STATUS_NAMES and name != "UNSET":
            raise SpecError(f"unknown status {shown(name)}")
        bits |= 0 if name == "UNSET" else 1 << STATUS_NAMES.index(name)
    return bits


def label_bits(spec: Spec, key: str) -> int:
    bits = spec.get(key, [])
    if not isinstance(bits, list) or not all(type(bit) is int and 0 <= bit < 128 for bit in bits):
        raise SpecError(f"{key} must be a list of numbers from 0 to 127, not {shown(bits)}")
    return sum(1 << bit for bit in set(bits))


def number(spec: Spec, key: str, most: int) -> int:
    """0 when it is absent."""
    value = spec.get(key, 0)
    if type(value) is not int or not 0 <= value <= most:
        raise SpecError(f"{key} must be a number from 0 to {most}, not {shown(value)}")
    return value


def packed(spec: Spec, key: str) -> bytes:
    text = spec.get(key)
    if text is None:
        return b""
    if not isinstance(text, str):
        raise SpecError(f"{key} must be an address, not {shown(text)}")
    try:
        return packed_address(text)
    except AddressError as error:
        raise SpecError(str(error)) from error
