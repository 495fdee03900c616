"""A [[filter.rule]] table -> FilterRule, and a ruleset in nft's words -> its text, checked.

What could never match is refused: an interface its hook does not know, ports without a protocol that has them,
addresses of both families.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from conntrackd_py.const import IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, LOCAL_IN, LOCAL_OUT, WITH_PORTS
from conntrackd_py.filter import iptables, nft, nftfile, reject, words
from conntrackd_py.filter.expr import Expr
from conntrackd_py.filter.match import Addresses, Names, Numbers, addresses, numbers
from conntrackd_py.filter.policy import ACTIONS, CONTINUE, HOOKS, REJECT, FilterRule
from conntrackd_py.filter.words import ExprError
from conntrackd_py.settings import spelling
from conntrackd_py.settings.errors import ABSENT, did_you_mean
from conntrackd_py.settings.schema import FAMILIES, IPV4, Filter
from conntrackd_py.settings.table import Table

FAMILY_OF_PROTO: Final = {IPPROTO_ICMP: 4, IPPROTO_ICMPV6: 6}
T = TypeVar("T")


def filter_rule(table: Table, label: str) -> FilterRule:
    """The rule the table describes. After a mistake, which is noted in the table's report, any rule."""
    rule = match_of(table, _action(table), _hooks(table), label)
    rule.reject = _reject_with(table)
    table.reject_unknown()
    _check_hooks(table, rule)
    if rule.action == REJECT and rule.reject == reject.TCP_RESET and _only(rule) != IPPROTO_TCP:
        table.wrong("reject_with", 'tcp-reset needs proto = "tcp"')
    return rule


def match_of(table: Table, action: int, hooks: tuple[int, ...], label: str) -> FilterRule:
    """What the table's match keys say; for tables with other actions than the filter's, too."""
    rule = FilterRule(
        action,
        hooks=hooks,
        in_interface=_read(table, "in_interface", _interface),
        out_interface=_read(table, "out_interface", _interface),
        source=_read(table, "source", _network),
        destination=_read(table, "destination", _network),
        proto=_read(table, "proto", _protocol),
        sport=_read(table, "sport", _ports),
        dport=_read(table, "dport", _ports),
        family=_family(table),
        ct=_read(table, "ct", expression),
        label=label,
        comment=table.string("comment", ""),
    )
    _check_ports(table, rule)
    rule.family = _one_family(table, rule)
    return rule


def expression(text: str) -> Expr:
    """A ct expression in either spelling; what begins with an option is iptables'."""
    found = iptables.parse(text) if text.strip().startswith(("-", "!")) else nft.parse(text)
    if not found.terms:
        raise ExprError("asks nothing")
    return found


def ruleset(table: Table) -> str:
    """The text of `nft`, or of the file that `file` names, beside the configuration unless absolute."""
    key = "nft"
    text = table.string("nft", "")
    name = table.string("file", "")
    if name and text:
        table.wrong("file", "cannot stand beside nft; one of them is enough")
    elif name:
        key = "file"
        source = table.sources.get("file", "")
        try:
            text = (Path(source).parent / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            table.wrong("file", str(error))
    try:
        nftfile.parse(text)
    except ExprError as error:
        table.report.add(f"{table.path}.{key}", ABSENT, _why(error), table.sources.get(key, ""))
        return ""
    return text


def reject_unvisited(table: Table, tables: list[Table], settings: Filter) -> None:
    """Without steering.local, packets from and to the router itself are never seen: a rule for them is a mistake."""
    why = "is for the router's own packets and needs steering.local = true"
    for key in ("default_in", "default_out"):
        if getattr(settings, key) != "accept":
            table.wrong(key, why)
    for one, rule in zip(tables, settings.rule, strict=True):
        if LOCAL_IN in rule.hooks or LOCAL_OUT in rule.hooks:
            one.wrong("hook" if "hook" in one.data else "hooks", why)
    if any(chain.hook in (LOCAL_IN, LOCAL_OUT) for chain in nftfile.parse(settings.nft)):
        table.report.add("filter.file" if settings.file else "filter.nft", ABSENT, f"a chain {why}", "")


def _why(error: ExprError) -> str:
    return error.why + (did_you_mean(error.word, error.known) if error.known and error.word else "")


def _read(table: Table, key: str, reader: Callable[[str], T]) -> T | None:
    """What a reader makes of the value; a mistake is noted and counts as absent."""
    value = table.value(key)
    if value is ABSENT:
        return None
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else table.string(key, "")
    if not text:
        if isinstance(value, str):
            table.wrong(key, "must not be empty")
        return None
    try:
        return reader(text)
    except ExprError as error:
        table.wrong(key, _why(error))
    except ValueError as error:
        table.wrong(key, str(error))
    return None


def _interface(text: str) -> Names:
    name, invert = spelling.negation(text)
    if why := spelling.wrong_interface(name):
        raise ValueError(why)
    return Names([name], invert)


def _network(text: str) -> Addresses:
    text, invert = spelling.negation(text)
    network = spelling.network(text)
    return addresses([network.network_address.packed, network.broadcast_address.packed], invert)


def _protocol(text: str) -> Numbers:
    text, invert = spelling.negation(text)
    if text == "all":
        return Numbers([0, 255], invert)
    number = words.protocol("icmpv6" if text == "icmp6" else text.lower())
    return numbers([number, number], invert, 255)


def _ports(text: str) -> Numbers:
    text, invert = spelling.negation(text)
    return numbers(list(spelling.matched_ports(text)), invert, 65535)


def _action(table: Table) -> int:
    choices = tuple(name for name in ACTIONS if ACTIONS.index(name) != CONTINUE)
    if table.value("action") is ABSENT:
        table.wrong("action", f"is required: one of {', '.join(choices)}")
    return ACTIONS.index(table.choice("action", "drop", choices))


def _hooks(table: Table) -> tuple[int, ...]:
    names = table.strings("hooks", ())
    if table.value("hook") is not ABSENT:
        if names:
            table.wrong("hooks", "cannot stand beside hook; one of them is enough")
        names = (table.choice("hook", "forward", tuple(HOOKS)),)
    elif not names and table.value("hooks") in (ABSENT, []):
        table.wrong("hook", f"is required: one of {', '.join(HOOKS)}, or several of them as hooks")
    for name in names:
        if name not in HOOKS:
            table.wrong("hooks", f"must be of {', '.join(HOOKS)}{did_you_mean(name, HOOKS)}")
    return tuple(HOOKS[name] for name in names if name in HOOKS)


def _family(table: Table) -> int:
    if table.value("family") is ABSENT:
        return 0
    return 4 if table.choice("family", IPV4, FAMILIES) == IPV4 else 6


def _reject_with(table: Table) -> int:
    if table.value("reject_with") is ABSENT:
        return reject.PORT_UNREACHABLE
    if table.data.get("action") != ACTIONS[REJECT]:
        table.wrong("reject_with", 'needs action = "reject"')
    return reject.KINDS[table.choice("reject_with", "icmp-port-unreachable", tuple(reject.KINDS))]


def _check_hooks(table: Table, rule: FilterRule) -> None:
    if rule.in_interface is not None and LOCAL_OUT in rule.hooks:
        table.wrong("in_interface", "hook out knows only out_interface")
    if rule.out_interface is not None and LOCAL_IN in rule.hooks:
        table.wrong("out_interface", "hook in knows only in_interface")


def _check_ports(table: Table, rule: FilterRule) -> None:
    one = _only(rule)
    for key, ports in (("sport", rule.sport), ("dport", rule.dport)):
        if ports is not None and one not in WITH_PORTS:
            table.wrong(key, "needs proto tcp, udp, udplite, dccp or sctp")


def _only(rule: FilterRule) -> int:
    """The protocol of the rule when it is exactly one, otherwise -1."""
    proto = rule.proto
    return proto.bounds[0] if proto and not proto.invert and proto.bounds[0] == proto.bounds[-1] else -1


def _one_family(table: Table, rule: FilterRule) -> int:
    """4, 6, or 0 when nothing in the rule decides; two answers are a mistake."""
    decided = {
        "family": rule.family,
        "source": {4: 4, 16: 6}[rule.source.length] if rule.source else 0,
        "destination": {4: 4, 16: 6}[rule.destination.length] if rule.destination else 0,
        "proto": FAMILY_OF_PROTO.get(_only(rule), 0),
    }
    family, decider = 0, ""
    for key, of_key in decided.items():
        if family and of_key and of_key != family:
            table.wrong(key, f"is IPv{of_key}, but {decider} is IPv{family}")
        elif of_key and not family:
            family, decider = of_key, key
    return family
