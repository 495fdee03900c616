"""Nat: bind a new connection once, then rewrite every packet of it (nf_nat_inet_fn).

A connection is bound while unconfirmed, at most once for its source and once for its destination; where
no rule matches it gets a null binding, which changes a port only if the tuple is taken. After that the
packet's direction, the status bits and the two tuples say all there is to do.

Early source: a connection to the router itself whose source port is taken gets its other port at PREROUTING.
Between PREROUTING and INPUT the kernel looks for the packet's socket (early demultiplexing); it would find that of
the connection that has the port. The kernel's own NAT changes the port at INPUT and orphans the packet there. Answers
get the client's port back at POSTROUTING, so that until then no two connections look alike.

The leak guard is ours, not the kernel's: a packet without a connection that a source rule covers does not
leave, because the rule's author wanted no such packet outside.
"""

from typing import Final, final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NO_INTERFACE, NfConn
from conntrackd_py.conntrack.core import Conntrack, Extension
from conntrackd_py.conntrack.skb import Skb, direction_of, forwarded
from conntrackd_py.const import (
    IP_CT_NEW,
    IP_CT_RELATED,
    IP_CT_RELATED_REPLY,
    IP_CT_UNTRACKED,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPS_CONFIRMED,
    IPS_DST_NAT,
    IPS_DST_NAT_DONE,
    IPS_DYING,
    IPS_NAT_DONE_MASK,
    IPS_NAT_MASK,
    IPS_SRC_NAT,
    IPS_SRC_NAT_DONE,
    LOCAL_IN,
    LOCAL_OUT,
    MANIP_DST,
    MANIP_SRC,
    NF_ACCEPT,
    NF_DROP,
    ORIGINAL,
    POST_ROUTING,
    PRE_ROUTING,
    REPLY,
)
from conntrackd_py.nat import manip as manips
from conntrackd_py.nat.binding import as_it_is, flow_of, range_of
from conntrackd_py.nat.interfaces import Interfaces, Link
from conntrackd_py.nat.pool import Pool
from conntrackd_py.nat.ports import Ports, Range
from conntrackd_py.nat.portuse import PortUse
from conntrackd_py.nat.rules import NAT_MASQUERADE, NatRule
from conntrackd_py.nat.ruleset import UNREAD, Flow, Ruleset, translating
from conntrackd_py.reasons import (
    END_ADDRESS_GONE,
    END_NAT_EXHAUSTED,
    END_NO_ADDRESS,
    END_OIF_CHANGED,
    LEAK_GUARD,
    NAT_EXHAUSTED,
    NAT_MANIP,
    NAT_NO_ADDRESS,
    NAT_OIF_CHANGED,
    NAT_OIF_UNKNOWN,
    OK,
)
from conntrackd_py.wire import icmp, ip
from conntrackd_py.wire.packet import u16

ENDED_AT_ONCE: Final = 4096  # slots looked at when an address goes; expire() looks at the others


@final
class Nat(Extension):
    def __init__(self, core: Conntrack, rules: list[NatRule], leak_guard: bool) -> None:
        self.core = core
        self.interfaces = Interfaces()
        self.rules = Ruleset(rules, self.interfaces)
        self.ports = Ports(core.table, core.randomness)
        self.use = PortUse(self.interfaces)
        self.use.replace_rules(self.rules.source_rules)
        self.null_binding = Pool()  # what connections got that no rule matched
        self.by_hand = Pool()  # and those made by hand
        self.leak_guard = leak_guard
        self.withdrawn: dict[tuple[int, bytes], int] = {}  # interface and address that it lost -> slots to look at
        self.looked_at = 0  # slot
        core.extensions.append(self)

    def replace_rules(self, rules: list[NatRule]) -> None:
        """For new connections; what is bound stays bound."""
        self.rules = Ruleset(rules, self.interfaces)
        self.use.replace_rules(self.rules.source_rules)

    # --- the two operations ------------------------------------------------------------------------

    def destination(self, skb: Skb, now: int) -> int:
        """Priority -100 at PREROUTING and OUTPUT."""
        ct = skb.ct
        if ct is None or (ct.source_early and skb.hook == LOCAL_OUT):
            return NF_ACCEPT
        if self._run(skb, MANIP_DST, now) == NF_DROP:
            return NF_DROP
        if skb.hook != PRE_ROUTING or not (ct.source_early or self._port_taken_here(ct)) or _is_error(skb):
            return NF_ACCEPT
        return self._run(skb, MANIP_SRC, now)

    def source(self, skb: Skb, now: int) -> int:
        """Priority 100 at POSTROUTING and INPUT."""
        if skb.hook == POST_ROUTING and skb.outdev not in self.interfaces.links:
            return self.core.drop(skb, NAT_OIF_UNKNOWN)
        ct = skb.ct
        if ct is None:
            return self._guard(skb)
        if ct.source_early and skb.hook == POST_ROUTING:
            if direction_of(skb.ctinfo) == REPLY:
                if self._run(skb, MANIP_DST, now) == NF_DROP:
                    return NF_DROP
            elif not ct.status & (IPS_CONFIRMED | IPS_DYING):
                self._unbind_early(skb, ct)
        before = skb.data
        verdict = self._run(skb, MANIP_SRC, now)
        if skb.segments and skb.hook == LOCAL_IN and ct.status & IPS_NAT_MASK:
            if skb.data is not before or not self.interfaces.is_local(ip.destination(skb)):
                manips.finish_checksum(skb)  # PREROUTING could not know that it is for the router
        return verdict

    def _run(self, skb: Skb, manip: int, now: int) -> int:
        ct = skb.ct
        if ct is None:
            return NF_ACCEPT
        if _is_error(skb):
            return self._error(skb, ct, manip)
        if skb.ctinfo == IP_CT_NEW or skb.ctinfo == IP_CT_RELATED:
            reason = self._bind(skb, ct, manip)
            if reason:
                self.core.kill(ct, END_NAT_EXHAUSTED if reason == NAT_EXHAUSTED else END_NO_ADDRESS, now)
                return self.core.drop(skb, reason)
        if manip == MANIP_SRC and self._interface_changed(skb, ct):
            self.core.kill(ct, END_OIF_CHANGED, now)
            return self.core.drop(skb, NAT_OIF_CHANGED)
        direction = direction_of(skb.ctinfo)
        if ct.status & _status_bit(manip, direction):
            self._translate(skb, ct, ct.tuple(1 - direction), manip)
        return NF_ACCEPT

    def _translate(self, skb: Skb, ct: NfConn, other: bytes, manip: int) -> None:
        if manip == MANIP_SRC and ct.source_early and u16(skb.data, skb.dataoff) == tuples.l4dst(other):
            return  # PREROUTING did it
        manips.translate(skb, other, manip, ct.l4proto.ports)
        if not skb.segments or not skb.checksum_partial:
            return
        early = manip == MANIP_SRC and skb.hook == PRE_ROUTING
        if early or (manip == MANIP_DST and self.interfaces.is_local(tuples.src(other))):
            manips.finish_checksum(skb)  # no segmentation before the router's own TCP verifies it

    # --- binding --------------------------------------------------------------------------------------

    def _bind(self, skb: Skb, ct: NfConn, manip: int) -> int:
        """Bind ct for this manip unless it is; OK or the reason the packet must be dropped."""
        done = IPS_SRC_NAT_DONE if manip == MANIP_SRC else IPS_DST_NAT_DONE
        if ct.status & (done | IPS_CONFIRMED | IPS_DYING):
            return OK
        current = tuples.swapped(ct.reply, ct.l4proto.invert(tuples.l4(ct.reply)))
        first = self._rule(skb, ct, current, manip)
        pool = self.null_binding if first is None else first.pool
        pool.connections += 1
        rule = translating(first)
        if rule is None:
            wanted = as_it_is(current, manip)
        else:
            wanted = range_of(rule, self.interfaces, skb.indev, skb.outdev, current)
            if not wanted.low:
                return NAT_NO_ADDRESS
        chosen = self.ports.unique(current, wanted, ct, manip)
        if not chosen:
            self._failed(pool)
            return NAT_EXHAUSTED
        if chosen != current:
            self.core.table.alter_reply(ct, tuples.swapped(chosen, ct.l4proto.invert(tuples.l4(chosen))))
            ct.status |= IPS_SRC_NAT if manip == MANIP_SRC else IPS_DST_NAT
            self._allocated(pool)
        ct.status |= done
        if manip == MANIP_SRC:
            ct.oif = skb.outdev
            ct.source_early = chosen != current and skb.hook != POST_ROUTING and ct.l4proto.ports
            ct.masquerade = rule is not None and rule.action == NAT_MASQUERADE
            if rule is not None:
                self.ports.remember(ct, wanted)
                self.use.take(ct, rule)
        return OK

    def _allocated(self, pool: Pool) -> None:
        pool.allocations += 1
        self.core.stats.nat_allocations += 1

    def _failed(self, pool: Pool) -> None:
        pool.failures += 1
        self.core.stats.nat_allocation_failures += 1

    def _port_taken_here(self, ct: NfConn) -> bool:
        """Whether ct is new and its tuple belongs to a connection with the router itself: ct is for the router, too."""
        if not ct.l4proto.ports or ct.status & (IPS_SRC_NAT_DONE | IPS_CONFIRMED | IPS_DYING):
            return False
        owner = self.core.table.find(ct.reply)
        if owner is None or owner is ct:
            return False
        return not (owner.oif if owner.reply == ct.reply else owner.iif)

    def _unbind_early(self, skb: Skb, ct: NfConn) -> None:
        """Undo an early source: routing sends the packet on, so a source rule may apply."""
        current = tuples.swapped(ct.reply, ct.l4proto.invert(tuples.l4(ct.reply)))
        current = tuples.with_src(current, tuples.src(ct.original), tuples.l4src(ct.original))
        self.core.table.alter_reply(ct, tuples.swapped(current, ct.l4proto.invert(tuples.l4(current))))
        ct.status &= ~(IPS_SRC_NAT | IPS_SRC_NAT_DONE)
        ct.source_early = False
        manips.translate(skb, ct.reply, MANIP_SRC, ct.l4proto.ports)

    def bind_by_hand(self, ct: NfConn, source: Range | None, destination: Range | None) -> bool:
        """Bind a connection that is in no list yet, destination first, as its maker says; False when nothing is free.

        None is a null binding (ctnetlink_setup_nat).
        """
        for manip, wanted in ((MANIP_DST, destination), (MANIP_SRC, source)):
            current = tuples.swapped(ct.reply, ct.l4proto.invert(tuples.l4(ct.reply)))
            chosen = self.ports.unique(current, wanted or as_it_is(current, manip), ct, manip)
            if not chosen:
                self._failed(self.by_hand)
                return False
            if chosen != current:
                ct.reply = tuples.swapped(chosen, ct.l4proto.invert(tuples.l4(chosen)))
                ct.status |= IPS_SRC_NAT if manip == MANIP_SRC else IPS_DST_NAT
                self._allocated(self.by_hand)
            ct.status |= IPS_SRC_NAT_DONE if manip == MANIP_SRC else IPS_DST_NAT_DONE
        return True

    def _rule(self, skb: Skb, ct: NfConn, current: bytes, manip: int) -> NatRule | None:
        """The first rule here. Only POSTROUTING has source rules; a destination cannot change after routing."""
        if skb.hook != POST_ROUTING if manip == MANIP_SRC else skb.seen_after_routing:
            return None
        if manip == MANIP_SRC:
            return self.rules.first_source(flow_of(ct, current, 0, skb.outdev))
        return self.rules.first_destination(flow_of(ct, current, skb.indev, 0))

    # --- rewriting errors --------------------------------------------------------------------------------

    def _error(self, skb: Skb, ct: NfConn, manip: int) -> int:
        kind = skb.data[skb.dataoff]
        redirect = kind == (icmp.REDIRECT if skb.protonum == IPPROTO_ICMP else icmp.V6_REDIRECT)
        unfinished = ct.status & IPS_NAT_DONE_MASK != IPS_NAT_DONE_MASK
        if redirect and (unfinished or ct.status & IPS_NAT_MASK):
            return self.core.drop(skb, NAT_MANIP)  # it would teach the wrong route
        direction = direction_of(skb.ctinfo)
        if manip == MANIP_SRC and direction == ORIGINAL and tuples.dst(ct.reply) == tuples.src(ct.original):
            # The connection's address is not translated, so no tuple says what the source of the error is to be.
            if self._guard(skb) == NF_DROP:
                return NF_DROP
        if not ct.status & _status_bit(manip, direction):
            return NF_ACCEPT
        inner_at = self.core.protos[skb.protonum].quotes(skb)
        if not manips.translate_error(skb, inner_at, ct.tuple(1 - direction), manip, ct.l4proto.ports):
            return self.core.drop(skb, NAT_MANIP)
        return NF_ACCEPT

    # --- what the kernel does not do ---------------------------------------------------------------------

    def _interface_changed(self, skb: Skb, ct: NfConn) -> bool:
        """Its route now leads out of another interface, where its binding is wrong or missing.

        Also one that ended at the router: its destination address may have moved away.
        """
        if skb.hook != POST_ROUTING or ct.oif == NO_INTERFACE or skb.outdev == ct.oif:
            return False
        if direction_of(skb.ctinfo) != ORIGINAL:
            return False
        if ct.masquerade:
            return True
        if tuples.dst(ct.reply) != tuples.src(ct.original):
            return False  # its address is translated; a null binding may have changed the port alone
        current = tuples.swapped(ct.reply, ct.l4proto.invert(tuples.l4(ct.reply)))
        return translating(self._rule(skb, ct, current, MANIP_SRC)) is not None

    def _guard(self, skb: Skb) -> int:
        """Drop a packet whose source nothing settles, if a rule covers it, or may cover what cannot be read of it."""
        if not self.leak_guard or skb.hook != POST_ROUTING or not _may_leak(skb):
            return NF_ACCEPT
        reason = ip.parse(skb)
        if not skb.version:
            leaks = self.rules.translates(skb.outdev)
            return self.core.drop(skb, LEAK_GUARD) if leaks else NF_ACCEPT
        pair = ip.addresses(skb)
        source = pair[: len(pair) // 2]
        if self.interfaces.owns(skb.outdev, source):
            return NF_ACCEPT
        rule = self.rules.source(self._guarded_flow(skb, pair, reason))
        if rule is None or (rule.to_low and rule.to_low <= source <= rule.to_high):
            return NF_ACCEPT
        return self.core.drop(skb, LEAK_GUARD)

    def _guarded_flow(self, skb: Skb, pair: bytes, reason: int) -> Flow:
        """What source rules can ask about a packet; reason: why it cannot be read whole."""
        n = len(pair) // 2
        l4proto = self.core.protos[skb.protonum]
        l4 = l4proto.l4(skb) if not reason else b""
        protonum = UNREAD if reason and skb.version == 6 else skb.protonum  # 6: an extension header is broken
        sport = dport = UNREAD if protonum == UNREAD or l4proto.ports else -1
        if l4proto.ports and l4:
            sport, dport = l4[0] << 8 | l4[1], l4[2] << 8 | l4[3]
        return Flow(pair[:n], pair[n:], protonum, sport, dport, 0, skb.outdev)

    # --- interfaces come and go ------------------------------------------------------------------------------

    def set_interface(self, index: int, name: str, addresses: list[bytes], now: int) -> None:
        """Tell name and addresses; masqueraded connections of an address that is gone end."""
        for address in addresses:
            self.withdrawn.pop((index, address), None)
        self._withdraw(index, self.interfaces.replace(index, Link(name, addresses)), now)

    def remove_interface(self, index: int, now: int) -> None:
        self._withdraw(index, self.interfaces.replace(index, None), now)

    def _withdraw(self, index: int, gone: list[bytes], now: int) -> None:
        for address in gone:
            self.withdrawn[(index, address)] = len(self.core.table.slots)
        self.expire(now, ENDED_AT_ONCE)

    def expire(self, now: int, budget: int) -> int:
        """End connections masqueraded as a withdrawn address, looking at `budget` slots; returns how many ended."""
        if not self.withdrawn:
            return 0
        slots = self.core.table.slots
        budget = min(budget, len(slots))
        ended = 0
        for _ in range(budget):
            self.looked_at = (self.looked_at + 1) % len(slots)
            ct = slots[self.looked_at]
            if ct is not None and ct.masquerade and (ct.oif, tuples.dst(ct.reply)) in self.withdrawn:
                ended += self.core.kill(ct, END_ADDRESS_GONE, now)
        self.withdrawn = {where: left - budget for where, left in self.withdrawn.items() if left > budget}
        return ended

    def destroyed(self, ct: NfConn) -> None:
        if ct.status & IPS_SRC_NAT_DONE:
            self.ports.forget(ct)
            self.use.give(ct)


def _is_error(skb: Skb) -> bool:
    """Whether skb is an ICMP error about its connection."""
    if skb.ctinfo != IP_CT_RELATED and skb.ctinfo != IP_CT_RELATED_REPLY:
        return False
    return skb.protonum == IPPROTO_ICMP or skb.protonum == IPPROTO_ICMPV6


def _status_bit(manip: int, direction: int) -> int:
    """The status bit that says this manip applies in this direction: answers are rewritten the other way."""
    source = (manip == MANIP_SRC) == (direction == ORIGINAL)
    return IPS_SRC_NAT if source else IPS_DST_NAT


def _may_leak(skb: Skb) -> bool:
    """Whether nothing says that this packet, INVALID, UNTRACKED or an ICMP error, may leave as it is.

    Raw rules make packets UNTRACKED on purpose. Neighbour discovery and MLD are UNTRACKED by their type, and none of
    them is ever forwarded.
    """
    if skb.ctinfo != IP_CT_UNTRACKED:
        return True
    untracked = skb.ctinfo == IP_CT_UNTRACKED and skb.protonum == IPPROTO_ICMPV6 and skb.dataoff < skb.end
    return untracked and icmp.is_v6_untracked(skb.data[skb.dataoff]) and forwarded(skb)
