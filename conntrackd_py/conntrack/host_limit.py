"""How many connections each host has opened, and whether it may open another one.

A host is the source of the original direction; for IPv6, its prefix. The router itself is not limited.
The table counts every connection here, from allocation until its end, while a limit is set.
"""

from typing import Final, final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.split_dict import SplitDict
from conntrackd_py.const import IPS_DYING

NEAR: Final = 80  # % of the limit
WHOLE: Final = 16  # bytes of an IPv6 address


@final
class HostLimit:
    """limit: 0 for none. networks: first and last address of each that it applies to; empty: all hosts."""

    def __init__(self) -> None:
        self.limit = 0
        self.prefix = WHOLE  # bytes of an IPv6 address that are the host
        self.networks: list[bytes] = []
        self.counts: SplitDict[int] = SplitDict()
        self.near: dict[bytes, None] = {}  # hosts with NEAR % of the limit or more
        self.refused = 0  # connections

    def configure(self, limit: int, prefix: int, networks: list[bytes], slots: list[NfConn | None]) -> None:
        """Replace the limit. The connections in these slots are counted again if they were not, or as other hosts."""
        recount = limit and (not self.limit or prefix != self.prefix)
        self.prefix, self.networks, self.near = prefix, networks, {}
        if not limit or recount:
            self.counts = SplitDict()
        self.limit = limit
        if recount:
            for ct in slots:
                if ct is not None and not ct.status & IPS_DYING:
                    self.add(ct)
        elif limit:
            for host, count in self.counts.items():
                self._mark(host, count)

    def host(self, t: bytes) -> bytes:
        return tuples.src(t)[: self.prefix]

    def count(self, t: bytes) -> int:
        """Connections of the host that opens a connection with this original tuple."""
        return self.counts.get(self.host(t)) or 0

    def reached(self, t: bytes) -> bool:
        """Whether that host may open no other connection."""
        return self.count(t) >= self.limit and self._covers(tuples.src(t))

    def _covers(self, address: bytes) -> bool:
        for at in range(0, len(self.networks), 2):
            low = self.networks[at]
            if len(low) == len(address) and low <= address <= self.networks[at + 1]:
                return True
        return not self.networks

    def add(self, ct: NfConn) -> None:
        host = self.host(ct.original)
        count = (self.counts.get(host) or 0) + 1
        self.counts[host] = count
        self._mark(host, count)

    def remove(self, ct: NfConn) -> None:
        host = self.host(ct.original)
        count = (self.counts.get(host) or 0) - 1
        if count > 0:
            self.counts[host] = count
        else:
            del self.counts[host]
        if self.near:
            self._mark(host, count)

    def _mark(self, host: bytes, count: int) -> None:
        if count * 100 < self.limit * NEAR:
            self.near.pop(host, None)
        elif self._covers(host if len(host) == 4 else host + bytes(WHOLE - len(host))):
            self.near[host] = None
