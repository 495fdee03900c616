"""The tracker for everything without one of its own: addresses and protocol number, one timeout."""

from typing import final

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.l4proto import TRACKED, L4Proto
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables


@final
class Generic(L4Proto):
    name = "unknown"

    def __init__(self, tunables: Tunables) -> None:
        super().__init__()
        self.timeout = 0
        self.tune(tunables)

    def tune(self, tunables: Tunables) -> None:
        self.timeout = tunables.nf_conntrack_generic_timeout * 1000

    def lifetime(self, ct: NfConn) -> int:
        return self.timeout

    def packet(self, ct: NfConn, skb: Skb, direction: int, now: int, new: bool) -> int:
        ct.refresh(now, self.timeout)
        return TRACKED
