"""`nft -j list ruleset` -> chains. Statements are known by the keys of their JSON objects (libnftables-json(5))."""

import json
import re
from typing import Any, Final

from conntrackd_py.kernel.doctor.ruleset import (
    ACCEPT,
    ALL_BITS,
    CT_WRITE,
    DROP,
    NOTRACK,
    OFFLOAD,
    QUEUE,
    RETURN,
    TEMPLATE,
    TPROXY,
    TRANSLATE,
    Chain,
    Rule,
    tolerant,
)
from conntrackd_py.kernel.steering.nft_rules import TABLE

FAMILIES: Final = {"ip", "ip6", "inet"}
INTERFACES: Final = {"iifname", "oifname", "iif", "oif"}
PLAIN_SETS: Final = {"==", "in"}
DOES: Final = {
    "accept": ACCEPT,
    "return": RETURN,
    "drop": DROP,
    "reject": DROP,
    "queue": QUEUE,
    "snat": TRANSLATE,
    "masquerade": TRANSLATE,
    "dnat": TRANSLATE,
    "redirect": TRANSLATE,
    "notrack": NOTRACK,
    "flow": OFFLOAD,
    "tproxy": TPROXY,
    "ct helper": CT_WRITE,
    "ct timeout": CT_WRITE,
    "ct expectation": CT_WRITE,
}
HANDLE: Final = re.compile(r"^\s*(.*?) # handle (\d+)$")


def read(text: str, listing: str, skip: set[tuple[str, str]]) -> tuple[list[Chain], int]:
    """(chains, number of rules not understood). listing: the text of `nft -a list ruleset`.

    skip: (family, table) of tables that iptables shows. The daemon's own tables are not read.
    """
    reader = _Reader(texts(listing), skip)
    try:
        items = json.loads(text)["nftables"] if text else []
    except (LookupError, TypeError, ValueError, RecursionError):
        return [], 1
    objects = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    unread = tolerant([item for item in objects if "chain" in item], reader.chain)
    unread += tolerant([item for item in objects if "rule" in item], reader.rule)
    return list(reader.chains.values()), unread


def texts(listing: str) -> dict[tuple[str, str, int], str]:
    """The text of every rule by (family, table, handle)."""
    found: dict[tuple[str, str, int], str] = {}
    table = ("", "")
    for line in listing.splitlines():
        words = line.split()
        if line.startswith("table ") and len(words) > 2:
            table = (words[1], words[2])
        elif match := HANDLE.match(line):
            found[(*table, int(match[2]))] = match[1]
    return found


class _Reader:
    def __init__(self, texts: dict[tuple[str, str, int], str], skip: set[tuple[str, str]]) -> None:
        self.texts = texts
        self.skip = skip
        self.chains: dict[tuple[str, str, str], Chain] = {}

    def chain(self, item: Any) -> None:
        data = item["chain"]
        family, table, name = str(data["family"]), str(data["table"]), str(data["name"])
        if family in FAMILIES and (family, table) not in self.skip and not table.startswith(TABLE):
            found = Chain("nft", family, table, name)
            if "hook" in data:
                found.hook, found.priority = str(data["hook"]), int(data["prio"])
                found.policy = str(data.get("policy", ACCEPT))
                found.nat = data.get("type") == "nat"
            self.chains[family, table, name] = found

    def rule(self, item: Any) -> None:
        data = item["rule"]
        chain = self.chains.get((data["family"], data["table"], data["chain"]))
        if chain is not None:
            handle = int(data["handle"])
            text = self.texts.get((chain.family, chain.table, handle), "")
            chain.rules.append(rule(data["expr"], f"{text} # handle {handle}".strip()))


def rule(statements: Any, text: str) -> Rule:
    """The rule of these statements. Raises TypeError, ValueError or LookupError."""
    found = Rule(text)
    for statement in statements:
        ((name, body),) = statement.items()
        if name == "xt":
            raise ValueError("an extension of iptables")
        _statement(found, name, body)
    return found


def _statement(found: Rule, name: str, body: Any) -> None:
    if name == "match":
        _match(found, body)
    elif name == "vmap":
        _vmap(found, body)
    elif name == "mangle":
        _set(found, body["key"], body["value"])
    elif name in ("jump", "goto"):
        found.jumps.add(str(body["target"]))
    elif name == "ct count":
        found.ct = found.narrow = True
    elif name in DOES:
        found.does.add(DOES[name])
        if name == "queue":
            found.queues = _queues(body)
    elif name in ("limit", "quota"):
        found.narrow = True


def _queues(body: Any) -> range:
    number = (body or {}).get("num", 0)
    low, high = number["range"] if isinstance(number, dict) else (number, number)
    return range(int(low), int(high) + 1)


def _match(found: Rule, body: Any) -> None:
    left, right, op = body["left"], body["right"], body["op"]
    found.narrow = found.narrow or not (isinstance(left, dict) and (left.get("meta") or {}).get("key") in INTERFACES)
    key = _ct_key(left)
    found.ct = found.ct or bool(key)
    if key == "state":
        found.states = _names(right)
        found.inverted = op == "!="
    elif key == "status":
        found.statuses = _names(right)
    found.compares_mark |= _compared(left)
    if op in PLAIN_SETS and isinstance(left, dict):
        _plain(found, left, right)


def _plain(found: Rule, left: Any, right: Any) -> None:
    """Fields that decide which packets a rule matches, where they have one value."""
    name = (left.get("meta") or {}).get("key") or (left.get("payload") or {}).get("field")
    if name in ("iifname", "iif") and isinstance(right, str):
        found.in_interface = right.replace("*", "+")
    elif name in ("oifname", "oif") and isinstance(right, str):
        found.out_interface = right.replace("*", "+")
    elif name == "saddr" and isinstance(right, str):
        found.source = right
    elif name == "saddr" and "prefix" in right:
        found.source = f"{right['prefix']['addr']}/{right['prefix']['len']}"
    elif name == "dport":
        found.proto = str(left["payload"]["protocol"])
        found.dports = (right, right) if isinstance(right, int) else None
    elif name == "l4proto" and isinstance(right, str):
        found.proto = right


def _vmap(found: Rule, body: Any) -> None:
    found.narrow = True
    key = _ct_key(body["key"])
    entries = body["data"]["set"] if isinstance(body["data"], dict) else []  # a named map has its entries elsewhere
    found.ct = found.ct or bool(key)
    if key == "state":
        found.states = set().union(*(_names(entry) for entry, _ in entries))
    for _, verdict in entries:
        for name, target in verdict.items():
            _statement(found, name, target)


def _set(found: Rule, key: Any, value: Any) -> None:
    if "ct" in key:
        found.does.add(TEMPLATE if key["ct"]["key"] == "zone" else CT_WRITE)
    elif key.get("meta") == {"key": "mark"}:
        found.restores = found.restores or '"ct"' in json.dumps(value)
        found.writes_mark |= _changed(value)


def _changed(value: Any) -> int:
    """The bits of the packet mark that may differ from before when it is set to this value."""
    if isinstance(value, dict):
        if value.get("meta") == {"key": "mark"}:
            return 0
        for operator, terms in value.items():
            if operator in ("&", "|", "^") and all(isinstance(term, int) for term in terms[1:]):
                bits = _changed(terms[0])
                for term in terms[1:]:
                    bits |= ALL_BITS & ~term if operator == "&" else term
                return bits
    return ALL_BITS


def _compared(left: Any) -> int:
    """The bits of the packet mark that a match compares."""
    if isinstance(left, dict):
        if left.get("meta") == {"key": "mark"}:
            return ALL_BITS
        terms = left.get("&")
        if isinstance(terms, list) and isinstance(terms[1], int):
            return _compared(terms[0]) & terms[1]
    return 0


def _ct_key(value: Any) -> str:
    """The field of the kernel's connection in an expression, or an empty string."""
    if isinstance(value, dict):
        if isinstance(value.get("ct"), dict):
            return str(value["ct"]["key"])
        return next((key for part in value.values() if (key := _ct_key(part))), "")
    if isinstance(value, list):
        return next((key for part in value if (key := _ct_key(part))), "")
    return ""


def _names(right: Any) -> set[str]:
    """The names of a list, a set or one name."""
    if isinstance(right, dict):
        right = right.get("set", [])
    return {str(name) for name in right} if isinstance(right, list) else {str(right)}
