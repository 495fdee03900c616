"""A [[filter.rule]] table -> FilterRule, and the checked text of a ruleset in nft's syntax.

Refused: an interface that is not known at the rule's hook, and what settings.match refuses.
"""

from pathlib import Path

from conntrackd_py.const import IPPROTO_TCP, LOCAL_IN, LOCAL_OUT
from conntrackd_py.filter import nft_ruleset, reject
from conntrackd_py.filter.policy import ACTIONS, CONTINUE, HOOKS, REJECT, FilterRule
from conntrackd_py.match.words import ParseError
from conntrackd_py.settings.errors import ABSENT
from conntrackd_py.settings.match import ct_of, hint, hooks_of, match_of
from conntrackd_py.settings.schema import Filter
from conntrackd_py.settings.table import Table


def filter_rule(table: Table) -> FilterRule:
    """The rule of the table. Mistakes are reported in the table; the rule is then undefined."""
    rule = FilterRule(
        _action(table),
        match_of(table),
        hooks=_hooks(table),
        reject=_reject_with(table),
        label=table.path,
        comment=table.string("comment", ""),
    )
    rule.match.ct = ct_of(table)
    table.reject_unknown()
    _check_hooks(table, rule)
    if rule.action == REJECT and rule.reject == reject.TCP_RESET and rule.match.only_protocol() != IPPROTO_TCP:
        table.wrong("reject_with", 'tcp-reset needs proto = "tcp"')
    return rule


def ruleset(table: Table) -> str:
    """The text of `nft` or of the file `file`, relative to the configuration's directory; checked."""
    key = "nft"
    text = table.string("nft", "")
    name = table.string("file", "")
    if name and text:
        table.wrong("file", "cannot be given together with nft")
    elif name:
        key = "file"
        source = table.sources.get("file", "")
        try:
            text = (Path(source).parent / name).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            table.wrong("file", str(error))
    try:
        nft_ruleset.parse(text)
    except ParseError as error:
        table.wrong(key, hint(error), quote=False)
        return ""
    return text


def reject_unvisited(table: Table, tables: list[Table], settings: Filter) -> None:
    """Without steering.local no packet from or to the router is queued: a rule for them is a mistake."""
    why = "is for the router's own packets and needs steering.local = true"
    for key in ("default_in", "default_out"):
        if getattr(settings, key) != "accept":
            table.wrong(key, why)
    for one, rule in zip(tables, settings.rule, strict=True):
        if LOCAL_IN in rule.hooks or LOCAL_OUT in rule.hooks:
            one.wrong("hook" if "hook" in one.data else "hooks", why)
    if any(chain.hook in (LOCAL_IN, LOCAL_OUT) for chain in nft_ruleset.parse(settings.nft)):
        table.wrong("file" if settings.file else "nft", f"a chain {why}", quote=False)


def _action(table: Table) -> int:
    choices = tuple(name for name in ACTIONS if ACTIONS.index(name) != CONTINUE)
    if table.value("action") is ABSENT:
        table.wrong("action", f"is required: one of {', '.join(choices)}")
    return ACTIONS.index(table.choice("action", "drop", choices))


def _hooks(table: Table) -> tuple[int, ...]:
    if table.value("hook") is not ABSENT:
        if table.strings("hooks", ()):
            table.wrong("hooks", "cannot be given together with hook")
        return (HOOKS[table.choice("hook", "forward", tuple(HOOKS))],)
    if table.value("hooks") in (ABSENT, []):
        table.wrong("hook", f"is required: one of {', '.join(HOOKS)}, or several of them as hooks")
    return hooks_of(table, (), HOOKS)


def _reject_with(table: Table) -> int:
    if table.value("reject_with") is ABSENT:
        return reject.PORT_UNREACHABLE
    if table.data.get("action") != ACTIONS[REJECT]:
        table.wrong("reject_with", 'needs action = "reject"')
    return reject.KINDS[table.choice("reject_with", "icmp-port-unreachable", tuple(reject.KINDS))]


def _check_hooks(table: Table, rule: FilterRule) -> None:
    if rule.match.in_interface is not None and LOCAL_OUT in rule.hooks:
        table.wrong("in_interface", "is not known at hook out")
    if rule.match.out_interface is not None and LOCAL_IN in rule.hooks:
        table.wrong("out_interface", "is not known at hook in")
