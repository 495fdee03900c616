"""Stale connections: the present rules would translate their first packet otherwise, or the filter would drop it.

A stale connection continues unchanged until it ends or is deleted. A connection created by the operator is never
stale.
"""

from typing import Final, final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import LATE_INTERFACE, NO_INTERFACE, NfConn
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import FORWARD, IP_CT_NEW, LOCAL_IN, LOCAL_OUT, MANIP_DST, NF_ACCEPT
from conntrackd_py.filter.policy import Policy
from conntrackd_py.nat.binding import outdated
from conntrackd_py.nat.core import Nat

CURRENT: Final = 0
TRANSLATED_OTHERWISE: Final = 1
NOT_ALLOWED: Final = 2
STALE_NAMES: Final = ("", "nat", "filter")

V4_HEADER: Final = 20
L4_LENGTH: Final = 20


@final
class Stale:
    """nat, policy: None without NAT or filter."""

    def __init__(self, nat: Nat | None, policy: Policy | None) -> None:
        self.nat = nat
        self.policy = policy

    def why(self, ct: NfConn, now: int) -> int:
        """CURRENT, TRANSLATED_OTHERWISE or NOT_ALLOWED, for a confirmed connection."""
        if ct.oif in (NO_INTERFACE, LATE_INTERFACE):
            return CURRENT
        if (
            self.nat is not None
            and self.nat.endpoints.of(ct, MANIP_DST) is None
            and outdated(self.nat.rules, self.nat.interfaces, ct)
        ):
            return TRANSLATED_OTHERWISE
        if self.policy is None:
            return CURRENT
        hook = LOCAL_OUT if not ct.iif else LOCAL_IN if not ct.oif else FORWARD
        allowed = self.policy.evaluate(first_packet(ct), hook, now, counting=False) == NF_ACCEPT
        return CURRENT if allowed else NOT_ALLOWED


def first_packet(ct: NfConn) -> Skb:
    """The headers of ct's first packet at the filter: destination translated, source not yet."""
    t = tuples.routed(ct.original, ct.reply)
    pair = tuples.src(t) + tuples.dst(t)
    protonum = tuples.protonum(t)
    body = tuples.l4(t) + bytes(L4_LENGTH - 4)
    if not ct.l4proto.ports:
        body = tuples.l4(t)[2:] + b"\0\0" + tuples.l4(t)[:2] + bytes(L4_LENGTH - 6)
    if len(pair) == 8:
        length = V4_HEADER + L4_LENGTH
        header = b"\x45\0" + length.to_bytes(2, "big") + bytes(4) + bytes((64, protonum, 0, 0)) + pair
    else:
        header = b"\x60\0\0\0" + L4_LENGTH.to_bytes(2, "big") + bytes((protonum, 64)) + pair
    skb = Skb(header + body, 0, ct.iif, ct.oif)
    skb.version = 4 if len(pair) == 8 else 6
    skb.protonum = protonum
    skb.dataoff = len(header)
    skb.end = len(skb.data)
    skb.attach(ct, IP_CT_NEW)
    return skb
