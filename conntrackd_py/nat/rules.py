"""A NAT rule, in the vocabulary of iptables. The first rule that matches decides; ACCEPT translates nothing.

Rules that translate the source apply at POSTROUTING, the others at PREROUTING and OUTPUT, ACCEPT rules at both.
"""

from typing import Final, final

from conntrackd_py.const import MANIP_SRC
from conntrackd_py.match.match import Match
from conntrackd_py.nat.pool import Pool
from conntrackd_py.nat.prefix import Prefix
from conntrackd_py.nat.range import Range
from conntrackd_py.nat.targets import Targets

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

    hairpin: DNAT: what it matches, of any incoming interface, if hosts inside reach the target by the outer address.
    independent: SNAT, MASQUERADE: each source of TCP and UDP keeps one mapping; None: it depends on the destination.
    prefix: of NETMAP, SNPT and DNPT. targets: of a DNAT rule with several; `to` is then that of the first.
    `label` names the rule in messages and counters, for example `nat[2]`; `comment` is the administrator's.
    """

    def __init__(
        self, action: int, match: Match | None = None, to: Range | None = None, label: str = "", comment: str = ""
    ) -> None:
        self.action = action
        self.match = match or Match()
        self.to = to or Range()
        self.label = label
        self.comment = comment
        self.hairpin: Match | None = None
        self.independent: Independent | None = None
        self.prefix: Prefix | None = None
        self.targets: Targets | None = None
        self.pool = Pool()

    def translates(self, manip: int) -> bool:
        """Whether the rule translates the source (MANIP_SRC) or the destination."""
        if self.action == NAT_NETMAP:
            return (self.match.out_interface is not None) == (manip == MANIP_SRC)
        return self.action in (SOURCE_NAT if manip == MANIP_SRC else DESTINATION_NAT)

    @property
    def ranges(self) -> list[Range]:
        """Where the rule may translate to: of each target, or `to`."""
        return [self.to] if self.targets is None else [target.to for target in self.targets.targets]

    def leaves_by(self, interface: str) -> bool:
        """Whether the rule matches packets that leave by this interface."""
        wanted = self.match.out_interface
        return wanted is None or wanted.has(interface)
