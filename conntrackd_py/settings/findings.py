"""Warnings: what is allowed and probably not meant. Only what is certain is reported."""

from collections.abc import Iterable
from typing import Final

from conntrackd_py import const
from conntrackd_py.filter import nft_ruleset
from conntrackd_py.filter.policy import CONTINUE, HOOKS, FilterRule
from conntrackd_py.match.match import Match
from conntrackd_py.nat.interfaces import Interfaces
from conntrackd_py.nat.rules import NAT_MASQUERADE, NatRule
from conntrackd_py.nat.ruleset import Ruleset
from conntrackd_py.settings.cover import Extent, unreachable
from conntrackd_py.settings.raw_mangle import RAW_HOOKS
from conntrackd_py.settings.schema import OBSERVE, OFF, RawSpec, Settings
from conntrackd_py.settings.table import Table

TRACKED: Final = {
    "tcp": (const.IPPROTO_TCP,),
    "udp": (const.IPPROTO_UDP, const.IPPROTO_UDPLITE),
    "icmp": (const.IPPROTO_ICMP,),
    "icmpv6": (const.IPPROTO_ICMPV6,),
    "sctp": (const.IPPROTO_SCTP,),
    "gre": (const.IPPROTO_GRE,),
}  # the protocols of a tracker, by the name in its timeouts
WITH_TRACKER: Final = {number for numbers in TRACKED.values() for number in numbers}
TRACKED_BY: Final = {**TRACKED, "generic": tuple(number for number in range(256) if number not in WITH_TRACKER)}
OVER_LOOPBACK: Final = "the router's packets to its own addresses use lo, which steering.exclude_interfaces excludes"
Rules = dict[str, list[Table]]


def find_warnings(settings: Settings, rules: Rules, filter_table: Table, offload_table: Table) -> None:
    """Report the warnings in the tables. The tables of each kind are those of the rules, in the same order."""
    _offload(settings, offload_table)
    for rule, table in zip(settings.nat, rules["nat"], strict=True):
        if rule.action == NAT_MASQUERADE:
            _masquerade(rule, table)
        if rule.to_local > 0 and rule.hooks == (const.LOCAL_OUT,) and "lo" in settings.steering.exclude_interfaces:
            table.warn("destination_type", OVER_LOOPBACK)
    for spec, table in zip(settings.raw, rules["raw"], strict=True):
        _timeouts(spec, table)
        if spec.helper and settings.mode == OBSERVE:
            table.warn("helper", "has no effect in mode observe: the daemon reads copies of the headers")
    _unreachable_nat(settings.nat, rules["nat"])
    raw = [[at for at, spec in enumerate(settings.raw) if hook in spec.hooks] for hook in RAW_HOOKS.values()]
    _unreachable([spec.match for spec in settings.raw], raw, rules["raw"])
    filter_rules = settings.filter.rule
    hooks = [[at for at, rule in enumerate(filter_rules) if hook in rule.hooks] for hook in HOOKS.values()]
    _unreachable([rule.match for rule in filter_rules], hooks, rules["filter.rule"])
    for chain in nft_ruleset.parse(settings.filter.nft):
        _unreachable_nft(chain.rules, filter_table, "file" if settings.filter.file else "nft")


def _offload(settings: Settings, table: Table) -> None:
    reasons = {
        "mode observe": settings.mode == OBSERVE,
        "[[connmark]] rules": bool(settings.connmark),
        "filter rules for forwarded packets": any(chain.hook == const.FORWARD for chain in settings.filter.chains()),
        "[[raw]] rules with a zone": any(spec.zone_orig or spec.zone_reply for spec in settings.raw),
    }
    found = [reason for reason, true in reasons.items() if true]
    if settings.offload.mode != OFF and found:
        table.warn("mode", f"no connection is offloaded: {', '.join(found)}")


def _masquerade(rule: NatRule, table: Table) -> None:
    out = rule.match.out_interface
    if out is None:
        table.warn("out_interface", "MASQUERADE without it also translates packets to the inner networks")
    elif not out.invert and out.names == ["lo"]:
        table.warn("out_interface", "no packet of another host leaves by lo")


def _timeouts(spec: RawSpec, table: Table) -> None:
    for name, _ in spec.timeouts:
        tracker = name.removeprefix("nf_conntrack_").removeprefix("rfc7857_").partition("_")[0]
        if not any(spec.match.fits_protocol(number) for number in TRACKED_BY[tracker]):
            of = "other protocols" if tracker == "generic" else tracker
            table.warn("timeouts", f"{name} is for {of}, which the proto of this rule excludes")


def _unreachable_nat(rules: tuple[NatRule, ...], tables: list[Table]) -> None:
    def covered(first: int, second: int) -> bool:
        a, b = rules[first], rules[second]
        if a.to_local not in (0, b.to_local) or not extents[first].covers(extents[second]):
            return False
        return b.hairpin is None or any(
            Extent(m).covers(Extent(b.hairpin)) for m in (a.match, a.hairpin) if m is not None
        )

    extents = [Extent(rule.match) for rule in rules]
    ruleset = Ruleset(list(rules), Interfaces())
    numbers = {id(rule): at for at, rule in enumerate(rules)}
    places = [
        [numbers[id(rule)] for rule in one]
        for one in (ruleset.source_rules, ruleset.input_rules, ruleset.incoming, ruleset.own)
    ]
    for at, covering in unreachable(places, covered).items():
        if rules[at].translates(const.MANIP_DST) and rules[covering[0]].translates(const.MANIP_DST):
            why = "already translates the destination of the same connections"
            tables[at].warn("", f"duplicate: {_names(tables, covering, tables[at])} {why}")
        else:
            tables[at].warn("", f"no connection gets here: {_earlier(tables, covering, at)}")


def _unreachable(matches: list[Match], places: list[list[int]], tables: list[Table]) -> None:
    extents = [Extent(match) for match in matches]
    for at, covering in unreachable(places, lambda first, second: extents[first].covers(extents[second])).items():
        tables[at].warn("", f"no packet gets here: {_earlier(tables, covering, at)}")


def _unreachable_nft(rules: list[FilterRule], table: Table, key: str) -> None:
    def covered(first: int, second: int) -> bool:
        return rules[first].action != CONTINUE and extents[first].covers(extents[second])

    extents = [Extent(rule.match) for rule in rules]
    for at, covering in unreachable([list(range(len(rules)))], covered).items():
        why = f"no packet gets here: {rules[covering[0]].label} matches all of them first"
        table.warn(key, f"{rules[at].label}: {why}", quote=False)


def _earlier(tables: list[Table], covering: Iterable[int], at: int) -> str:
    names = _names(tables, covering, tables[at])
    return f"{names} {'match' if ' and ' in names else 'matches'} all of them first"


def _names(tables: list[Table], covering: Iterable[int], beside: Table) -> str:
    """The rules with their lines; with their files too where these differ from the file of the rule beside."""
    names = []
    for at in covering:
        finding = tables[at].finding("")
        same = finding.source == beside.finding("").source
        place = (f"line {finding.line}" if finding.line else "") if same else finding.place
        names.append(f"{finding.path} ({place})" if place else finding.path)
    return " and ".join(names)
