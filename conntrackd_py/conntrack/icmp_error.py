"""ICMP errors: find the connection of the quoted packet and attach the error to it as RELATED.

An error never creates, refreshes or ends a connection. It must go to the source of the quoted packet and have the same
IP version: NAT of a mixed pair would insert addresses of the wrong length.
Sources: nf_conntrack_inet_error; for the router's own errors nf_ct_attach.
"""

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import L4Proto
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.table import Table
from conntrackd_py.const import IP_CT_RELATED, IP_CT_RELATED_REPLY, LOCAL_OUT
from conntrackd_py.reasons import (
    COPY_TRUNCATED,
    ICMP_INNER,
    ICMP_OUTER,
    ICMP_UNRELATED,
    IP_HEADER,
    IP_TRUNCATED,
    IP_VERSION,
    L4_TRUNCATED,
    OK,
    TUPLE_NOT_INVERTIBLE,
)
from conntrackd_py.wire import ip
from conntrackd_py.wire.packet import Packet


def inner_tuple(protos: list[L4Proto], packet: Packet, at: int) -> bytes:
    """The inverted tuple of the packet quoted at offset `at`; empty when it cannot be read."""
    inner = Packet(packet.data[at : packet.end])
    reason = ip.parse(inner, quoted=True)
    if reason:
        packet.numbers = (reason, *inner.numbers)
        return b""
    if inner.version != packet.version:
        packet.numbers = (IP_VERSION, inner.version, packet.version)
        return b""
    l4proto = protos[inner.protonum]
    l4 = l4proto.l4(inner)
    if not l4:
        packet.numbers = (L4_TRUNCATED, inner.end - inner.dataoff)
        return b""
    answer = l4proto.invert(l4)
    if not answer:
        packet.numbers = (TUPLE_NOT_INVERTIBLE,)
        return b""
    return tuples.swapped(tuples.make(ip.addresses(inner), l4, inner.protonum), answer)


def relate(table: Table, protos: list[L4Proto], skb: Skb, at: int, now: int) -> int:
    """Attach the error skb, which quotes a packet at offset `at`; returns OK or why it is INVALID."""
    t = inner_tuple(protos, skb, at)
    if not t:
        cut = skb.end < skb.length and skb.numbers[0] in (IP_TRUNCATED, IP_HEADER, L4_TRUNCATED)
        return COPY_TRUNCATED if cut else ICMP_INNER
    ct = table.find(tuples.with_zone(t, skb.zone_original))
    if ct is None and skb.zone_reply != skb.zone_original:
        ct = table.find(tuples.with_zone(t, skb.zone_reply))
    if ct is not None and ct.timeout <= now:
        ct = None
    if ct is None and skb.hook == LOCAL_OUT:
        return _relate_own(table, protos, skb, t)
    if ct is None:
        return ICMP_UNRELATED
    destination = ip.destination(skb)
    if tuples.dst(t) != destination:
        skb.numbers = (int.from_bytes(destination, "big"), int.from_bytes(tuples.dst(t), "big"))
        return ICMP_OUTER
    skb.attach(ct, IP_CT_RELATED if tuples.bare(ct.original) == t else IP_CT_RELATED_REPLY)
    return OK


def _relate_own(table: Table, protos: list[L4Proto], skb: Skb, t: bytes) -> int:
    """Attach an error that the router itself sends; t: the inverted tuple of the quoted packet.

    The kernel quotes a packet as it is between its two visits: destination translated, source not yet. The connection
    may be unconfirmed.
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
