"""Builds the request to the daemon from the options. The daemon checks it again; here errors are reported early."""

from collections.abc import Callable, Mapping
from socket import ntohl
from typing import Any, Final

from conntrackd_py.cli.conntrack.options import EVENTS, ROLES, STATUSES
from conntrackd_py.cli.conntrack.parse import Parsed
from conntrackd_py.cli.conntrack.values import UsageError, chosen, duration, label_names, labels, number, protocol
from conntrackd_py.control.query import FAMILIES, STATES, FilterError, Query
from conntrackd_py.control.spec import CHANGE_KEYS, CREATE_KEYS, TUPLE_KEYS, RefusedError, one_tuple, wanted

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


def change(parsed: Parsed) -> Spec:
    """The request of -A, -I, -U, -D or -F on connections. Raises UsageError."""
    if parsed.command in "AI":
        return {"command": "create", "ct": creation(parsed.values), "exclusive": parsed.command == "I"}
    if parsed.command == "U":
        matching, changes = update(parsed.values)
        return {"command": "update", "filter": matching, "set": changes}
    return {"command": "delete" if parsed.command == "D" else "flush", "filter": filter_of(parsed.values)}


def read(values: Mapping[str, str]) -> Spec:
    """The values of all options, with the keys of control/query.py and control/spec.py. Raises UsageError."""
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


def filter_of(values: Mapping[str, str]) -> Spec:
    """The filter of -L, -D and -E, for control/query.py. Raises UsageError."""
    return _checked(Query, {key: value for key, value in read(values).items() if key not in NEVER_MATCHED})


def creation(values: Mapping[str, str]) -> Spec:
    """The connection that -I and -A create, for control/spec.py. Raises UsageError."""
    spec = {key: value for key, value in read(values).items() if key in CREATE_KEYS and value is not True}
    return _checked(wanted, spec)


def _checked(reading: Callable[[Spec], object], spec: Spec) -> Spec:
    """The spec. Raises UsageError for a malformed one; one that the daemon will refuse is sent, so that it says why."""
    try:
        reading(spec)
    except FilterError as error:
        raise UsageError(str(error)) from error
    except RefusedError:
        return spec
    return spec


def update(values: Mapping[str, str]) -> tuple[Spec, Spec]:
    """The filter and the changes of -U. Raises UsageError."""
    spec = read(values)
    changes = {key: value for key, value in spec.items() if key in CHANGE_KEYS}
    return _checked(Query, {key: value for key, value in spec.items() if key not in CHANGE_KEYS}), changes


def tuple_of(values: Mapping[str, str]) -> Spec:
    """The tuple for -G. Raises UsageError."""
    return _checked(one_tuple, {key: value for key, value in read(values).items() if key in TUPLE_KEYS})


def expectation(values: Mapping[str, str]) -> Spec:
    """The expectation that -I expect creates. Raises UsageError."""
    spec = read(values)
    expected = {"src": values["tuple_src"], "dst": values["tuple_dst"], "proto": spec["proto"]}
    expected |= {key: spec[f"tuple_{key}"] for key in ("sport", "dport") if f"tuple_{key}" in spec}
    mask = {"src": values["src_mask"], "dst": values["dst_mask"]}
    mask |= {key: spec[f"{key}_mask"] for key in ("sport", "dport") if f"{key}_mask" in spec}
    master = {key: value for key, value in spec.items() if key in TUPLE_KEYS}
    master |= {"src": values["src"], "dst": values["dst"]}
    tuples = {"master": _checked(one_tuple, master), "tuple": _checked(one_tuple, expected)}
    return {**tuples, "mask": mask, "timeout": spec["timeout"]}


def event_mask(values: Mapping[str, str]) -> list[str]:
    return chosen(values.get("mask", "ALL"), EVENTS)
