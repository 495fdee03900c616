"""Lookup: the connection of a packet, found or created (conntrack_in, priority -200).

Check the packet, find or create its connection, let the tracker judge it, attach it. A new connection enters the hash
only when its first packet leaves (confirm.py).
Sources: nf_conntrack_in, resolve_normal_ct, init_conntrack.
"""

from typing import Final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import (
    KILL,
    LEAVE_UNTRACKED,
    NO_QUOTE,
    REFUSED,
    REOPENED,
    REPEAT,
    UNCOUNTED,
    L4Proto,
    NfConn,
)
from conntrackd_py.conntrack.core import Conntrack
from conntrackd_py.conntrack.evict import drop_oldest_unconfirmed, early_drop
from conntrackd_py.conntrack.icmp_error import relate
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import (
    IP_CT_ESTABLISHED,
    IP_CT_ESTABLISHED_REPLY,
    IP_CT_NEW,
    IP_CT_RELATED,
    IP_CT_RELATED_REPLY,
    IP_CT_UNTRACKED,
    IPCT_DESTROY,
    IPCT_NEW,
    IPCT_REPLY,
    IPS_CONFIRMED,
    IPS_EXPECTED,
    IPS_OFFLOAD,
    IPS_SEEN_REPLY,
    IPS_SEQ_ADJUST,
    LOCAL_OUT,
    NF_ACCEPT,
    NF_DROP,
    ORIGINAL,
    PRE_ROUTING,
    REPLY,
)
from conntrackd_py.reasons import (
    COPY_TRUNCATED,
    END_REOPENED,
    END_RST,
    END_TIMEOUT,
    HOST_LIMIT,
    L4_TRUNCATED,
    TABLE_FULL,
    TUPLE_NOT_INVERTIBLE,
)
from conntrackd_py.wire.ip import addresses
from conntrackd_py.wire.packet import u32

UNCONFIRMED_LIMIT: Final = 32_768  # more than the kernel's queues hold; or half the table, if that is less


def conntrack_in(core: Conntrack, skb: Skb, now: int) -> int:
    """Attach skb, parsed, to its connection, or leave it INVALID or UNTRACKED; returns a verdict."""
    if skb.ctinfo == IP_CT_UNTRACKED:
        return NF_ACCEPT
    l4proto = core.protos[skb.protonum]
    reason = l4proto.check(skb, core.checksum and skb.hook == PRE_ROUTING and not (skb.checksum_partial or skb.copy))
    if reason:
        return core.refuse(skb, reason)
    inner = l4proto.quotes(skb)
    if inner == LEAVE_UNTRACKED:
        skb.ctinfo = IP_CT_UNTRACKED
        return NF_ACCEPT
    if inner != NO_QUOTE:
        reason = relate(core.table, core.protos, skb, inner, now)
        return core.refuse(skb, reason) if reason else NF_ACCEPT
    l4 = l4proto.l4(skb)
    if not l4:
        return core.refuse(skb, COPY_TRUNCATED if skb.end < skb.length else L4_TRUNCATED)
    return _track(core, skb, tuples.make(addresses(skb), l4, skb.protonum), l4proto, now)


def _track(core: Conntrack, skb: Skb, t: bytes, l4proto: L4Proto, now: int) -> int:
    if skb.zone_original or skb.zone_reply:
        t = _zoned(core, skb, t, now)
    ct = lookup(core, t, now)
    new = ct is None
    if ct is None and skb.hook == LOCAL_OUT and _resets_pending(core, skb, t, l4proto):
        return NF_ACCEPT
    if ct is None:
        ct = _create(core, skb, t, l4proto, now)
        if ct is None:
            return NF_DROP if skb.reason in (TABLE_FULL, HOST_LIMIT) else NF_ACCEPT
    if judge(core, skb, ct, ORIGINAL if ct.original == t else REPLY, now, new) == REPEAT:
        core.kill(ct, END_REOPENED, now)
        skb.ack_offset = 0
        return _track(core, skb, tuples.bare(t), l4proto, now)
    return NF_ACCEPT


def _zoned(core: Conntrack, skb: Skb, t: bytes, now: int) -> bytes:
    """t with its zone: the reply zone if t answers a connection there, else the original zone."""
    answer = tuples.with_zone(t, skb.zone_reply)
    ct = core.table.find(answer)
    if ct is not None and ct.reply == answer and ct.timeout > now:
        return answer
    return tuples.with_zone(t, skb.zone_original)


def lookup(core: Conntrack, t: bytes, now: int) -> NfConn | None:
    """The connection with tuple t. One that has expired ends here and is not returned."""
    ct = core.table.find(t)
    if ct is not None:
        if not core.expired(ct, now):
            core.stats.found += 1
            return ct
        core.kill(ct, END_TIMEOUT, now)
    ct = core.table.pending.get(t)
    if ct is not None and ct.original == t:
        core.stats.clash_resolve += 1  # the kernel would make a second one and merge them later
        return ct
    return None  # not its reply: with an untranslated source, t may be another connection


def _resets_pending(core: Conntrack, skb: Skb, t: bytes, l4proto: L4Proto) -> bool:
    """Attach the RST with which a REJECT rule answers a first packet (nf_ct_attach); False for other packets."""
    if not l4proto.resets(skb):
        return False
    ct = core.table.pending.get(t)
    if ct is None or ct.original == t:
        return False
    skb.attach(ct, IP_CT_RELATED_REPLY)
    return True


def _create(core: Conntrack, skb: Skb, t: bytes, l4proto: L4Proto, now: int) -> NfConn | None:
    """A new unconfirmed connection. None when t has no inverse or a limit is reached; skb then has the reason."""
    l4 = l4proto.invert(tuples.l4(t))
    if not l4:
        core.refuse(skb, TUPLE_NOT_INVERTIBLE)
        return None
    hosts = core.table.hosts
    if hosts.limit and skb.indev and hosts.reached(t):
        hosts.refused += 1
        _refuse_new(core, skb, HOST_LIMIT, hosts.count(t), hosts.limit)
        return None
    waiting = len(core.table.unconfirmed)
    if waiting >= UNCONFIRMED_LIMIT or (core.limit and waiting * 2 > core.limit):
        drop_oldest_unconfirmed(core, now)
    if core.limit and len(core.table) >= core.limit and not early_drop(core, now):
        core.stats.table_full += 1
        _refuse_new(core, skb, TABLE_FULL, len(core.table), core.limit)
        return None
    reply = tuples.swapped(t, l4)
    if skb.zone_original or skb.zone_reply:
        reply = tuples.with_zone(tuples.bare(reply), skb.zone_reply)
    if skb.protos is not None:
        l4proto = skb.protos[skb.protonum]
    ct = NfConn(t, reply, l4proto, now)
    ct.iif = skb.indev
    core.table.allocate(ct)
    expected = core.expectations.find(t, now)
    if expected is not None:
        ct.status |= IPS_EXPECTED
        ct.master = expected.master
        ct.mark = expected.master.mark
    if expected is not None or skb.helper:
        for extension in core.extensions:
            extension.created(ct, skb.helper, expected)
    return ct


def _refuse_new(core: Conntrack, skb: Skb, reason: int, entries: int, limit: int) -> None:
    core.stats.drop += 1
    core.stats.reasons[reason] += 1
    skb.detach(reason)
    skb.numbers = (entries, limit)


def judge(core: Conntrack, skb: Skb, ct: NfConn, direction: int, now: int, new: bool) -> int:
    """Let the tracker judge a packet of ct and act on the outcome, which it returns; REPEAT is left to the caller."""
    if ct.status & IPS_OFFLOAD:
        for extension in core.extensions:
            extension.returned(ct, skb, now)
    old_state = ct.state
    if ct.status & IPS_SEQ_ADJUST:
        _find_ack_offset(core, skb, ct, direction)
    outcome = ct.l4proto.packet(ct, skb, direction, now, new)
    if outcome == REPEAT:
        return REPEAT
    core.follow(ct, old_state, now)
    if outcome == REFUSED:
        if new:
            core.discard(ct)
        core.refuse(skb, skb.reason)
        return REFUSED
    if skb.reason:
        core.stats.reasons[skb.reason] += 1
    if core.accounting and outcome != UNCOUNTED:
        ct.account(direction, skb.length)
    if outcome == KILL:
        core.kill(ct, END_RST, now)  # reported before this packet counts as a reply, as by the kernel
    _attach(skb, ct, direction)
    if outcome == REOPENED:
        _restart(core, ct, now)
    elif ct.pending_events and ct.status & IPS_CONFIRMED and outcome != KILL:
        core.report(ct, now)
    return outcome


def _find_ack_offset(core: Conntrack, skb: Skb, ct: NfConn, direction: int) -> None:
    """Set skb.ack_offset, unless the first visit has adjusted the packet."""
    adjustment = core.seqadj.get(ct.slot)
    if adjustment is not None and skb.hook in (PRE_ROUTING, LOCAL_OUT):
        ack = u32(skb.data, skb.dataoff + 8)
        skb.ack_offset = (ack - adjustment.sides[1 - direction].sent(ack)) & 0xFFFFFFFF


def _attach(skb: Skb, ct: NfConn, direction: int) -> None:
    if direction == REPLY:
        skb.attach(ct, IP_CT_ESTABLISHED_REPLY)
        if not ct.status & IPS_SEEN_REPLY:
            ct.status |= IPS_SEEN_REPLY
            ct.pending_events |= IPCT_REPLY
    elif ct.status & IPS_SEEN_REPLY:
        skb.attach(ct, IP_CT_ESTABLISHED)
    else:
        skb.attach(ct, IP_CT_RELATED if ct.status & IPS_EXPECTED else IP_CT_NEW)


def _restart(core: Conntrack, ct: NfConn, now: int) -> None:
    """Report the end of one connection and the start of another in the same entry; reset counters and age."""
    core.stats.ended[END_REOPENED] += 1
    core.stats.insert += 1
    ct.end_reason = END_REOPENED
    core.events.report(IPCT_DESTROY, now, ct)
    ct.counters = None
    ct.status &= ~IPS_SEQ_ADJUST
    core.seqadj.pop(ct.slot, None)
    ct.born = now
    ct.pending_events = IPCT_NEW
    core.report(ct, now)
