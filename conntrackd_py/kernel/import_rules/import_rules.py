"""The text of a firewall -> TOML with its NAT and raw rules, and the list of what could not be translated.

Each TOML table is loaded as the daemon would load it, alone. One that is refused counts as not translated.
"""

import json
import tomllib
from dataclasses import dataclass, field
from typing import Final, final

from conntrackd_py.kernel.import_rules import iptables_rules, nft_rules
from conntrackd_py.kernel.import_rules.conditions import ADDRESSES, ORDER, Conditions, Value, families
from conntrackd_py.kernel.import_rules.walk import NAT, RAW, Entry, Found, rules
from conntrackd_py.kernel.translate.translate import FORMATS, NFT
from conntrackd_py.settings.errors import ConfigError
from conntrackd_py.settings.load import parse

USUAL_HOOKS: Final = {
    "SNAT": (("", "postrouting"),),
    "MASQUERADE": (("", "postrouting"),),
    "REDIRECT": (("", "prerouting"),),
    "DNAT": (("in_interface", "prerouting"),),
    "NETMAP": (("in_interface", "prerouting"), ("out_interface", "postrouting")),
    "ACCEPT": (("in_interface", "prerouting"), ("out_interface", "postrouting")),
    "": (("in_interface", "prerouting"),),
}  # action: the key that a rule must have for this hook to be its only one


@dataclass
class Imported:
    """rules: number of TOML tables. others: tables of iptables that were not read."""

    text: str = ""
    rules: int = 0
    problems: list[tuple[int, str, str]] = field(default_factory=list)  # line, reason, rule
    others: set[str] = field(default_factory=set)


def import_rules(text: str, form: str, name: str) -> Imported:
    """form: of FORMATS. name: of the text, for comments. Raises UnusableError."""
    bases, strays, others = nft_rules.read(text) if form == NFT else iptables_rules.read(text, FORMATS[form])
    writer = _Writer(name)
    for stray in strays:
        writer.problem(stray, stray.problem)
    for kind in (RAW, NAT):
        for found in rules([base for base in bases if base.kind == kind], writer.problem):
            writer.write(found)
    return Imported("\n".join(writer.tables), len(writer.tables), sorted(set(writer.problems)), others)


@final
class _Writer:
    def __init__(self, name: str) -> None:
        self.name = _printable(name)
        self.tables: list[str] = []
        self.problems: list[tuple[int, str, str]] = []

    def problem(self, entry: Entry, why: str) -> None:
        self.problems.append((entry.line, why, entry.text))

    def write(self, found: Found) -> None:
        kind = found.base.kind
        body = _body(found)
        try:
            parse({kind: [tomllib.loads(body)]}, self.name)
        except ConfigError as error:
            for finding in error.findings:
                key = finding.path.removeprefix(f"{kind}[0]").lstrip(".")
                self.problem(found.entry, f"{key} {finding.why}".lstrip())
            return
        except tomllib.TOMLDecodeError:
            self.problem(found.entry, "has a character that TOML does not allow")
            return
        comment = "".join(
            f"# {self.name}:{one.line}: {_printable(one.text)}\n" for one in (*found.through, found.entry)
        )
        self.tables.append(f"{comment}[[{kind}]]\n{body}")


def _body(found: Found) -> str:
    entry, when = found.entry, dict(found.when)
    lines = []
    if found.base.kind == NAT:
        lines.append(f'action = "{found.action}"')
    if hooks := _hooks(found, when):
        lines.append(f'hooks = ["{hooks}"]')
    if family := _family(found, when):
        lines.append(f'family = "{family}"')
    keys = sorted(when, key=lambda key: ORDER.index(key) if key in ORDER else len(ORDER))
    lines += [f"{key} = {_value(key, when[key])}" for key in keys if key != "family"]
    own = entry.keys if found.action in ("", entry.action) else {}
    lines += [f"{key} = {_literal(value)}" for key, value in own.items()]
    return "\n".join(lines) + "\n"


def _hooks(found: Found, when: Conditions) -> str:
    """The hook, if the rule would also apply elsewhere, or not there, without naming it."""
    action = found.action if found.base.kind == NAT else ""
    for key, hook in USUAL_HOOKS.get(action, ()):
        if hook == found.base.hook and (not key or key in when):
            return ""
    return found.base.hook


def _family(found: Found, when: Conditions) -> str:
    """The family, if neither an address nor the default says it."""
    to = str(found.entry.keys.get("to", "")) if found.action != "ACCEPT" else ""
    if any(key in when for key in ADDRESSES) or (to and (to[0] == "[" or "." in to or to.count(":") > 1)):
        return ""
    family = next(iter(families(when)), "any")
    default = "ipv4" if found.base.kind == NAT else "any"
    return "" if family == default else family


def _value(key: str, value: Value) -> str:
    mark = "!" if value.invert else ""
    items = [int(item) if item.isdecimal() and not mark and key != "mark" else f"{mark}{item}" for item in value.items]
    return _literal(items if len(items) > 1 else items[0])


def _literal(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _printable(text: str) -> str:
    """Without control characters, which a comment of TOML must not have."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
