"""The filter: chains of ordered rules at LOCAL_IN, FORWARD and LOCAL_OUT, each with a default.

As in netfilter, every chain of a hook is asked in order; accept ends only the chain, drop and reject end the
packet. In a chain the first rule that matches decides, and without one its default. A packet is matched as it is
at the hook: its destination already translated, its source not yet.
"""

from typing import Final, final

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import (
    FORWARD,
    LOCAL_IN,
    LOCAL_OUT,
    NF_ACCEPT,
    NF_DROP,
    WITH_PORTS,
)
from conntrackd_py.filter.expr import Expr
from conntrackd_py.filter.match import Addresses, Names, Numbers
from conntrackd_py.reasons import FILTER_DROP, FILTER_REJECT
from conntrackd_py.wire.ip import addresses
from conntrackd_py.wire.packet import u16

ACCEPT: Final = 0
DROP: Final = 1
REJECT: Final = 2
CONTINUE: Final = 3  # only count
ACTIONS: Final = ("accept", "drop", "reject", "continue")

HOOKS: Final = {"in": LOCAL_IN, "forward": FORWARD, "out": LOCAL_OUT}
NOTHING: Final = -1  # no such number in the packet


@final
class FilterRule:
    """One rule; None in a match field means anything. hooks: where a list of rules for several hooks uses it.

    reject: a kind of filter.reject, for action REJECT. `label` names the rule in messages and counters;
    `comment` is its author's.
    """

    def __init__(
        self,
        action: int,
        *,
        hooks: tuple[int, ...] = (LOCAL_IN, FORWARD, LOCAL_OUT),
        in_interface: Names | None = None,
        out_interface: Names | None = None,
        source: Addresses | None = None,
        destination: Addresses | None = None,
        proto: Numbers | None = None,
        sport: Numbers | None = None,
        dport: Numbers | None = None,
        family: int = 0,
        ct: Expr | None = None,
        reject: int = 0,
        label: str = "",
        comment: str = "",
    ) -> None:
        self.action = action
        self.hooks = hooks
        self.in_interface = in_interface
        self.out_interface = out_interface
        self.source = source
        self.destination = destination
        self.proto = proto
        self.sport = sport
        self.dport = dport
        self.family = family
        self.ct = ct
        self.reject = reject
        self.label = label
        self.comment = comment
        self.packets = 0
        self.bytes = 0
        self.asks_packet = False
        self.settle()

    def settle(self) -> None:
        """To be called when the matches have been changed."""
        names = self.in_interface is not None or self.out_interface is not None
        addresses = self.source is not None or self.destination is not None
        numbers = self.proto is not None or self.sport is not None or self.dport is not None
        self.asks_packet = names or addresses or numbers

    def count(self, skb: Skb) -> None:
        self.packets += 1
        self.bytes += len(skb.data)


@final
class Chain:
    """family: 4 or 6 when packets of the other one never come here, 0 otherwise. default: NF_ACCEPT or NF_DROP."""

    def __init__(self, hook: int, rules: list[FilterRule], default: int, family: int = 0, label: str = "") -> None:
        self.hook = hook
        self.rules = rules
        self.default = default
        self.family = family
        self.label = label
        self.packets = 0  # that came to the default
        self.bytes = 0


@final
class Seen:
    """What rules ask about the packet itself, looked up once, when the first of them asks."""

    def __init__(self, skb: Skb, names: dict[int, str]) -> None:
        self.skb = skb
        self.names = names
        self.looked = False
        self.in_interface = ""
        self.out_interface = ""
        self.source = b""
        self.destination = b""
        self.proto = NOTHING
        self.sport = NOTHING
        self.dport = NOTHING

    def look(self) -> None:
        self.looked = True
        skb = self.skb
        self.in_interface = self.names.get(skb.indev, "")
        self.out_interface = self.names.get(skb.outdev, "")
        if not skb.version:
            return  # nobody could read it
        pair = addresses(skb)
        half = len(pair) // 2
        self.source = pair[:half]
        self.destination = pair[half:]
        self.proto = skb.protonum
        if skb.protonum in WITH_PORTS and skb.dataoff + 4 <= skb.end:
            self.sport = u16(skb.data, skb.dataoff)
            self.dport = u16(skb.data, skb.dataoff + 2)


@final
class Policy:
    """`names`, interface names by index, is filled by whoever knows them."""

    def __init__(self, chains: list[Chain]) -> None:
        self.names: dict[int, str] = {}
        self.chains: list[list[Chain]] = [[], [], [], [], []]
        for chain in chains:
            self.chains[chain.hook].append(chain)

    def evaluate(self, skb: Skb, hook: int, now: int, counting: bool = True) -> int:
        """The verdict; NF_DROP sets skb.reason to FILTER_DROP or FILTER_REJECT, and the latter skb.reject.

        counting: whether the rules count the packet.
        """
        seen = Seen(skb, self.names)
        for chain in self.chains[hook]:
            if chain.family and chain.family != skb.data[0] >> 4:
                continue
            if self._traverse(chain, skb, seen, now, counting) == NF_DROP:
                return NF_DROP
        return NF_ACCEPT

    def _traverse(self, chain: Chain, skb: Skb, seen: Seen, now: int, counting: bool) -> int:
        for rule in chain.rules:
            if not matches(rule, skb, seen, now):
                continue
            if counting:
                rule.count(skb)
            if rule.action == ACCEPT:
                return NF_ACCEPT
            if rule.action == DROP:
                skb.reason = FILTER_DROP
                return NF_DROP
            if rule.action == REJECT:
                skb.reason = FILTER_REJECT
                skb.reject = rule.reject
                return NF_DROP
        if counting:
            chain.packets += 1
            chain.bytes += len(skb.data)
        if chain.default == NF_DROP:
            skb.reason = FILTER_DROP
        return chain.default


def matches(rule: FilterRule, skb: Skb, seen: Seen, now: int) -> bool:
    if rule.family and rule.family != skb.version:
        return False
    if rule.asks_packet and not _packet_matches(rule, seen):
        return False
    return rule.ct is None or rule.ct.matches(skb, now)


def _packet_matches(rule: FilterRule, seen: Seen) -> bool:
    if not seen.looked:
        seen.look()
    if rule.in_interface is not None and not rule.in_interface.has(seen.in_interface):
        return False
    if rule.out_interface is not None and not rule.out_interface.has(seen.out_interface):
        return False
    if rule.source is not None and not rule.source.has(seen.source):
        return False
    if rule.destination is not None and not rule.destination.has(seen.destination):
        return False
    return _number(rule.proto, seen.proto) and _number(rule.sport, seen.sport) and _number(rule.dport, seen.dport)


def _number(wanted: Numbers | None, number: int) -> bool:
    return wanted is None or (number != NOTHING and wanted.has(number))
