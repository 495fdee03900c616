"""iptables-save text -> chains. Words are compared, not parsed by the grammar of each extension."""

import shlex
from typing import Final

from conntrackd_py.kernel.doctor.ruleset import (
    ACCEPT,
    ALL_BITS,
    BASE_PRIORITY,
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
    base_priority,
    tolerant,
)

CT_MATCHES: Final = {"conntrack", "state", "connmark", "connbytes", "connlabel", "connlimit", "helper"}
WITH_TEXT: Final = {"-m", "-j", "-g", "--comment", "--log-prefix", "--nflog-prefix", "--string"}
PLAIN: Final = {"-i": "in_interface", "-o": "out_interface", "-s": "source", "-d": "", "-p": "proto"}
HOOKS: Final = {"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}
DOES: Final = {
    "ACCEPT": ACCEPT,
    "RETURN": RETURN,
    "DROP": DROP,
    "REJECT": DROP,
    "NFQUEUE": QUEUE,
    "QUEUE": QUEUE,
    "SNAT": TRANSLATE,
    "MASQUERADE": TRANSLATE,
    "DNAT": TRANSLATE,
    "REDIRECT": TRANSLATE,
    "NETMAP": TRANSLATE,
    "NOTRACK": NOTRACK,
    "FLOWOFFLOAD": OFFLOAD,
    "TPROXY": TPROXY,
    "CT": TEMPLATE,
    "CONNMARK": CT_WRITE,
}


def read(text: str, backend: str, family: str) -> tuple[list[Chain], int]:
    """(chains, number of lines not understood). family: ip or ip6."""
    reader = Reader(backend, family)
    unread = tolerant(text.splitlines(), reader.line)
    return list(reader.chains.values()), unread


class Reader:
    def __init__(self, backend: str, family: str) -> None:
        self.backend = backend
        self.family = family
        self.table = ""
        self.chains: dict[tuple[str, str], Chain] = {}

    def line(self, item: object) -> None:
        text = str(item)
        if text.startswith("*"):
            self.table = text[1:].strip()
        elif text.startswith(":"):
            name, policy = text[1:].split()[:2]
            chain = self.chain(name)
            chain.policy = policy.lower() if chain.hook else chain.policy
        elif text.startswith("-A "):
            self.chains[self.table, text.split()[1]].rules.append(rule(text))
        elif text and text != "COMMIT" and not text.startswith("#"):
            raise ValueError(text)

    def chain(self, name: str) -> Chain:
        if (self.table, name) in self.chains:
            return self.chains[self.table, name]
        chain = Chain(self.backend, self.family, self.table, name)
        if name in HOOKS and self.table in BASE_PRIORITY:
            chain.hook = name.lower()
            chain.priority = base_priority(self.table, chain.hook)
            chain.nat = self.table == "nat"
        self.chains[self.table, name] = chain
        return chain


def rule(text: str) -> Rule:
    """The rule of an -A line. Raises ValueError or IndexError."""
    words = shlex.split(text)
    found = Rule(text)
    module = ""
    inverted = False
    at = 2
    while at < len(words):
        word, value = words[at], words[at + 1] if at + 1 < len(words) else ""
        if word == "-m":
            module = value
        if word.startswith("-"):
            _option(found, module, word, value, inverted)
        inverted = word == "!"
        at += 2 if word in WITH_TEXT else 1  # other values never begin with `-`
    return found


def _option(found: Rule, module: str, word: str, value: str, inverted: bool) -> None:
    if word in PLAIN:
        found.narrow = found.narrow or word not in ("-i", "-o")
        if not inverted and PLAIN[word]:
            setattr(found, PLAIN[word], value)
    elif word == "-m":
        found.narrow = found.narrow or value != "comment"
        found.ct = found.ct or value in CT_MATCHES
    elif word in ("-j", "-g"):
        found.does |= {DOES[value]} if value in DOES else set()
        found.jumps |= {value}
    elif word in ("--ctstate", "--state"):
        found.states, found.inverted = set(value.lower().split(",")), inverted
    elif word == "--notrack":
        found.does = {NOTRACK}
    elif word == "--mark" and module == "mark":
        found.compares_mark |= int(value.partition("/")[2] or "0xffffffff", 0)
    else:
        _number(found, word, value)


def _number(found: Rule, word: str, value: str) -> None:
    if word == "--dport":
        low, _, high = value.partition(":")
        found.dports = (int(low), int(high or low))
    elif (word == "--set-xmark" and CT_WRITE not in found.does) or word == "--tproxy-mark":
        found.writes_mark |= _set_bits(value)
    elif word == "--restore-mark":
        found.restores, found.writes_mark = True, found.writes_mark or ALL_BITS
    elif word == "--nfmask" and found.restores:
        found.writes_mark = int(value, 0)
    elif word in ("--queue-num", "--queue-balance"):
        low, _, high = value.partition(":")
        found.queues = range(int(low), int(high or low) + 1)


def _set_bits(value: str) -> int:
    """The bits that `value/mask` changes: the mask is cleared, then the value is XORed."""
    number, _, mask = value.partition("/")
    return int(number, 0) | int(mask or "0xffffffff", 0)
