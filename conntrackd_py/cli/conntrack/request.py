"""Builds the request to the daemon from the options. The daemon checks it again; here errors are reported early."""

from collections.abc import Callable, Mapping
from socket import ntohl
from typing import Any, Final, TypeVar

from msgspec import convert

from conntrackd_py.cli.conntrack.options import EVENTS, ROLES, STATUSES
from conntrackd_py.cli.conntrack.parse import Parsed
from conntrackd_py.cli.conntrack.values import UsageError, chosen, duration, label_names, labels, number, protocol
from conntrackd_py.control.matcher import STATES, Matcher
from conntrackd_py.control.protocol.requests import (
    Change,
    Create,
    Delete,
    EventName,
    Filter,
    Flush,
    Mask,
    NewConnection,
    NewExpectation,
    RefusedError,
    Request,
    TupleFields,
    Update,
    UpdateFilter,
)
from conntrackd_py.control.spec import one_tuple, wanted
from conntrackd_py.match.address import FAMILIES

TEXTS: Final = ("src", "dst", "reply_src", "reply_dst", "host", "interface")
U32: Final = 0xFFFFFFFF
NUMBERS: Final = {
    **dict.fromkeys(("sport", "dport", "reply_sport", "reply_dport", "tuple_sport", "tuple_dport"), 65535),
    **dict.fromkeys(("sport_mask", "dport_mask", "icmp_id", "zone", "orig_zone", "reply_zone"), 65535),
    **dict.fromkeys(("srckey", "dstkey", "reply_srckey", "reply_dstkey"), 65535),
    **dict.fromkeys(("icmp_type", "icmp_code"), 255),
    **dict.fromkeys(("orig_vtag", "reply_vtag", "timeout", "secmark"), U32),
}
TAGS: Final = ("orig_vtag", "reply_vtag")
NAT: Final = ("src_nat", "dst_nat", "any_nat")
STATE_ALIASES: Final = {"LISTEN": "SYN_SENT2"}
NEVER_MATCHED: Final = frozenset({"label_add", "label_del"})

Spec = dict[str, Any]
Fields = TypeVar("Fields", TupleFields, NewConnection, UpdateFilter, Filter)


def change(parsed: Parsed) -> Request:
    """The request of -A, -I, -U, -D or -F on connections. Raises UsageError."""
    if parsed.command in "AI":
        return Create(ct=creation(parsed.values), exclusive=parsed.command == "I")
    if parsed.command == "U":
        matching, changes = update(parsed.values)
        return Update(changes, matching)
    command = Delete if parsed.command == "D" else Flush
    return command(filter=filter_of(parsed.values))


def read(values: Mapping[str, str]) -> Spec:
    """The values of all options, with the keys of the requests' structures. Raises UsageError."""
    spec: Spec = {key: values[key] for key in TEXTS if key in values}
    if "proto" in values:
        spec["proto"] = protocol(values["proto"])
    if "family" in values:
        if values["family"] not in FAMILIES:
            raise UsageError(f"`{values['family']}' unsupported protocol")
        spec["family"] = values["family"]
    spec |= {key: number(values[key], most) for key, most in NUMBERS.items() if key in values}
    spec |= {key: duration(values[key]) for key in ("older_than", "younger_than") if key in values}
    spec |= {tag: ntohl(spec[tag]) for tag in TAGS if tag in spec}  # host byte order, as in conntrack(8)
    if "state" in values:
        spec["state"] = _state(values["state"], spec["proto"])
    if "status" in values:
        spec["status"] = chosen(values["status"], STATUSES)
    if "role" in values and values["role"] not in ROLES:
        raise UsageError(f"Unknown DCCP role `{values['role']}'")
    if "mark" in values:
        mark, slash, mask = values["mark"].partition("/")
        spec["mark"] = number(mark, U32)
        if slash:
            spec["mark_mask"] = number(mask, U32)
    spec |= {key: values[key] or True for key in NAT if key in values}
    if "stale" in values:
        spec["stale"] = True
    spec |= _labels(values)
    for key in ("src", "dst"):
        _mask(spec, values, key)
    return spec


def _state(text: str, proto: int) -> str:
    name = STATE_ALIASES.get(text, text)
    if name not in STATES[proto]:
        raise UsageError(f"unknown state `{text}'")
    return name


def _labels(values: Mapping[str, str]) -> Spec:
    given = {key: values[key] for key in ("label", "label_add", "label_del") if key in values}
    if not given:
        return {}
    names = label_names()
    spec: Spec = {key: labels(text, names) if text else list(range(128)) for key, text in given.items()}
    if "label" in spec:
        spec["labels"] = spec.pop("label")
    return spec


def _mask(spec: Spec, values: Mapping[str, str], key: str) -> None:
    """Join --mask-src to --src. After a slash there must be a number of bits."""
    address, slash, bits = str(spec.get(key, "")).partition("/")
    if slash and not (bits.isascii() and bits.isdigit()):
        raise UsageError(f"Invalid netmask `{bits}'")
    mask = values.get(f"{key}_mask")
    if mask is not None and address:
        spec[key] = f"{address}/{mask}"


def filter_of(values: Mapping[str, str]) -> Filter:
    """The filter of -L, -D and -E. Raises UsageError."""
    return _checked(Matcher, Filter, {key: value for key, value in read(values).items() if key not in NEVER_MATCHED})


def creation(values: Mapping[str, str]) -> NewConnection:
    """The connection of -I and -A. Raises UsageError."""
    keys = NewConnection.__struct_fields__
    return _checked(
        wanted, NewConnection, {key: value for key, value in read(values).items() if key in keys and value is not True}
    )


def _checked(check: Callable[[Fields], object], fields: type[Fields], spec: Spec) -> Fields:
    """The spec as a structure. Raises UsageError for a malformed one; one that the daemon will refuse is sent to it."""
    try:
        converted = convert(spec, fields)
        check(converted)
    except RefusedError:
        return converted
    except ValueError as error:
        raise UsageError(str(error)) from error
    return converted


def update(values: Mapping[str, str]) -> tuple[UpdateFilter, Change]:
    """The filter and the changes of -U. Raises UsageError."""
    spec = read(values)
    changes = {key: value for key, value in spec.items() if key in Change.__struct_fields__}
    matched = {key: value for key, value in spec.items() if key not in changes}
    return _checked(Matcher, UpdateFilter, matched), convert(changes, Change)


def tuple_of(values: Mapping[str, str]) -> TupleFields:
    """The tuple of -G. Raises UsageError."""
    return _tuple(read(values))


def _tuple(spec: Spec) -> TupleFields:
    keys = TupleFields.__struct_fields__
    return _checked(one_tuple, TupleFields, {key: value for key, value in spec.items() if key in keys})


def expectation(values: Mapping[str, str]) -> NewExpectation:
    """The expectation of -I expect. Raises UsageError."""
    spec = read(values)
    expected = {"src": values["tuple_src"], "dst": values["tuple_dst"], "proto": spec["proto"]}
    expected |= {key: spec[f"tuple_{key}"] for key in ("sport", "dport") if f"tuple_{key}" in spec}
    mask = {"src": values["src_mask"], "dst": values["dst_mask"]}
    mask |= {key: spec[f"{key}_mask"] for key in ("sport", "dport") if f"{key}_mask" in spec}
    master = {**spec, "src": values["src"], "dst": values["dst"]}
    return NewExpectation(_tuple(master), _tuple(expected), convert(mask, Mask), spec["timeout"])


def event_mask(values: Mapping[str, str]) -> tuple[EventName, ...]:
    return convert(chosen(values.get("mask", "ALL"), EVENTS), tuple[EventName, ...])
