"""The keys of carrier-grade NAT: `port_block`, `blocks_per_host`, `deterministic`.

Two rules with one outer port must give it to the same host: they have the same blocks or slices.
"""

from typing import Final

from conntrackd_py.const import POST_ROUTING
from conntrackd_py.nat.carrier.block_space import MOST_ADDRESSES
from conntrackd_py.nat.carrier.deterministic import shape_of
from conntrackd_py.nat.rules import NAT_ACTIONS, NAT_MASQUERADE, NAT_SNAT, NatRule
from conntrackd_py.nat.usage.pool import UNPRIVILEGED
from conntrackd_py.settings.errors import ABSENT
from conntrackd_py.settings.table import Table

LEAST_BLOCK: Final = 16  # ports
MOST_BLOCK: Final = 32_768
BLOCKS_PER_HOST: Final = 4
MOST_BLOCKS_PER_HOST: Final = 64
LEAST_SLICE: Final = 16  # ports; a rule with less is refused
SMALL_SLICE: Final = 64  # ports; a rule with less gets a warning


def read_keys(table: Table, rule: NatRule) -> None:
    """Read the keys into the rule."""
    if table.value("port_block") is not ABSENT:
        rule.port_block = table.integer("port_block", LEAST_BLOCK, LEAST_BLOCK, MOST_BLOCK)
        rule.blocks_per_host = table.integer("blocks_per_host", BLOCKS_PER_HOST, 1, MOST_BLOCKS_PER_HOST)
    elif table.value("blocks_per_host") is not ABSENT:
        table.wrong("blocks_per_host", "needs port_block")
    rule.deterministic = table.boolean("deterministic", False)


def has_own_ports(rule: NatRule) -> bool:
    """Whether the rule gives each inside address ports of its own."""
    return rule.port_block > 0 or rule.deterministic


def check_keys(table: Table, rule: NatRule) -> None:
    """Report what the rule lacks; set its usual ports."""
    if not has_own_ports(rule):
        return
    key = "port_block" if rule.port_block else "deterministic"
    errors = len(table.report.errors)
    if not rule.to.has_ports:
        rule.to.port_low, rule.to.port_high = UNPRIVILEGED
    if rule.port_block and rule.deterministic:
        table.wrong("deterministic", "a rule with port_block has no slices")
    elif rule.action not in ((NAT_SNAT, NAT_MASQUERADE) if rule.port_block else (NAT_SNAT,)):
        table.wrong(key, f"{NAT_ACTIONS[rule.action]} has none")
    elif rule.hooks != (POST_ROUTING,):
        table.wrong("hooks", f"{key} is for postrouting")
    elif rule.action == NAT_SNAT and not rule.to.low:
        table.wrong("to", f"{key} needs an outer address")
    if len(table.report.errors) == errors:
        _check_slices(table, rule) if rule.deterministic else _check_blocks(table, rule)


def _check_blocks(table: Table, rule: NatRule) -> None:
    if rule.to.port_high - rule.to.port_low + 1 < rule.port_block:
        table.wrong("port_block", f"is more than the ports of `to`: {rule.to.port_low}-{rule.to.port_high}")
    if _addresses(rule.to.low, rule.to.high) > MOST_ADDRESSES:
        table.wrong("to", f"has more than {MOST_ADDRESSES} addresses, the most with port_block")


def _check_slices(table: Table, rule: NatRule) -> None:
    source = rule.match.source
    if source is None or source.invert or len(source.bounds) != 2:
        table.wrong("source", "deterministic needs one network here")
        return
    if source.length != len(rule.to.low):
        return  # of two families: reported elsewhere
    ports, sharing = shape_of(rule)
    text = f"deterministic: {sharing} inside addresses share an outer one, with {ports} ports each"
    if ports < LEAST_SLICE:
        table.wrong("to", f"{text}; at least {LEAST_SLICE}")
    elif ports < SMALL_SLICE:
        table.warn("to", text)


def reject_overlaps(tables: list[Table], rules: tuple[NatRule, ...]) -> None:
    """Report rules that would give an outer port to different hosts; a warning if the other one has no blocks."""
    for at, (table, rule) in enumerate(zip(tables, rules, strict=True)):
        for other_table, other in zip(tables[:at], rules[:at], strict=True):
            if not has_own_ports(rule) and not has_own_ports(other):
                continue
            if not _meet(rule, other) or _form(rule) == _form(other):
                continue
            path = other_table.path
            if has_own_ports(rule) and has_own_ports(other):
                table.wrong("to", f"{path} divides the same outer ports in another way")
            else:
                table.warn("to", f"translates to outer ports that {path} has too, past the hosts that own them")


def _meet(rule: NatRule, other: NatRule) -> bool:
    """Whether both have an outer port in common; False if that is not certain."""
    if other.action not in (NAT_SNAT, NAT_MASQUERADE) or rule.action != other.action:
        return False
    if rule.action == NAT_MASQUERADE:
        out, its_out = rule.match.out_interface, other.match.out_interface
        if out is None or its_out is None or not set(out.names) & set(its_out.names) or out.invert != its_out.invert:
            return False
    to, its = rule.to, other.to
    if rule.action == NAT_SNAT and not (len(to.low) == len(its.low) and to.low <= its.high and its.low <= to.high):
        return False
    (low, high), (first, last) = _ports(rule), _ports(other)
    return low <= last and first <= high


def _ports(rule: NatRule) -> tuple[int, int]:
    return (rule.to.port_low, rule.to.port_high) if rule.to.has_ports else UNPRIVILEGED


def _form(rule: NatRule) -> tuple[object, ...]:
    """What says which host has an outer port."""
    source = rule.match.source.bounds if rule.deterministic and rule.match.source is not None else None
    return rule.to.low, rule.to.high, _ports(rule), rule.port_block, rule.deterministic, source


def _addresses(low: bytes, high: bytes) -> int:
    return int.from_bytes(high, "big") - int.from_bytes(low, "big") + 1


def own_ports(rule: NatRule) -> str:
    """The blocks or slices of a rule in words; empty if it has none."""
    addresses = _addresses(rule.to.low, rule.to.high)
    if rule.deterministic:
        ports, sharing = shape_of(rule)
        return f"{ports:,} ports for each inside address, {sharing:,} inside addresses on each outer one"
    if not rule.port_block:
        return ""
    blocks = (rule.to.port_high - rule.to.port_low + 1) // rule.port_block
    each, total = rule.blocks_per_host, blocks * addresses
    text = f"{blocks:,} blocks of {rule.port_block:,} ports on each outer address"
    text += f", {total:,} on all" if addresses > 1 else ""
    return f"{text}: for {total:,} hosts with 1 block each" + (f", {total // each:,} with {each}" if each > 1 else "")
