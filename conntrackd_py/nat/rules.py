"""A NAT rule, in the vocabulary of iptables. The first rule that matches decides; ACCEPT translates nothing.

Without `hooks`, rules that translate the source apply at POSTROUTING, DNAT at PREROUTING and OUTPUT, REDIRECT at
PREROUTING, ACCEPT rules where their interface is known.
"""

from typing import Final, final

from conntrackd_py.const import LOCAL_IN, LOCAL_OUT, MANIP_SRC, POST_ROUTING, PRE_ROUTING
from conntrackd_py.match.match import Match
from conntrackd_py.nat.prefix import Prefix
from conntrackd_py.nat.range import Range
from conntrackd_py.nat.targets import Targets
from conntrackd_py.nat.usage.pool import Pool

NAT_ACCEPT: Final = 0
NAT_SNAT: Final = 1
NAT_DNAT: Final = 2
NAT_MASQUERADE: Final = 3
NAT_REDIRECT: Final = 4
NAT_NETMAP: Final = 5
NAT_SNPT: Final = 6
NAT_DNPT: Final = 7
NAT_ACTIONS: Final = ("ACCEPT", "SNAT", "DNAT", "MASQUERADE", "REDIRECT", "NETMAP", "SNPT", "DNPT")
SOURCE_NAT: Final = (NAT_SNAT, NAT_MASQUERADE, NAT_SNPT)
DESTINATION_NAT: Final = (NAT_DNAT, NAT_REDIRECT, NAT_DNPT)
SOURCE_HOOKS: Final = (LOCAL_IN, POST_ROUTING)
DESTINATION_HOOKS: Final = (PRE_ROUTING, LOCAL_OUT)

FILTER_ADDRESS_PORT: Final = 0  # who may send to a mapping: whom its inside endpoint called, by address and port
FILTER_ADDRESS: Final = 1  # the same, by address
FILTER_NONE: Final = 2  # everybody (full cone)
FILTERINGS: Final = ("address-and-port", "address", "endpoint-independent")


@final
class Independent:
    """Of a source rule with endpoint-independent mapping. parity: an even port stays even, an odd one odd."""

    def __init__(self, filtering: int = FILTER_ADDRESS_PORT, parity: bool = False, hairpin: bool = False) -> None:
        self.filtering = filtering
        self.parity = parity
        self.hairpin = hairpin


@final
class NatRule:
    """to: the range to map to; MASQUERADE and REDIRECT use only its ports.

    hooks: where it applies; empty: the usual ones of the action.
    to_local: 1 if the destination must be an address of the router, -1 if it must not, 0 if any.
    hairpin: DNAT: what it matches, of any incoming interface, if hosts inside reach the target by the outer address.
    independent: SNAT, MASQUERADE: each source of TCP and UDP keeps one mapping; None: it depends on the destination.
    port_block, blocks_per_host: SNAT, MASQUERADE: ports of a block, blocks of an inside address; 0: no blocks.
    deterministic: SNAT: each inside address has its slice of an outer address (nat.deterministic).
    prefix: of NETMAP, SNPT and DNPT. targets: of a DNAT rule with several; `to` is then that of the first.
    `label` names the rule in messages and counters, for example `nat[2]`; `comment` is the administrator's.
    """

    def __init__(
        self,
        action: int,
        match: Match | None = None,
        to: Range | None = None,
        label: str = "",
        comment: str = "",
        hooks: tuple[int, ...] = (),
    ) -> None:
        self.action = action
        self.match = match or Match()
        self.to = to or Range()
        self.label = label
        self.comment = comment
        self.hooks = hooks or usual_hooks(action, self.match)
        self.to_local = 0
        self.hairpin: Match | None = None
        self.independent: Independent | None = None
        self.prefix: Prefix | None = None
        self.targets: Targets | None = None
        self.port_block = 0
        self.blocks_per_host = 0
        self.deterministic = False
        self.pool = Pool()

    def translates(self, manip: int) -> bool:
        """Whether the rule translates the source (MANIP_SRC) or the destination."""
        if self.action == NAT_NETMAP:
            return (self.hooks[0] in SOURCE_HOOKS) == (manip == MANIP_SRC)
        return self.action in (SOURCE_NAT if manip == MANIP_SRC else DESTINATION_NAT)

    @property
    def ranges(self) -> list[Range]:
        """Where the rule may translate to: of each target, or `to`."""
        return [self.to] if self.targets is None else [target.to for target in self.targets.targets]

    def leaves_by(self, interface: str) -> bool:
        """Whether the rule matches packets that leave by this interface."""
        wanted = self.match.out_interface
        return wanted is None or wanted.has(interface)


def usual_hooks(action: int, match: Match) -> tuple[int, ...]:
    """Where a rule applies that names no hooks."""
    if action in SOURCE_NAT or (action in (NAT_NETMAP, NAT_ACCEPT) and match.out_interface is not None):
        return (POST_ROUTING,)
    if action in (NAT_REDIRECT, NAT_NETMAP) or match.in_interface is not None:
        return (PRE_ROUTING,)
    return (*DESTINATION_HOOKS, POST_ROUTING) if action == NAT_ACCEPT else DESTINATION_HOOKS
