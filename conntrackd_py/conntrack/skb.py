"""A packet with what netfilter attaches to it: mark, interfaces, and the connection (skb->_nfct).

`ct` and `ctinfo` are the two halves of the kernel's _nfct. ct None with ctinfo INVALID: the packet has no connection.
ct None with ctinfo UNTRACKED: it is not tracked on purpose.
"""

from typing import Final, final

from mypy_extensions import mypyc_attr

from conntrackd_py.conntrack.conn import L4Proto, NfConn
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

HIGHEST_HOP_LIMIT: Final = 255
LINK_SCOPE: Final = b"\xff\x02"  # first bytes of a link-local multicast address


@final
@mypyc_attr(acyclic=True)
class Skb(Packet):
    def __init__(self, data: bytes, mark: int = 0, indev: int = 0, outdev: int = 0) -> None:
        super().__init__(data)
        self.mark = mark
        self.indev = indev
        self.outdev = outdev
        self.hook = 0
        self.ct: NfConn | None = None
        self.ctinfo = IP_CT_INVALID
        self.cause = OK  # of a dropped packet: why it was refused before; `numbers` belong to this
        self.zone_original = 0  # zone for the lookup of its tuple as an original one
        self.zone_reply = 0  # and as a reply
        self.protos: list[L4Proto] | None = None  # trackers for a new connection, instead of the default ones
        self.helper = ""  # the helper of a new connection, by a raw rule
        self.reject = 0  # the answer to a packet dropped for FILTER_REJECT (filter.reject)
        self.rule = ""  # the filter rule or default that dropped it
        self.checksum_verified = False  # the kernel or the network card has checked the checksum of layer 4
        self.by_mark = False  # the kernel translates it after this visit, by its mark
        self.seen_after_routing = False  # first seen after routing: its destination may no longer change

    def attach(self, ct: NfConn, ctinfo: int) -> None:
        self.ct = ct
        self.ctinfo = ctinfo

    def detach(self, reason: int) -> None:
        """Make it INVALID for this reason."""
        self.ct = None
        self.ctinfo = IP_CT_INVALID
        self.reason = reason

    def drop(self, reason: int) -> None:
        """It is dropped for this reason; the reason why it was refused before becomes the cause."""
        self.cause = self.reason
        self.reason = reason


def direction_of(ctinfo: int) -> int:
    """ORIGINAL or REPLY (CTINFO2DIR)."""
    return REPLY if ctinfo in (IP_CT_ESTABLISHED_REPLY, IP_CT_RELATED_REPLY) else ORIGINAL


def forwarded(skb: Skb) -> bool:
    """Whether a parsed packet at POST_ROUTING is from another host.

    The kernel names an incoming interface also for its own neighbour discovery, MLD and IGMP packets: the outgoing one
    (ip_output takes skb->dev, which they set). Such packets are never forwarded: forwarding would have decremented a
    hop limit of 255, and the other ones stay on their link.
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
