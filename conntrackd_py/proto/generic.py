"""The tracker of all other protocols: addresses and protocol number, one timeout."""

from typing import final

from conntrackd_py.conntrack.conn import TRACKED, L4Proto, NfConn
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.wire.packet import Packet


@final
class Generic(L4Proto):
    name = "unknown"

    def tune(self, tunables: Tunables) -> None:
        self.timeout = tunables.nf_conntrack_generic_timeout * 1000

    def lifetime(self, ct: NfConn) -> int:
        return self.timeout

    def packet(self, ct: NfConn, packet: Packet, direction: int, now: int, new: bool) -> int:
        ct.refresh(now, self.timeout)
        return TRACKED
