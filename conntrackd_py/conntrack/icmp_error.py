"""ICMP errors: find the connection whose packet an error quotes, and attach the error to it as RELATED.

An error never makes, refreshes or ends a connection. It must be addressed to the end the quoted packet
came from, and quote a packet of its own IP version: rewriting another one would put addresses of the wrong length into
it. Sources: nf_conntrack_inet_error; for the router's own errors nf_ct_attach.
"""

from typing import TYPE_CHECKING, Final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.table import Table
from conntrackd_py.const import IP_CT_RELATED, IP_CT_RELATED_REPLY, LOCAL_OUT
from conntrackd_py.reasons import (
    ICMP_INNER,
    ICMP_OUTER,
    ICMP_UNRELATED,
    IP_VERSION,
    L4_TRUNCATED,
    OK,
    TUPLE_NOT_INVERTIBLE,
)
from conntrackd_py.wire import ip

if TYPE_CHECKING:
    from conntrackd_py.conntrack.l4proto import L4Proto

INNER_TRACKED: Final = 0  # what L4Proto.quotes answers for a packet that quotes nothing
INNER_UNTRACKED: Final = -1  # and for one that is to be left untracked


def inner_tuple(protos: "list[L4Proto]", skb: Skb, at: int) -> bytes:
    """The tuple the quoted packet's receiver would have answered with; empty when it cannot be read."""
    inner = Skb(skb.data[at : skb.end])
    reason = ip.parse(inner, quoted=True)
    if reason:
        skb.numbers = (reason, *inner.numbers)
        return b""
    if inner.version != skb.version:
        skb.numbers = (IP_VERSION, inner.version, skb.version)
        return b""
    l4proto = protos[inner.protonum]
    l4 = l4proto.l4(inner)
    if not l4:
        skb.numbers = (L4_TRUNCATED, inner.end - inner.dataoff)
        return b""
    answer = l4proto.invert(l4)
    if not answer:
        skb.numbers = (TUPLE_NOT_INVERTIBLE,)
        return b""
    return tuples.swapped(tuples.make(ip.addresses(inner), l4, inner.protonum), answer)


def relate(table: Table, protos: "list[L4Proto]", skb: Skb, at: int, now: int) -> int:
    """Attach the error skb, which quotes a packet at offset `at`; returns OK or why it is INVALID."""
    t = inner_tuple(protos, skb, at)
    if not t:
        return ICMP_INNER
    ct = table.find(tuples.with_zone(t, skb.zone_original))
    if ct is None and skb.zone_reply != skb.zone_original:
        ct = table.find(tuples.with_zone(t, skb.zone_reply))
    if ct is not None and ct.timeout <= now:
        ct = None
    if ct is None and skb.hook == LOCAL_OUT:
        return _relate_own(table, protos, skb, t)
    if ct is None:
        return ICMP_UNRELATED
    if tuples.dst(t) != outer_destination(skb):
        skb.numbers = (int.from_bytes(outer_destination(skb), "big"), int.from_bytes(tuples.dst(t), "big"))
        return ICMP_OUTER
    skb.attach(ct, IP_CT_RELATED if tuples.bare(ct.original) == t else IP_CT_RELATED_REPLY)
    return OK


def _relate_own(table: Table, protos: "list[L4Proto]", skb: Skb, t: bytes) -> int:
    """Attach an error of the router's own; t answers to the quoted packet.

    The kernel quotes a packet as it is between its two visits: its destination is translated, its source not yet,
    and its connection may be unconfirmed. The kernel attaches its error to the connection of that packet.
    """
    quoted = tuples.swapped(t, protos[tuples.protonum(t)].invert(tuples.l4(t)))
    ct = table.find_routed(quoted)
    if ct is not None:
        backward = ct.reply == quoted or tuples.routed(ct.reply, ct.original) == quoted
    else:
        ct = table.pending.get(t)
        backward = False  # an unconfirmed connection has had no reply
    if ct is None:
        return ICMP_UNRELATED
    skb.attach(ct, IP_CT_RELATED if backward else IP_CT_RELATED_REPLY)
    return OK


def outer_destination(skb: Skb) -> bytes:
    pair = ip.addresses(skb)
    return pair[len(pair) // 2 :]
