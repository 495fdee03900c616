"""A NAT rule, in the vocabulary of iptables. The first rule that matches decides; ACCEPT translates nothing.

SNAT and MASQUERADE rules apply at POSTROUTING, DNAT and REDIRECT rules at PREROUTING and OUTPUT, ACCEPT rules at both.
"""

from typing import Final, final

from conntrackd_py.match.match import Match
from conntrackd_py.nat.pool import Pool
from conntrackd_py.nat.range import Range

NAT_ACCEPT: Final = 0
NAT_SNAT: Final = 1
NAT_DNAT: Final = 2
NAT_MASQUERADE: Final = 3
NAT_REDIRECT: Final = 4
NAT_ACTIONS: Final = ("ACCEPT", "SNAT", "DNAT", "MASQUERADE", "REDIRECT")


@final
class NatRule:
    """to: the range to map to; MASQUERADE and REDIRECT use only its ports.

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
        self.pool = Pool()

    def leaves_by(self, interface: str) -> bool:
        """Whether the rule matches packets that leave by this interface."""
        wanted = self.match.out_interface
        return wanted is None or wanted.has(interface)
