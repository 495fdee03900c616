"""Control connections without a helper: the connections that they announce are neither RELATED nor translated.

One packet of each host is noted, when its connection begins. Bounds: HOSTS_LIMIT hosts; then the oldest is forgotten,
and noted again with its next connection.
"""

from collections import OrderedDict
from typing import Final, final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.const import IPS_CONFIRMED, IPS_EXPECTED, IPS_HELPER
from conntrackd_py.helpers.builtin import PORTS

UNHELPED_HOSTS_LIMIT: Final = 1024


@final
class Unhelped:
    def __init__(self) -> None:
        self.hosts: OrderedDict[bytes, None] = OrderedDict()  # address and name of the helper
        self.connections = 0  # ever

    def hit(self, ct: NfConn) -> str:
        """The name of the helper that new ct lacks, if its host is not known for this; otherwise empty."""
        name = PORTS.get(tuples.service(ct.original), "")
        if not name or ct.status & (IPS_HELPER | IPS_EXPECTED | IPS_CONFIRMED):
            return ""
        self.connections += 1
        key = tuples.src(ct.original) + name.encode()
        if key in self.hosts:
            return ""
        self.hosts[key] = None
        if len(self.hosts) > UNHELPED_HOSTS_LIMIT:
            self.hosts.popitem(last=False)
        return name
