"""Confirm: the packet leaves, so its new connection enters the hash (the last operation of all).

Source: __nf_conntrack_confirm.
"""

from conntrackd_py.conntrack.conn import REPEAT, NfConn
from conntrackd_py.conntrack.core import Conntrack
from conntrackd_py.conntrack.lookup import judge
from conntrackd_py.conntrack.skb import Skb, direction_of
from conntrackd_py.const import (
    IPCT_NEW,
    IPCT_RELATED,
    IPS_CONFIRMED,
    IPS_DYING,
    IPS_EXPECTED,
    NF_ACCEPT,
    ORIGINAL,
    REPLY,
)
from conntrackd_py.reasons import CONNECTION_LOST, END_INSERT_FAILED, END_JOINED, INSERT_FAILED


def confirm(core: Conntrack, skb: Skb, now: int) -> int:
    """Insert the connection of skb, if new, and report it; returns a verdict."""
    ct = skb.ct
    if ct is None or ct.status & IPS_CONFIRMED or direction_of(skb.ctinfo) != ORIGINAL:
        return NF_ACCEPT
    if ct.status & IPS_DYING or not core.table.insert(ct):
        return _join(core, skb, ct, now)
    ct.oif = skb.outdev
    ct.timeout += now
    core.gc.schedule(ct, now)
    core.stats.insert += 1
    ct.pending_events |= IPCT_RELATED if ct.status & IPS_EXPECTED else IPCT_NEW
    core.report(ct, now)
    return NF_ACCEPT


def _join(core: Conntrack, skb: Skb, ct: NfConn, now: int) -> int:
    """ct cannot be confirmed: attach the packet to the connection that took its tuples, or drop it.

    The other end sent first as well, or an operator made the connection. The kernel merges too, but drops the packets
    of TCP and of translated connections (nf_ct_resolve_clash).
    """
    other = core.table.twin(ct)
    ended = core.kill(ct, END_INSERT_FAILED if other is None else END_JOINED, now)
    if other is None:
        core.stats.insert_failed += ended
        return core.drop(skb, INSERT_FAILED if ended else CONNECTION_LOST)
    core.stats.clash_resolve += 1
    direction = ORIGINAL if other.original == ct.original else REPLY
    if judge(core, skb, other, direction, now, False) == REPEAT:
        return core.drop(skb, INSERT_FAILED)
    return NF_ACCEPT
