"""The tables nat and raw of iptables-save text -> base chains with their rules."""

import re
import shlex
from typing import Final, final

from conntrackd_py.kernel.doctor.ruleset import base_priority
from conntrackd_py.kernel.import_rules.conditions import Conditions, Value, combined
from conntrackd_py.kernel.import_rules.walk import ACCEPT, GOTO, JUMP, NAT, POLICY, RAW, RETURN, Base, Entry
from conntrackd_py.kernel.steering.iptables_rules import PREFIX
from conntrackd_py.kernel.translate.marks import UntranslatableError
from conntrackd_py.match.words import ParseError, is_number, protocol, protocol_name

KINDS: Final = {"nat": NAT, "raw": RAW}
HOOKS: Final = {"PREROUTING", "OUTPUT", "INPUT", "POSTROUTING"}
SAVER: Final = re.compile(r"#.*\b(ip6?)tables-save\b")
RULE: Final = re.compile(r"(?:\[\d+:\d+\]\s*)?-A\s+(\S+)\s*(.*)")
KEYS: Final = {
    "-i": "in_interface",
    "-o": "out_interface",
    "-s": "source",
    "-d": "destination",
    "--sport": "sport",
    "--dport": "dport",
    "--sports": "sport",
    "--dports": "dport",
    "--src-range": "source",
    "--dst-range": "destination",
    "--mark": "mark",
}
MODULES: Final = {
    *("tcp", "udp", "udplite", "sctp", "dccp", "multiport", "iprange"),
    *("mark", "comment", "addrtype", "conntrack", "state"),
}
NAT_TARGETS: Final = {"SNAT", "DNAT", "MASQUERADE", "REDIRECT", "NETMAP"}
NAT_OPTIONS: Final = {"--to-source": "to", "--to-destination": "to", "--to-ports": "to", "--to": "to"}
FLAGS: Final = {"--random": "random", "--random-fully": "random_fully", "--persistent": "persistent"}
CT_OPTIONS: Final = {"--zone": "zone", "--zone-orig": "zone_orig", "--zone-reply": "zone_reply", "--helper": "helper"}
VERDICTS: Final = {"ACCEPT": ACCEPT, "RETURN": RETURN}
STATES: Final = {"--ctstate", "--state"}


def read(text: str, family: str) -> tuple[list[Base], list[Entry], set[str]]:
    """The base chains, lines that are no rules, and the names of the other tables.

    family: ip or ip6, where no comment of the saver says it.
    """
    reader = _Reader(family)
    for number, line in enumerate(text.split("\n"), 1):
        reader.line(number, line.strip())
    return reader.bases(), reader.strays, reader.others


@final
class _Reader:
    def __init__(self, family: str) -> None:
        self.family = family
        self.table = ""
        self.others: set[str] = set()
        self.strays: list[Entry] = []
        self.chains: dict[tuple[str, str], dict[str, list[Entry]]] = {}  # by family and table, then by name

    def line(self, number: int, text: str) -> None:
        if saver := SAVER.match(text):
            self.family = saver[1]
        elif text.startswith("*"):
            self.table = text[1:].strip()
            if self.table not in KINDS:
                self.others.add(self.table)
        elif self.table in KINDS and text and not text.startswith("#") and text != "COMMIT":
            self._in_table(number, text)

    def _in_table(self, number: int, text: str) -> None:
        chains = self.chains.setdefault((self.family, self.table), {})
        found = RULE.match(text)
        if text.startswith(":"):
            name, _, policy = text[1:].partition(" ")
            chains.setdefault(name, [])
            if policy.startswith("DROP"):
                self.strays.append(Entry(number, text, problem=POLICY))
        elif PREFIX in text:
            return  # a steering rule
        elif found is None:
            self.strays.append(Entry(number, text, problem="is not a line of iptables-save"))
        else:
            chains.setdefault(found[1], []).append(_entry(Entry(number, text), found[2], self.table))

    def bases(self) -> list[Base]:
        found = []
        for (family, table), chains in self.chains.items():
            users = {name: entries for name, entries in chains.items() if name not in HOOKS}
            for name in chains:
                if name in HOOKS:
                    hook = name.lower()
                    found.append(Base(KINDS[table], hook, base_priority(table, hook), family, chains[name], users))
        return found


def _entry(entry: Entry, body: str, table: str) -> Entry:
    try:
        _Rule(entry, table).read(shlex.split(body))
    except UntranslatableError as error:
        entry.problem = str(error)
    except ParseError as error:
        entry.problem = error.why
    except ValueError as error:
        entry.problem = f"cannot be read: {error}"
    return entry


@final
class _Rule:
    def __init__(self, entry: Entry, table: str) -> None:
        self.entry = entry
        self.table = table
        self.target = ""
        self.ct: list[str] = []

    def read(self, words: list[str]) -> None:
        at = 0
        invert = False
        while at < len(words):
            word = words[at]
            if word == "!":
                invert = True
                at += 1
                continue
            at += 1
            if word in FLAGS or word == "--notrack":
                self.entry.keys[FLAGS.get(word, "notrack")] = True
                continue
            if at >= len(words):
                raise UntranslatableError(f"{word} has no value")
            self._option(word, words[at], invert)
            invert = False
            at += 1
        if self.ct:
            self._match("ct", (" ".join(["-m conntrack", *self.ct]),), invert=False)
        self._finish()

    def _option(self, word: str, value: str, invert: bool) -> None:
        entry = self.entry
        if word in ("-j", "-g"):
            self.target = value
            entry.does = GOTO if word == "-g" else JUMP
        elif word == "-m":
            if value not in MODULES:
                raise UntranslatableError(f"-m {value} has no counterpart")
        elif word == "-p":
            if value != "all":
                self._match("proto", (protocol_name(protocol(value)),), invert)
        elif word in KEYS:
            items = value.split(",") if word.endswith("ports") else [value]
            self._match(KEYS[word], tuple(items), invert)
        elif word == "--dst-type" and value == "LOCAL":
            self._match("destination_type", ("local",), invert)
        elif word in STATES:
            self.ct += [*(["!"] if invert else []), "--ctstate", value]
        elif word in NAT_OPTIONS or word in CT_OPTIONS:
            key = NAT_OPTIONS.get(word) or CT_OPTIONS[word]
            entry.keys[key] = int(value, 0) if key.startswith("zone") and is_number(value) else value
        elif word == "--comment":
            entry.keys["comment"] = value
        else:
            raise UntranslatableError(f"{word} {value} has no counterpart")

    def _match(self, key: str, items: tuple[str, ...], invert: bool) -> None:
        if key in ("in_interface", "out_interface") and items == ("+",):
            return
        new: Conditions = {key: Value(items, invert)}
        both = combined(self.entry.when, new)
        if both is None:
            raise UntranslatableError("its conditions contradict each other")
        self.entry.when = both

    def _finish(self) -> None:
        """What the target does. A rule without a target only counts."""
        entry, target = self.entry, self.target
        entry.action = target
        if not target:
            raise UntranslatableError("it has no target: it only counts packets")
        if target in VERDICTS:
            entry.does = VERDICTS[target]
        elif self.table == "nat" and target in NAT_TARGETS:
            entry.does = NAT
        elif self.table == "raw" and target in ("CT", "NOTRACK"):
            entry.does = RAW
            if target == "NOTRACK":
                entry.keys["notrack"] = True
        elif target.isupper() and target in EXTENSIONS:
            raise UntranslatableError(f"the target {target} has no counterpart")


# Targets that a chain of the user cannot be mistaken for.
EXTENSIONS: Final = {
    *("DROP", "REJECT", "LOG", "NFLOG", "MARK", "CONNMARK", "TRACE", "TPROXY", "SYNPROXY", "NFQUEUE", "ULOG"),
    *("CT", "NOTRACK", "SNAT", "DNAT", "MASQUERADE", "REDIRECT", "NETMAP", "SET", "TCPMSS", "CLASSIFY", "DSCP"),
}
