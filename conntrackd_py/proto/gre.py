"""The GRE tracker: plain GRE by addresses alone; version 1 (PPTP) also by call id (nf_conntrack_proto_gre).

A PPTP packet has only the call id of its receiver. `keymap` gives the sender's, 0 if unknown, as in the kernel.
"""

from typing import Final, final

from conntrackd_py.conntrack.conn import TRACKED, L4Proto, NfConn
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPPROTO_GRE, IPS_ASSURED, IPS_NAT_CLASH, IPS_SEEN_REPLY
from conntrackd_py.wire.ip import addresses
from conntrackd_py.wire.packet import Packet, u16

VERSION: Final = 0x0007
PPP: Final = 0x880B
CALL_ID_AT: Final = 6


@final
class Gre(L4Proto):
    name = "gre"
    protonum = IPPROTO_GRE

    def __init__(self, tunables: Tunables) -> None:
        super().__init__(tunables)
        self.keymap: dict[bytes, bytes] = {}  # addresses and destination call id -> source call id

    def tune(self, tunables: Tunables) -> None:
        self.timeout = tunables.nf_conntrack_gre_timeout * 1000
        self.timeout_stream = tunables.nf_conntrack_gre_timeout_stream * 1000

    def l4(self, packet: Packet) -> bytes:
        at = packet.dataoff
        data = packet.data
        if packet.end < packet.length and at + 8 > packet.end:
            return b""
        if at + 4 > packet.end or u16(data, at) & VERSION != 1 or at + 8 > packet.end:
            return b"\0\0\0\0"
        if u16(data, at + 2) != PPP:
            return b""
        destination = data[at + CALL_ID_AT : at + CALL_ID_AT + 2]
        return self.keymap.get(addresses(packet) + destination, b"\0\0") + destination

    def lifetime(self, ct: NfConn) -> int:
        return self.timeout_stream if ct.status & IPS_SEEN_REPLY else self.timeout

    def packet(self, ct: NfConn, packet: Packet, direction: int, now: int, new: bool) -> int:
        if not ct.status & IPS_SEEN_REPLY:
            ct.refresh(now, self.timeout)
            return TRACKED
        ct.refresh(now, self.timeout_stream)
        if not ct.status & (IPS_ASSURED | IPS_NAT_CLASH):
            ct.assure()
        return TRACKED
