"""One line a rule: what it does and which packets it matches, with its family. The words are those of the file.

The lines are made from the rules in force, not from the text of the file.
"""

from collections.abc import Iterator
from itertools import chain

from conntrackd_py.engine.raw_mangle import LABEL_SET, M32, MARK_ACTIONS, MARK_SET, MarkRule
from conntrackd_py.filter import iptables_text, nft_text, reject
from conntrackd_py.filter.policy import ACTIONS, REJECT, FilterRule
from conntrackd_py.filter.policy import HOOKS as FILTER_HOOKS
from conntrackd_py.match.address import Addresses, address_text, range_text
from conntrackd_py.match.expr import Expr
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.match.match import Match
from conntrackd_py.match.numbers import Masked, Numbers
from conntrackd_py.match.words import Inexpressible, protocol_name
from conntrackd_py.nat.range import Range
from conntrackd_py.nat.rules import FILTERINGS, NAT_ACTIONS, NatRule, usual_hooks
from conntrackd_py.settings.carrier import own_ports
from conntrackd_py.settings.match import FAMILY_NAMES
from conntrackd_py.settings.raw_mangle import HOOKS
from conntrackd_py.settings.schema import RawSpec, Settings

FAMILIES = {number: name for name, number in FAMILY_NAMES.items()}


def rule_lines(settings: Settings) -> Iterator[str]:
    """The rules of each kind in the order of matching."""
    for at, spec in enumerate(settings.raw):
        hooks = "" if len(spec.hooks) > 1 else f"{_hooks(spec.hooks, HOOKS)}, "
        yield f"raw[{at}]: {_raw(spec)}: {hooks}{_match(spec.match)}"
    for at, mark in enumerate(settings.connmark):
        yield f"connmark[{at}]: {_mark(mark)}: {_hooks(mark.hooks, HOOKS)}, {_match(mark.match)}"
    for nat in settings.nat:
        hooks = "" if nat.hooks == usual_hooks(nat.action, nat.match) else f"{_hooks(nat.hooks, HOOKS)}, "
        local = {0: "", 1: ", destination_type local", -1: ", destination_type !local"}[nat.to_local]
        yield f"{nat.label}: {_nat(nat)}: {hooks}{_match(nat.match)}{local}"
        if numbers := own_ports(nat):
            yield f"{nat.label}: {numbers}"
    for rule in settings.filter.rule:
        yield f"{rule.label}: {_filter(rule)}: {_hooks(rule.hooks, FILTER_HOOKS)}, {_match(rule.match)}"


def _nat(rule: NatRule) -> str:
    to = _target(rule.to) if rule.prefix is None else range_text(rule.to.low, rule.to.high)
    if rule.targets is not None:
        to = ", ".join([f"{_target(one.to)} weight {one.weight}" for one in rule.targets.targets])
        to += " balance source" if rule.targets.by_source else " balance random"
    flags = [name for name in ("random", "persistent") if getattr(rule.to, name)]
    flags += ["hairpin"] if rule.hairpin is not None else []
    if rule.independent is not None:
        flags.append(f"mapping endpoint-independent filtering {FILTERINGS[rule.independent.filtering]}")
        flags += [name for name in ("parity", "hairpin") if getattr(rule.independent, name)]
    flags += [f"port_block {rule.port_block} blocks_per_host {rule.blocks_per_host}"] if rule.port_block else []
    flags += ["deterministic"] if rule.deterministic else []
    return " ".join([NAT_ACTIONS[rule.action], *(["to", to] if to else []), *flags])


def _target(to: Range) -> str:
    addresses = address_text(to.low) if to.low else ""
    if to.low != to.high:
        addresses += f"-{address_text(to.high)}"
    if not to.has_ports:
        return addresses
    ports = str(to.port_low) if to.port_low == to.port_high else f"{to.port_low}-{to.port_high}"
    ports += f"/{to.base}" if to.base else ""
    return f"[{addresses}]:{ports}" if ":" in addresses else f"{addresses}:{ports}"


def _filter(rule: FilterRule) -> str:
    kind = next(name for name, number in reject.KINDS.items() if number == rule.reject)
    return f"{ACTIONS[rule.action]} with {kind}" if rule.action == REJECT else ACTIONS[rule.action]


def _raw(spec: RawSpec) -> str:
    if spec.notrack:
        return "notrack"
    words = [
        f"{key} {getattr(spec, key)}"
        for key in ("zone_orig", "zone_reply", "tcp_tracker", "helper")
        if getattr(spec, key)
    ]
    return ", ".join([*words, *(f"{name} {seconds}" for name, seconds in spec.timeouts)]) or "zone 0"


def _mark(rule: MarkRule) -> str:
    action = MARK_ACTIONS[rule.action]
    if rule.action == LABEL_SET:
        return f"{action} {rule.value.bit_length() - 1}"
    value = f" {rule.value:#x}" if rule.action == MARK_SET else ""
    return f"{action}{value}" + ("" if rule.mask == M32 else f"{'/' if value else ' '}{rule.mask:#x}")


def _hooks(hooks: tuple[int, ...], names: dict[str, int]) -> str:
    return "hooks " + " ".join(name for name, number in names.items() if number in hooks)


def _match(match: Match) -> str:
    words = chain(
        _interfaces("in_interface", match.in_interface),
        _interfaces("out_interface", match.out_interface),
        _addresses("source", match.source),
        _addresses("destination", match.destination),
        _numbers("proto", match.proto),
        _numbers("sport", match.sport),
        _numbers("dport", match.dport),
        _packet_mark(match.mark),
        _ct(match.ct),
    )
    return ", ".join([f"family {FAMILIES[match.family]}", *words])


def _interfaces(key: str, found: InterfaceNames | None) -> Iterator[str]:
    if found is not None:
        yield f"{key} {'!' if found.invert else ''}{' '.join(found.names)}"


def _addresses(key: str, found: Addresses | None) -> Iterator[str]:
    if found is not None:
        bounds = found.bounds
        values = [range_text(bounds[at], bounds[at + 1]) for at in range(0, len(bounds), 2)]
        yield f"{key} {'!' if found.invert else ''}{' '.join(values)}"


def _numbers(key: str, found: Numbers | None) -> Iterator[str]:
    if found is not None:
        text = protocol_name if key == "proto" else str
        pairs = [(found.bounds[at], found.bounds[at + 1]) for at in range(0, len(found.bounds), 2)]
        values = [text(low) if low == high else f"{low}:{high}" for low, high in pairs]
        yield f"{key} {'!' if found.invert else ''}{' '.join(values)}"


def _packet_mark(found: Masked | None) -> Iterator[str]:
    if found is not None:
        yield f"mark {'!' if found.invert else ''}{found.value:#x}/{found.mask:#x}"


def _ct(found: Expr | None) -> Iterator[str]:
    if found is not None:
        try:
            yield nft_text.text(found)
        except Inexpressible:
            yield iptables_text.text(found)
