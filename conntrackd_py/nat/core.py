"""Nat: bind a new connection once, then rewrite every packet of it (nf_nat_inet_fn).

A connection is bound while unconfirmed, at most once for its source and once for its destination; where
no rule matches it gets a null binding, which changes a port only if the tuple is taken. After that the
packet's direction, the status bits and the two tuples say all there is to do.

The leak guard is ours, not the kernel's: a packet without a connection that a source rule covers does not
leave, because the rule's author wanted no such packet outside.
"""

from typing import Final, final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NO_INTERFACE, NfConn
from conntrackd_py.conntrack.core import Conntrack, Extension
from conntrackd_py.conntrack.skb import Skb, direction_of, forwarded
from conntrackd_py.const import (
    INVALID,
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
    MANIP_DST,
    MANIP_SRC,
    NEW,
    NF_ACCEPT,
    ORIGINAL,
    POST_ROUTING,
    RELATED,
    RELATED_REPLY,
    UNTRACKED,
)
from conntrackd_py.nat import manip as manips
from conntrackd_py.nat.interfaces import Interfaces, Link
from conntrackd_py.nat.ports import Ports, Range
from conntrackd_py.nat.rules import NAT_MASQUERADE, NAT_REDIRECT, NatRule
from conntrackd_py.nat.ruleset import UNREAD, Flow, Ruleset
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

ENDED_AT_ONCE: Final = 4096  # slots looked at when an address goes; expire() looks at the others


@final
class Nat(Extension):
    def __init__(self, core: Conntrack, rules: list[NatRule], leak_guard: bool) -> None:
        self.core = core
        self.interfaces = Interfaces()
        self.rules = Ruleset(rules, self.interfaces)
        self.ports = Ports(core.table, core.randomness)
        self.leak_guard = leak_guard
        self.withdrawn: dict[tuple[int, bytes], int] = {}  # interface and address that it lost -> slots to look at
        self.looked_at = 0  # slot
        core.extensions.append(self)

    def replace_rules(self, rules: list[NatRule]) -> None:
        """For new connections; what is bound stays bound."""
        self.rules = Ruleset(rules, self.interfaces)

    # --- the two operations ------------------------------------------------------------------------

    def destination(self, skb: Skb, now: int) -> int:
        """Priority -100 at PREROUTING and OUTPUT."""
        return self._run(skb, MANIP_DST, now)

    def source(self, skb: Skb, now: int) -> int:
        """Priority 100 at POSTROUTING and INPUT."""
        if skb.hook == POST_ROUTING and skb.outdev not in self.interfaces.links:
            return self.core.drop(skb, NAT_OIF_UNKNOWN)
        if skb.ct is None:
            return self._guard(skb)
        return self._run(skb, MANIP_SRC, now)

    def _run(self, skb: Skb, manip: int, now: int) -> int:
        ct = skb.ct
        if ct is None:
            return NF_ACCEPT
        if skb.ctinfo == RELATED or skb.ctinfo == RELATED_REPLY:
            if skb.protonum == IPPROTO_ICMP or skb.protonum == IPPROTO_ICMPV6:
                return self._error(skb, ct, manip)
        if skb.ctinfo == NEW or skb.ctinfo == RELATED:
            reason = self._bind(skb, ct, manip)
            if reason:
                self.core.kill(ct, END_NAT_EXHAUSTED if reason == NAT_EXHAUSTED else END_NO_ADDRESS, now)
                return self.core.drop(skb, reason)
        if manip == MANIP_SRC and self._interface_changed(skb, ct):
            self.core.kill(ct, END_OIF_CHANGED, now)
            return self.core.drop(skb, NAT_OIF_CHANGED)
        direction = direction_of(skb.ctinfo)
        if ct.status & _status_bit(manip, direction):
            other = ct.tuple(1 - direction)
            manips.translate(skb, other, manip, ct.l4proto.ports)
            if skb.segments and manip == MANIP_DST and self.interfaces.is_local(tuples.src(other)):
                manips.finish_checksum(skb)  # nobody cuts it before the router's own TCP reads it
        return NF_ACCEPT

    # --- binding --------------------------------------------------------------------------------------

    def _bind(self, skb: Skb, ct: NfConn, manip: int) -> int:
        """Bind ct for this manip unless it is; OK or the reason the packet must be dropped."""
        done = IPS_SRC_NAT_DONE if manip == MANIP_SRC else IPS_DST_NAT_DONE
        if ct.status & (done | IPS_CONFIRMED | IPS_DYING):
            return OK
        current = tuples.swapped(ct.reply, ct.l4proto.invert(tuples.l4(ct.reply)))
        rule = self._rule(skb, ct, current, manip)
        if rule is None:
            wanted = _as_it_is(current, manip)
        else:
            wanted = self._range(rule, skb, current)
            if not wanted.low:
                return NAT_NO_ADDRESS
        chosen = self.ports.unique(current, wanted, ct, manip)
        if not chosen:
            self.core.stats.nat_allocation_failures += 1
            return NAT_EXHAUSTED
        if chosen != current:
            self.core.table.alter_reply(ct, tuples.swapped(chosen, ct.l4proto.invert(tuples.l4(chosen))))
            ct.status |= IPS_SRC_NAT if manip == MANIP_SRC else IPS_DST_NAT
            self.core.stats.nat_allocations += 1
        ct.status |= done
        if manip == MANIP_SRC:
            ct.oif = skb.outdev
            ct.masquerade = rule is not None and rule.action == NAT_MASQUERADE
            if rule is not None:
                self.ports.remember(ct, wanted)
        return OK

    def bind_by_hand(self, ct: NfConn, source: Range | None, destination: Range | None) -> bool:
        """Bind a connection that is in no list yet, destination first, as its maker says; False when nothing is free.

        None is a null binding (ctnetlink_setup_nat).
        """
        for manip, wanted in ((MANIP_DST, destination), (MANIP_SRC, source)):
            current = tuples.swapped(ct.reply, ct.l4proto.invert(tuples.l4(ct.reply)))
            chosen = self.ports.unique(current, wanted or _as_it_is(current, manip), ct, manip)
            if not chosen:
                self.core.stats.nat_allocation_failures += 1
                return False
            if chosen != current:
                ct.reply = tuples.swapped(chosen, ct.l4proto.invert(tuples.l4(chosen)))
                ct.status |= IPS_SRC_NAT if manip == MANIP_SRC else IPS_DST_NAT
                self.core.stats.nat_allocations += 1
            ct.status |= IPS_SRC_NAT_DONE if manip == MANIP_SRC else IPS_DST_NAT_DONE
        return True

    def _rule(self, skb: Skb, ct: NfConn, current: bytes, manip: int) -> NatRule | None:
        """The rule for this hook. INPUT has none of its own; a destination cannot change after routing."""
        if skb.hook == LOCAL_IN or (manip == MANIP_DST and skb.late):
            return None
        sport = dport = -1
        if ct.l4proto.ports:
            sport, dport = tuples.l4src(current), tuples.l4dst(current)
        outdev = skb.outdev if manip == MANIP_SRC else 0
        indev = skb.indev if manip == MANIP_DST else 0
        flow = Flow(tuples.src(current), tuples.dst(current), skb.protonum, sport, dport, indev, outdev)
        return self.rules.source(flow) if manip == MANIP_SRC else self.rules.destination(flow)

    def _range(self, rule: NatRule, skb: Skb, current: bytes) -> Range:
        low, high = rule.to_low, rule.to_high
        if rule.action == NAT_MASQUERADE:
            low = high = self.interfaces.select(skb.outdev, len(tuples.src(current)))
        elif rule.action == NAT_REDIRECT:
            low = high = self.interfaces.select(skb.indev, len(tuples.dst(current)))
        elif not low:  # only ports given
            low = high = tuples.dst(current)
        return Range(low, high, rule.port_low, rule.port_high, rule.random, rule.persistent)

    # --- rewriting errors --------------------------------------------------------------------------------

    def _error(self, skb: Skb, ct: NfConn, manip: int) -> int:
        kind = skb.data[skb.dataoff]
        redirect = kind == (icmp.REDIRECT if skb.protonum == IPPROTO_ICMP else icmp.V6_REDIRECT)
        unfinished = ct.status & IPS_NAT_DONE_MASK != IPS_NAT_DONE_MASK
        if redirect and (unfinished or ct.status & IPS_NAT_MASK):
            return self.core.drop(skb, NAT_MANIP)  # it would teach the wrong route
        direction = direction_of(skb.ctinfo)
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
        if ct.status & IPS_SRC_NAT:
            return False
        current = tuples.swapped(ct.reply, ct.l4proto.invert(tuples.l4(ct.reply)))
        return self._rule(skb, ct, current, MANIP_SRC) is not None

    def _guard(self, skb: Skb) -> int:
        """Drop a packet without a connection if a source rule covers it, or may cover what cannot be read of it."""
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


def _as_it_is(current: bytes, manip: int) -> Range:
    """A null binding's range: the address it has."""
    own = tuples.src(current) if manip == MANIP_SRC else tuples.dst(current)
    return Range(own, own, 0, 0, False, False)


def _status_bit(manip: int, direction: int) -> int:
    """The status bit that says this manip applies in this direction: answers are rewritten the other way."""
    source = (manip == MANIP_SRC) == (direction == ORIGINAL)
    return IPS_SRC_NAT if source else IPS_DST_NAT


def _may_leak(skb: Skb) -> bool:
    """Whether nothing says that this packet without a connection may leave as it is.

    Raw rules make packets UNTRACKED on purpose. Neighbour discovery and MLD are UNTRACKED by their type, and none of
    them is ever forwarded.
    """
    if skb.ctinfo == INVALID:
        return True
    untracked = skb.ctinfo == UNTRACKED and skb.protonum == IPPROTO_ICMPV6 and skb.dataoff < skb.end
    return untracked and icmp.is_v6_untracked(skb.data[skb.dataoff]) and forwarded(skb)
