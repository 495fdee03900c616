"""One form for the rules of iptables and of nft: what the doctor judges, and no more.

The readers (iptables_save.py, nft_json.py) are tolerant: they count a rule that they cannot read, and pass over it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from conntrackd_py.const import PRI_FILTER, PRI_MANGLE, PRI_NAT_DST, PRI_NAT_SRC, PRI_RAW

ALL_BITS: Final = 0xFFFFFFFF
PRI_SECURITY: Final = 50
BASE_PRIORITY: Final = {
    "raw": PRI_RAW,
    "mangle": PRI_MANGLE,
    "nat": PRI_NAT_DST,
    "filter": PRI_FILTER,
    "security": PRI_SECURITY,
}

# What a rule may do. ACCEPT, DROP and QUEUE end the base chain; so does RETURN in it.
ACCEPT: Final = "accept"
DROP: Final = "drop"  # or reject
QUEUE: Final = "queue"
RETURN: Final = "return"
TRANSLATE: Final = "translate"
TEMPLATE: Final = "template"  # gives the packet a zone, helper or timeout before the kernel tracks it
NOTRACK: Final = "notrack"
OFFLOAD: Final = "offload"
TPROXY: Final = "tproxy"
CT_WRITE: Final = "ct write"  # changes the kernel's connection


Key = tuple[str, str, str, str]  # backend, family, table, name of a chain


@dataclass
class Rule:
    """What a rule matches and does. `text` is what the program prints."""

    text: str
    does: set[str] = field(default_factory=set)
    jumps: set[str] = field(default_factory=set)  # chains that the packet may continue in
    narrow: bool = False  # the rule matches more than interfaces
    ct: bool = False  # the rule matches a field of the kernel's connection
    states: set[str] | None = None  # the states of a state match, lower case
    statuses: set[str] = field(default_factory=set)  # the bits of a status match of nft, lower case
    inverted: bool = False  # the state match is inverted
    restores: bool = False  # the packet mark is set from the connection mark
    writes_mark: int = 0  # bits of the packet mark that the rule changes
    compares_mark: int = 0  # bits of the packet mark that the rule compares
    queues: range = range(0)
    in_interface: str = ""  # exact names; empty: any
    out_interface: str = ""
    source: str = ""  # network or address; empty: any
    proto: str = ""
    dports: tuple[int, int] | None = None


@dataclass
class Chain:
    """hook: lower case, as nft writes it; empty: reached only by jumps. family: ip, ip6 or inet."""

    backend: str  # iptables, iptables-legacy, nft
    family: str
    table: str
    name: str
    hook: str = ""
    priority: int = 0
    policy: str = ACCEPT
    nat: bool = False  # a base chain of NAT: it sees only the first packet of a connection of the kernel
    rules: list[Rule] = field(default_factory=list)

    @property
    def key(self) -> Key:
        return (self.backend, self.family, self.table, self.name)


def tolerant(items: Iterable[object], read: Callable[[object], None]) -> int:
    """Read every item; the number of those that could not be read."""
    failed = 0
    for item in items:
        try:
            read(item)
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
            failed += 1
    return failed


class Ruleset:
    """All chains of all programs, and which base chains reach which chain."""

    def __init__(self, chains: list[Chain], unread: int = 0) -> None:
        self.chains = {chain.key: chain for chain in chains}
        self.unread = unread
        self._bases: dict[Key, list[Chain]] = {}
        self._dropping: set[Key] = set()
        self._open_loopback: set[Key] = set()
        for base in self.chains.values():
            if base.hook:
                self._begin(base)

    def _begin(self, base: Chain) -> None:
        chains = self.reached([base])
        for chain in chains:
            self._bases.setdefault(chain.key, []).append(base)
        if base.policy == DROP or any(
            DROP in rule.does and not rule.narrow for chain in chains for rule in chain.rules
        ):
            self._dropping.add(base.key)
        rules = (rule for chain in chains for rule in chain.rules)
        if any(rule.in_interface == "lo" and ACCEPT in rule.does and not rule.narrow for rule in rules):
            self._open_loopback.add(base.key)

    def bases(self, chain: Chain) -> list[Chain]:
        """The base chains whose packets may come to this chain."""
        return self._bases.get(chain.key, [])

    def targets(self, chain: Chain, rule: Rule) -> list[Chain]:
        found = [self.chains.get((*chain.key[:3], name)) for name in sorted(rule.jumps)]
        return [target for target in found if target is not None]

    def reached(self, begin: list[Chain]) -> list[Chain]:
        """These chains and those that they jump to, directly or not."""
        found: dict[Key, Chain] = {}
        waiting = list(begin)
        while waiting:
            chain = waiting.pop()
            if chain.key not in found:
                found[chain.key] = chain
                waiting += [target for rule in chain.rules for target in self.targets(chain, rule)]
        return list(found.values())

    def effects(self, chain: Chain, rule: Rule) -> set[str]:
        """What the rule and the chains that it jumps to may do."""
        inside = self.reached(self.targets(chain, rule))
        return rule.does.union(*(inner.does for target in inside for inner in target.rules))

    def drops(self, base: Chain) -> bool:
        """Whether the base chain drops what no rule accepts, by its policy or by a rule that matches everything."""
        return base.key in self._dropping

    def accepts_loopback(self, base: Chain) -> bool:
        """Whether a rule that the base chain reaches accepts every packet that comes in by lo."""
        return base.key in self._open_loopback


def base_priority(table: str, hook: str) -> int:
    """The priority of a built-in chain of iptables."""
    return PRI_NAT_SRC if table == "nat" and hook in ("postrouting", "input") else BASE_PRIORITY[table]
