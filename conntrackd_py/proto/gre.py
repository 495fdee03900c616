"""The GRE tracker: plain GRE by addresses alone; version 1 (PPTP) also by call id (nf_conntrack_proto_gre).

A PPTP packet has only the call id of its receiver. `keymap` gives the sender's, 0 if unknown, as in the kernel. It also
has the packets between their two visits, and is made of expectations and connections alone, also after a restart.
"""

from typing import Final, final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import TRACKED, L4Proto, NfConn
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPPROTO_GRE, IPS_ASSURED, IPS_EXPECTED, IPS_NAT_CLASH, IPS_SEEN_REPLY
from conntrackd_py.wire.ip import addresses
from conntrackd_py.wire.packet import Packet, u16

VERSION: Final = 0x0007
PPP: Final = 0x880B
CALL_ID_AT: Final = 6
CALL_TIMEOUT: Final = 600_000  # ms, of an expected connection: a call of PPTP
CALL_TIMEOUT_STREAM: Final = 18_000_000
MOST_KEYS: Final = 64  # of one control connection


@final
class Gre(L4Proto):
    name = "gre"
    protonum = IPPROTO_GRE

    def __init__(self, tunables: Tunables) -> None:
        super().__init__(tunables)
        self.keymap: dict[bytes, bytes] = {}  # addresses and destination call id -> source call id
        self.keys: dict[int, list[bytes]] = {}  # of keymap, by the slot of the control connection
        self.owners: dict[bytes, int] = {}  # the slot by key; a later call may have the key of an earlier one

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

    def add_call(self, owner: int, mine: bytes, other: bytes) -> None:
        """Know the packets of a call by its two tuples. owner: the slot of its control connection.

        Of more than MOST_KEYS the oldest is forgotten.
        """
        known = self.keys.setdefault(owner, [])
        for t in (mine, other, tuples.routed(mine, other), tuples.routed(other, mine)):
            l4 = tuples.l4(t)
            key = tuples.src(t) + tuples.dst(t) + l4[2:]
            self.keymap[key] = l4[:2]
            self.owners[key] = owner
            if key not in known:
                known.append(key)
        while len(known) > MOST_KEYS:
            self._forget(known.pop(0), owner)

    def end_call(self, owner: int, call_id: bytes) -> list[bytes]:
        """Forget the calls that have this id at one end, all of them if it is empty; returns their tuples."""
        ended = []
        for key in list(self.keys.get(owner, ())):
            source = self.keymap.get(key, b"")
            if not call_id or call_id in (source, key[-2:]):
                self.keys[owner].remove(key)
                if self._forget(key, owner):
                    ended.append(tuples.make(key[:-2], source + key[-2:], IPPROTO_GRE))
        if owner in self.keys and not self.keys[owner]:
            del self.keys[owner]
        return ended

    def _forget(self, key: bytes, owner: int) -> bool:
        """False if the key is another control connection's now."""
        if self.owners.get(key) != owner:
            return False
        del self.owners[key], self.keymap[key]
        return True

    def lifetime(self, ct: NfConn) -> int:
        if ct.status & IPS_EXPECTED:
            return CALL_TIMEOUT_STREAM if ct.status & IPS_SEEN_REPLY else CALL_TIMEOUT
        return self.timeout_stream if ct.status & IPS_SEEN_REPLY else self.timeout

    def packet(self, ct: NfConn, packet: Packet, direction: int, now: int, new: bool) -> int:
        ct.refresh(now, self.lifetime(ct))
        if not ct.status & IPS_SEEN_REPLY:
            return TRACKED
        if not ct.status & (IPS_ASSURED | IPS_NAT_CLASH):
            ct.assure()
        return TRACKED
