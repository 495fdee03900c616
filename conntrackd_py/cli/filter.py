"""What the options say, as the filter of a request. The daemon filters; here only mistakes are told, early."""

from socket import getprotobyname
from typing import Final

from conntrackd_py.cli.conntrack_options import UsageError
from conntrackd_py.const import PROTO_NUMBERS, STATUS_NAMES
from conntrackd_py.service.query import FAMILIES, ZONES, FilterError, Query

TEXTS: Final = ("src", "dst", "reply_src", "reply_dst")
NUMBERS: Final = ("sport", "dport", "reply_sport", "reply_dport", "icmp_type", "icmp_code", "icmp_id", *ZONES)
NAT: Final = ("src_nat", "dst_nat", "any_nat")
EVENTS: Final = ("ALL", "NEW", "UPDATES", "DESTROY")


def filter_of(values: dict[str, str]) -> dict[str, object]:
    """The filter for service.query. Raises UsageError."""
    spec: dict[str, object] = {key: values[key] for key in TEXTS if key in values}
    if "proto" in values:
        spec["proto"] = protocol(values["proto"])
    if "family" in values:
        if values["family"] not in FAMILIES:
            raise UsageError(f"`{values['family']}' unsupported protocol")
        spec["family"] = values["family"]
    for key in NUMBERS:
        if key in values:
            spec[key] = number(values[key])
    if "state" in values:
        spec["state"] = "SYN_SENT2" if values["state"] == "LISTEN" else values["state"]
    if "status" in values:
        spec["status"] = chosen(values["status"], STATUS_NAMES)
    if "mark" in values:
        mark, slash, mask = values["mark"].partition("/")
        spec["mark"] = number(mark)
        if slash:
            spec["mark_mask"] = number(mask)
    spec |= {key: values[key] or True for key in NAT if key in values}
    if "any_nat" in spec and ("src_nat" in spec or "dst_nat" in spec):
        raise UsageError("`--any-nat' already means `--src-nat' and `--dst-nat'")
    return checked(spec)


def checked(spec: dict[str, object]) -> dict[str, object]:
    try:
        Query(spec)
    except FilterError as error:
        raise UsageError(str(error)) from error
    return spec


def event_mask(values: dict[str, str]) -> list[str]:
    return chosen(values.get("mask", "ALL"), EVENTS)


def chosen(text: str, allowed: tuple[str, ...]) -> list[str]:
    """A comma-separated choice, in any case of letters."""
    names = text.upper().split(",")
    for name in names:
        if name not in allowed:
            raise UsageError(f"Bad parameter `{text}'")
    return names


def protocol(text: str) -> int:
    """A protocol's number, by name or number."""
    name = text.lower()
    if name in PROTO_NUMBERS:
        return PROTO_NUMBERS[name]
    if text.isascii() and text.isdigit() and len(text) <= 3 and int(text) <= 255:
        return int(text)
    try:
        return getprotobyname(name)
    except (OSError, ValueError) as error:
        raise UsageError(f"`{text}' unsupported protocol") from error


def number(text: str) -> int:
    """Decimal, 0x hexadecimal or 0 octal, as strtoul reads them."""
    try:
        return int(text, 8 if len(text) > 1 and text.startswith("0") and text.isdigit() else 0)
    except ValueError as error:
        raise UsageError(f"`{text}' is not a number") from error
