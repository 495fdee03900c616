"""A packet with what netfilter hangs on it: mark, interfaces, and the connection (skb->_nfct).

`ct` and `ctinfo` are the kernel's two halves of _nfct. ct None with ctinfo INVALID is a packet that
belongs to nothing; ct None with ctinfo UNTRACKED is one that was left alone on purpose.
`reason` says why it is INVALID, was ignored, or was dropped (see reasons); `numbers` is what was
seen and the bounds it broke.
"""

from typing import TYPE_CHECKING, final

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.const import ESTABLISHED_REPLY, INVALID, ORIGINAL, RELATED_REPLY, REPLY
from conntrackd_py.reasons import OK
from conntrackd_py.wire.packet import Packet

if TYPE_CHECKING:
    from conntrackd_py.conntrack.l4proto import L4Proto


@final
class Skb(Packet):
    def __init__(self, data: bytes, mark: int = 0, indev: int = 0, outdev: int = 0) -> None:
        super().__init__(data)
        self.mark = mark
        self.indev = indev
        self.outdev = outdev
        self.hook = 0
        self.ct: NfConn | None = None
        self.ctinfo = INVALID
        self.reason = OK
        self.cause = OK  # why it was refused before it was dropped; the numbers are then of this
        self.zone_original = 0  # zone its tuple is looked for in as an original one
        self.zone_reply = 0  # and as a reply
        self.protos: list[L4Proto] | None = None  # trackers a new connection gets instead of the usual ones
        self.reject = 0  # how a packet dropped for FILTER_REJECT is answered (filter.reject)
        self.late = False  # first seen after routing: its destination may no longer change

    def attach(self, ct: NfConn, ctinfo: int) -> None:
        self.ct = ct
        self.ctinfo = ctinfo

    def detach(self, reason: int) -> None:
        """Make it INVALID for this reason."""
        self.ct = None
        self.ctinfo = INVALID
        self.reason = reason


def direction_of(ctinfo: int) -> int:
    """ORIGINAL or REPLY (CTINFO2DIR)."""
    return REPLY if ctinfo in (ESTABLISHED_REPLY, RELATED_REPLY) else ORIGINAL
