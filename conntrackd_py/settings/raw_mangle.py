"""[[raw]] and [[connmark]] tables -> RawSpec and MarkRule.

The keys are those of iptables: `-j CT --notrack --zone --zone-orig --zone-reply --helper`, `-j CONNMARK --set-xmark
--save-mark --restore-mark`. `timeouts` is a timeout policy: other tunables for the new connections that match the rule.
"""

from dataclasses import fields
from typing import Final

from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import FORWARD, LOCAL_IN, LOCAL_OUT, POST_ROUTING, PRE_ROUTING
from conntrackd_py.engine.raw_mangle import LABEL_SET, M32, MARK_ACTIONS, MARK_SET, MarkRule
from conntrackd_py.match.match import Match
from conntrackd_py.match.words import protocol_name
from conntrackd_py.settings import helpers
from conntrackd_py.settings.errors import ABSENT, did_you_mean
from conntrackd_py.settings.match import ct_of, hooks_of, mark_of, match_of
from conntrackd_py.settings.schema import TCP_TRACKERS, RawSpec
from conntrackd_py.settings.table import Table

HOOKS: Final = {
    "prerouting": PRE_ROUTING,
    "input": LOCAL_IN,
    "forward": FORWARD,
    "output": LOCAL_OUT,
    "postrouting": POST_ROUTING,
}
RAW_HOOKS: Final = {"prerouting": PRE_ROUTING, "output": LOCAL_OUT}
# of trackers, not that of helper sip
TIMEOUTS: Final = tuple(
    field.name for field in fields(Tunables) if "timeout" in field.name and "_sip_" not in field.name
)


def raw_rule(table: Table) -> RawSpec:
    match = match_of(table)
    match.mark = mark_of(table)
    table.string("comment", "")
    if table.value("ct") is not ABSENT:
        table.wrong("ct", "a raw rule matches before the packet has a connection")
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
        _helper(table, match),
        hooks_of(table, ("prerouting", "output"), RAW_HOOKS),
    )
    asked = [
        key for key in ("zone", "zone_orig", "zone_reply", "tcp_tracker", "timeouts", "helper") if key in table.data
    ]
    if notrack and asked:
        table.wrong(asked[0], "has no effect together with notrack")
    elif not notrack and not asked:
        table.wrong("", "does nothing: give notrack, zone, zone_orig, zone_reply, tcp_tracker, timeouts or helper")
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
            table.wrong("timeouts", f"unknown timeout {name}{did_you_mean(name, TIMEOUTS)}")
        elif not isinstance(seconds, int) or isinstance(seconds, bool) or not 1 <= seconds < 1 << 31:
            table.wrong("timeouts", f"{name} must be a number of seconds, at least 1")
        else:
            found.append((name, seconds))
    return tuple(found)


def _helper(table: Table, match: Match) -> str:
    name = table.string("helper", "")
    if not name:
        return ""
    try:
        helper = helpers.find(name)
    except helpers.HelperError as error:
        table.wrong("helper", f"cannot be used: {error}")
        return ""
    if helper is None:
        known = helpers.names()
        table.wrong("helper", f"must be one of {', '.join(known)}{did_you_mean(name, known)}")
        return ""
    served = [number for number in (helper.protonum, helper.other_protonum) if number]
    if match.proto is None or match.proto.invert or match.proto.bounds not in [[number, number] for number in served]:
        table.wrong("helper", "needs " + " or ".join([f'proto = "{protocol_name(number)}"' for number in served]))
    return name


def mark_rule(table: Table) -> MarkRule:
    match = match_of(table)
    match.mark, match.ct = mark_of(table), ct_of(table)
    table.string("comment", "")
    hooks = hooks_of(table, ("prerouting", "output"), HOOKS)
    given = [action for action in MARK_ACTIONS if table.value(action) is not ABSENT]
    table.reject_unknown()
    if len(given) != 1:
        table.wrong(given[1] if given else "", f"exactly one of {', '.join(MARK_ACTIONS)} is required")
        return MarkRule(match, MARK_SET)
    action = MARK_ACTIONS.index(given[0])
    if action == LABEL_SET:
        return MarkRule(match, action, 1 << table.integer("label", 0, 0, 127), hooks=hooks)
    if action == MARK_SET:
        return MarkRule(match, action, *_value_and_mask(table), hooks)
    return MarkRule(match, action, 0, _mask(table, given[0]), hooks)


def _value_and_mask(table: Table) -> tuple[int, int]:
    """`0x10/0xff` or a number: clear the bits of the mask, then XOR the value."""
    value = table.value("set")
    if isinstance(value, int) and not isinstance(value, bool):
        return table.integer("set", 0, 0, M32), M32
    text, _, mask = table.string("set", "0").partition("/")
    return _number(table, "set", text), _number(table, "set", mask) if mask else M32


def _mask(table: Table, key: str) -> int:
    """`true` for all bits, or a mask."""
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
    table.wrong(key, "must be a 32-bit number, or value/mask")
    return 0
