"""[[raw]] and [[connmark]] tables -> RawSpec and MarkSpec: what is said of a packet before and after it is tracked.

The vocabulary is iptables': `-j CT --notrack --zone --zone-orig --zone-reply`, `-j CONNMARK --set-xmark --save-mark
--restore-mark`. `timeouts` is a timeout policy: tunables that differ for the new connections a rule matches.
"""

from dataclasses import fields
from typing import Final

from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import FORWARD, LOCAL_IN, LOCAL_OUT, POST_ROUTING, PRE_ROUTING
from conntrackd_py.filter.policy import CONTINUE
from conntrackd_py.settings.errors import ABSENT, did_you_mean
from conntrackd_py.settings.filterrule import match_of
from conntrackd_py.settings.schema import TCP_TRACKERS, MarkSpec, RawSpec
from conntrackd_py.settings.table import Table

M32: Final = 0xFFFFFFFF
RAW_HOOKS: Final = (PRE_ROUTING, LOCAL_OUT)
HOOKS: Final = {
    "prerouting": PRE_ROUTING,
    "input": LOCAL_IN,
    "forward": FORWARD,
    "output": LOCAL_OUT,
    "postrouting": POST_ROUTING,
}
ACTIONS: Final = ("set", "save", "restore", "label")
TIMEOUTS: Final = tuple(field.name for field in fields(Tunables) if "timeout" in field.name)


def raw_rule(table: Table, label: str) -> RawSpec:
    match = match_of(table, CONTINUE, RAW_HOOKS, label)
    if match.ct is not None:
        table.wrong("ct", "nothing is known of a connection before the packet is tracked")
    if match.out_interface is not None:
        table.wrong("out_interface", "is not known before routing")
    notrack = table.boolean("notrack", False)
    zone = table.integer("zone", 0, 0, 0xFFFF)
    spec = RawSpec(
        match,
        notrack,
        table.integer("zone_orig", zone, 0, 0xFFFF),
        table.integer("zone_reply", zone, 0, 0xFFFF),
        table.choice("tcp_tracker", "", ("", *TCP_TRACKERS)),
        _timeouts(table),
    )
    asked = [key for key in ("zone", "zone_orig", "zone_reply", "tcp_tracker", "timeouts") if key in table.data]
    if notrack and asked:
        table.wrong(asked[0], "means nothing for packets that are not tracked")
    elif not notrack and not asked:
        table.wrong("", "does nothing: give notrack, zone, zone_orig, zone_reply, tcp_tracker or timeouts")
    table.reject_unknown()
    return spec


def _timeouts(table: Table) -> tuple[tuple[str, int], ...]:
    value = table.value("timeouts")
    if value is ABSENT:
        return ()
    if not isinstance(value, dict):
        table.wrong("timeouts", "must be a table such as { nf_conntrack_udp_timeout = 5 }")
        return ()
    found = []
    for name, seconds in value.items():
        if name not in TIMEOUTS:
            table.wrong("timeouts", f"knows no {name}{did_you_mean(name, TIMEOUTS)}")
        elif not isinstance(seconds, int) or isinstance(seconds, bool) or not 1 <= seconds < 1 << 31:
            table.wrong("timeouts", f"{name} must be a number of seconds, at least 1")
        else:
            found.append((name, seconds))
    return tuple(found)


def mark_rule(table: Table, label: str) -> MarkSpec:
    match = match_of(table, CONTINUE, _hooks(table), label)
    asked = [action for action in ACTIONS if table.value(action) is not ABSENT]
    table.reject_unknown()
    if len(asked) != 1:
        table.wrong(asked[1] if asked else "", f"one of {', '.join(ACTIONS)} is wanted, and only one")
        return MarkSpec(match, "set")
    action = asked[0]
    if action == "label":
        return MarkSpec(match, action, 1 << table.integer("label", 0, 0, 127))
    if action == "set":
        return MarkSpec(match, action, *_value_and_mask(table))
    return MarkSpec(match, action, mask=_mask(table, action))


def _hooks(table: Table) -> tuple[int, ...]:
    names = table.strings("hooks", ("prerouting", "output"))
    for name in names:
        if name not in HOOKS:
            table.wrong("hooks", f"must be of {', '.join(HOOKS)}{did_you_mean(name, tuple(HOOKS))}")
    return tuple(HOOKS[name] for name in names if name in HOOKS)


def _value_and_mask(table: Table) -> tuple[int, int]:
    """`0x10/0xff` or a number: the bits of the mask are cleared, then those of the value toggled."""
    value = table.value("set")
    if isinstance(value, int) and not isinstance(value, bool):
        return table.integer("set", 0, 0, M32), M32
    text, _, mask = table.string("set", "0").partition("/")
    return _number(table, "set", text), _number(table, "set", mask) if mask else M32


def _mask(table: Table, key: str) -> int:
    """`save = true` for all bits, or the bits that count."""
    value = table.value(key)
    if value is True:
        return M32
    if isinstance(value, int) and not isinstance(value, bool):
        return table.integer(key, M32, 1, M32)
    return _number(table, key, table.string(key, ""))


def _number(table: Table, key: str, text: str) -> int:
    try:
        number = int(text, 0)
    except ValueError:
        number = -1
    if 0 <= number <= M32:
        return number
    table.wrong(key, "must be a number of 32 bits, or two with a slash between")
    return 0
