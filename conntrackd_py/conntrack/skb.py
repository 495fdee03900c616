"""A packet with what netfilter hangs on it: mark, interfaces, and the connection (skb->_nfct).

`ct` and `ctinfo` are the kernel's two halves of _nfct. ct None with ctinfo INVALID is a packet that
belongs to nothing; ct None with ctinfo UNTRACKED is one that was left alone on purpose.
`reason` says why it is INVALID, was ignored, or was dropped (see reasons); `numbers` is what was
seen and the bounds it broke.
"""

from typing import TYPE_CHECKING, Final, final

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.const import (
    IP_CT_ESTABLISHED_REPLY,
    IP_CT_INVALID,
    IP_CT_RELATED_REPLY,
    IPPROTO_IGMP,
    ORIGINAL,
    REPLY,
)
from conntrackd_py.reasons import OK
from conntrackd_py.wire.packet import Packet

if TYPE_CHECKING:
    from conntrackd_py.conntrack.l4proto import L4Proto

HIGHEST_HOP_LIMIT: Final = 255
LINK_SCOPE: Final = b"\xff\x02"  # how a multicast address of one link begins


@final
class Skb(Packet):
    def __init__(self, data: bytes, mark: int = 0, indev: int = 0, outdev: int = 0) -> None:
        super().__init__(data)
        self.mark = mark
        self.indev = indev
        self.outdev = outdev
        self.hook = 0
        self.ct: NfConn | None = None
        self.ctinfo = IP_CT_INVALID
        self.reason = OK
        self.cause = OK  # why it was refused before it was dropped; the numbers are then of this
        self.zone_original = 0  # zone its tuple is looked for in as an original one
        self.zone_reply = 0  # and as a reply
        self.protos: list[L4Proto] | None = None  # trackers a new connection gets instead of the usual ones
        self.reject = 0  # how a packet dropped for FILTER_REJECT is answered (filter.reject)
        self.seen_after_routing = False  # first seen after routing: its destination may no longer change

    def attach(self, ct: NfConn, ctinfo: int) -> None:
        self.ct = ct
        self.ctinfo = ctinfo

    def detach(self, reason: int) -> None:
        """Make it INVALID for this reason."""
        self.ct = None
        self.ctinfo = IP_CT_INVALID
        self.reason = reason


def direction_of(ctinfo: int) -> int:
    """ORIGINAL or REPLY (CTINFO2DIR)."""
    return REPLY if ctinfo in (IP_CT_ESTABLISHED_REPLY, IP_CT_RELATED_REPLY) else ORIGINAL


def forwarded(skb: Skb) -> bool:
    """Whether a packet at POST_ROUTING, parsed, is one of another host.

    The kernel names an incoming interface also for its own neighbour discovery, MLD and IGMP, the outgoing one
    (ip_output takes skb->dev for it, which those set beforehand). None of these is ever forwarded: a hop limit of
    255 would have been decremented, and the rest stays on its link.
    """
    if not skb.indev:
        return False
    if skb.indev != skb.outdev:
        return True
    data = skb.data
    if skb.version == 4:
        return skb.protonum != IPPROTO_IGMP
    if skb.version != 6:
        return True
    link_local = data[8] == 0xFE and data[9] & 0xC0 == 0x80
    return not (data[7] == HIGHEST_HOP_LIMIT or link_local or data[24:26] == LINK_SCOPE)
