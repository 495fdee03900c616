"""Fields of a request -> tuples, translations and changes of the engine, for create, get, update and delete."""

from typing import Final, NamedTuple

from msgspec import UNSET, UnsetType

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import L4Proto
from conntrackd_py.const import ICMP_PROTOCOLS, IPPROTO_DCCP, IPPROTO_GRE, IPPROTO_ICMP, IPPROTO_ICMPV6, WITH_PORTS
from conntrackd_py.control.matcher import U32, checked, label_bits, status_bits
from conntrackd_py.control.protocol import requests
from conntrackd_py.control.protocol.requests import NewConnection, RefusedError, RequestError, TupleFields
from conntrackd_py.engine.change import UNTOUCHED, Change
from conntrackd_py.match.address import address_and_port, packed_address
from conntrackd_py.nat.range import Range
from conntrackd_py.proto.icmp import ANSWERS, V6_ANSWERS

INVERTED_TYPES: Final = {IPPROTO_ICMP: ANSWERS, IPPROTO_ICMPV6: V6_ANSWERS}


class Wanted(NamedTuple):
    """A connection to create: its tuples before translation, and what they are translated to."""

    original: bytes
    reply: bytes
    source: Range | None
    destination: Range | None


def wanted(spec: NewConnection) -> Wanted:
    """Raises RequestError and RefusedError."""
    source, destination = _range(spec, spec.src_nat), _range(spec, spec.dst_nat)
    _one_family(spec, source, destination)
    original, reply = _both(spec, translated=source is not None or destination is not None)
    if source is not None or destination is not None:
        reply = tuples.swapped(original, inverted(original))
        source = _with_reply_port(spec, spec.reply_dport, source)
        destination = _with_reply_port(spec, spec.reply_sport, destination)
    first, second = zones_of(spec)
    return Wanted(tuples.with_zone(original, first), tuples.with_zone(reply, second), source, destination)


def _one_family(spec: TupleFields, *bounds: Range | None) -> None:
    addresses = (spec.src, spec.dst, spec.reply_src, spec.reply_dst)
    lengths = {len(packed(address)) for address in addresses if address is not UNSET}
    lengths |= {len(bound.low) for bound in bounds if bound is not None}
    if len(lengths) > 1:
        raise RequestError("mismatched address family")


def zones_of(spec: TupleFields) -> tuple[int, int]:
    """Of the original direction and of the reply."""
    if spec.zone is not UNSET and not (spec.orig_zone is UNSET and spec.reply_zone is UNSET):
        raise RefusedError("invalid parameters")
    both = number(spec.zone)
    return number(spec.orig_zone) or both, number(spec.reply_zone) or both


def one_tuple(spec: TupleFields) -> bytes:
    """The tuple of the original direction if spec has its addresses, else of the reply.

    Raises RequestError and RefusedError.
    """
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


def _both(spec: NewConnection, translated: bool) -> tuple[bytes, bytes]:
    """Both tuples; one without addresses is the inverse of the other."""
    original = _tuple(spec, "")
    reply = b"" if original and translated else _tuple(spec, "reply_")
    if not original:
        return tuples.swapped(_known(reply), inverted(reply)), reply
    return original, reply or tuples.swapped(original, inverted(original))


def _tuple(spec: TupleFields, prefix: str) -> bytes:
    """The tuple of one direction, in zone 0; empty without addresses."""
    source, destination = (packed(getattr(spec, prefix + key)) for key in ("src", "dst"))
    if not source and not destination:
        return b""
    if not source or not destination:
        raise RefusedError("invalid parameters")
    proto = number(spec.proto)
    return tuples.make(source + destination, _layer4(spec, proto, len(source), prefix), proto)


def _layer4(spec: TupleFields, proto: int, length: int, prefix: str) -> bytes:
    if proto in ICMP_PROTOCOLS:
        answers, kind = INVERTED_TYPES[proto], number(spec.icmp_type)
        if kind not in answers or length != (4 if proto == IPPROTO_ICMP else 16):
            raise RefusedError("invalid parameters")
        kind = answers[kind] if prefix else kind
        return number(spec.icmp_id).to_bytes(2, "big") + bytes((kind, number(spec.icmp_code)))
    first, second = ("srckey", "dstkey") if proto == IPPROTO_GRE else ("sport", "dport")
    if (proto not in WITH_PORTS and proto != IPPROTO_GRE) or proto == IPPROTO_DCCP:
        return bytes(4)  # DCCP has no tracker, so its tuples have no ports
    low, high = number(getattr(spec, prefix + first)), number(getattr(spec, prefix + second))
    return low.to_bytes(2, "big") + high.to_bytes(2, "big")


def inverted(t: bytes) -> bytes:
    """The layer 4 bytes of the inverse of t."""
    l4 = tuples.l4(t)
    answers = INVERTED_TYPES.get(tuples.protonum(t))
    return l4[2:] + l4[:2] if answers is None else l4[:2] + bytes((answers[l4[2]], l4[3]))


def _range(spec: NewConnection, text: str | UnsetType) -> Range | None:
    if text is UNSET:
        return None
    address, port = checked(address_and_port, text)
    if spec.proto is UNSET or spec.proto not in WITH_PORTS:
        port = 0
    return Range(address, address, port or 0, port or 0)


def _with_reply_port(spec: NewConnection, port: int | UnsetType, bound: Range | None) -> Range | None:
    """bound with the translated port, which `-o save` writes in the reply tuple."""
    saved = not (spec.reply_src is UNSET and spec.reply_dst is UNSET and UNSET in (spec.src_nat, spec.dst_nat))
    if bound is None or bound.has_ports or port is UNSET or not saved:
        return bound
    return Range(bound.low, bound.high, port, port)


def change_of(spec: requests.Change | NewConnection, l4proto: L4Proto) -> Change:
    """The change of a connection of this tracker. Raises RequestError and RefusedError."""
    change = Change()
    if spec.timeout is not UNSET:
        change.timeout = spec.timeout * 1000
    if spec.status is not UNSET:
        change.status = status_bits(spec.status)
    if spec.state is not UNSET:
        change.state = _state(spec.state, l4proto)
    if spec.mark is not UNSET:
        change.mark_value = spec.mark
        change.mark_mask = U32 if spec.mark_mask is UNSET else spec.mark_mask
    if not (spec.orig_vtag is UNSET and spec.reply_vtag is UNSET):
        change.protoinfo = number(spec.orig_vtag), number(spec.reply_vtag)
    change.labels_on = label_bits(spec.label_add)
    change.labels_off = label_bits(spec.label_del)
    return change


def _state(name: str, l4proto: L4Proto) -> int:
    if len(l4proto.state_names) == 1:  # like the kernel, which ignores the state of DCCP without its tracker
        return UNTOUCHED
    if name not in l4proto.state_names:
        raise RefusedError(f"the tracker of {l4proto.name} has no state {name[:60]!r}")
    return l4proto.state_names.index(name)


def number(value: int | UnsetType) -> int:
    """0 when it is absent."""
    return 0 if value is UNSET else value


def packed(text: str | UnsetType) -> bytes:
    """Empty when it is absent. Raises RequestError."""
    return b"" if text is UNSET else checked(packed_address, text)
