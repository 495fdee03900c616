"""NAT: bind a new connection once, then rewrite each of its packets (nf_nat_inet_fn).

An unconfirmed connection is bound once for its source and once for its destination. Without a matching rule it gets a
null binding, which changes a port only if the tuple is taken. Afterwards the packet's direction, the status bits and
the two tuples determine the rewriting.

Early source: a connection to the router itself whose source port is taken gets another port already at PREROUTING.
Between PREROUTING and INPUT the kernel looks for the socket of the packet (early demultiplexing) and would find that
of the connection with the same port. The kernel's NAT changes the port at INPUT and orphans the packet there. Answers
get the client's port back at POSTROUTING; until then no two connections have the same tuple.
"""

from typing import Final, final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NO_INTERFACE, NfConn
from conntrackd_py.conntrack.core import Conntrack, Extension
from conntrackd_py.conntrack.skb import Skb, direction_of
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import (
    IP_CT_NEW,
    IP_CT_RELATED,
    IPPROTO_ICMP,
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
from conntrackd_py.nat.binding import info_of, inverted, is_error, masquerade_range, null_range, range_of, status_bit
from conntrackd_py.nat.carrier import block_choice
from conntrackd_py.nat.carrier.blocks import Blocks
from conntrackd_py.nat.interfaces import Interfaces, Link
from conntrackd_py.nat.leak_guard import leaks
from conntrackd_py.nat.mapping import Endpoints, Mapping, independent
from conntrackd_py.nat.masquerade import Masquerade
from conntrackd_py.nat.ports import Ports
from conntrackd_py.nat.range import Range
from conntrackd_py.nat.rewrite import manip as manips
from conntrackd_py.nat.rewrite.rewriter import Rewriter
from conntrackd_py.nat.rules import NAT_MASQUERADE, NatRule
from conntrackd_py.nat.ruleset import Ruleset, translating
from conntrackd_py.nat.usage.pool import Pool
from conntrackd_py.nat.usage.port_usage import PortUsage
from conntrackd_py.reasons import (
    BLOCK_LIMIT,
    END_FILTERED,
    END_NAT_EXHAUSTED,
    END_NO_ADDRESS,
    END_OIF_CHANGED,
    LEAK_GUARD,
    NAT_EXHAUSTED,
    NAT_FILTERED,
    NAT_MANIP,
    NAT_NO_ADDRESS,
    NAT_OIF_CHANGED,
    NAT_OIF_UNKNOWN,
    OK,
)
from conntrackd_py.wire import icmp, ip
from conntrackd_py.wire.packet import u16

ENDS: Final = {NAT_NO_ADDRESS: END_NO_ADDRESS, NAT_FILTERED: END_FILTERED}  # reason -> why the connection ended


@final
class Nat(Extension):
    def __init__(
        self, core: Conntrack, rules: list[NatRule], leak_guard: bool, tunables: Tunables | None = None
    ) -> None:
        self.core = core
        self.interfaces = Interfaces()
        self.rules = Ruleset(rules, self.interfaces)
        self.ports = Ports(core.table, core.randomness, self.interfaces)
        self.port_usage = PortUsage(self.interfaces)
        self.port_usage.replace_rules(self.rules.source_rules)
        self.blocks = Blocks(self.interfaces)
        self.blocks.settle(self.blocks.replace_rules(self.rules.source_rules) or [])
        self.endpoints = Endpoints(self.ports, self.port_usage, self.interfaces, tunables or Tunables(), self.blocks)
        self.null_binding = Pool()  # connections that no rule matched
        self.hairpin = Pool()  # connections that leave by the interface they came in by, for a rule with hairpin
        self.by_hand = Pool()  # connections made by conntrack -I
        self.leak_guard = leak_guard
        self.rejects_exhausted = False  # a packet for which no port is free is answered
        self.kernel_tracks = False  # the kernel tracks the packets after PREROUTING, and verifies their checksums
        self.masquerade = Masquerade(core)
        self.rewriter: Rewriter | None = None  # None: every packet is rewritten here
        core.extensions.append(self)

    def replace_rules(self, rules: list[NatRule]) -> None:
        """For new connections; existing bindings stay, and targets that are down."""
        before = self.rules.balancing()
        self.rules = Ruleset(rules, self.interfaces)
        for rule in self.rules.balancing():
            for former in before:
                if rule.targets is not None and former.targets is not None:
                    rule.targets.keep(former.targets)
        self.port_usage.replace_rules(self.rules.source_rules)
        self.endpoints.replace_rules(self.rules.source_rules)

    def destination(self, skb: Skb, now: int) -> int:
        """Priority -100 at PREROUTING and OUTPUT."""
        ct = skb.ct
        if ct is None or (ct.source_early and skb.hook == LOCAL_OUT):
            return NF_ACCEPT
        if self._run(skb, MANIP_DST, now) == NF_DROP:
            return NF_DROP
        if skb.hook != PRE_ROUTING or not (ct.source_early or self._port_taken_here(ct)) or is_error(skb):
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
                manips.finish_checksum(skb)  # at PREROUTING it was not known to be for the router
        return verdict

    def done_early(self, skb: Skb, ct: NfConn) -> bool:
        """Whether `source` would change nothing of this packet of a confirmed ct, and no checksum.

        It leaves by an interface without source rules; the steering rules queue the others.
        """
        direction = direction_of(skb.ctinfo)
        if ct.source_early or ct.status & status_bit(MANIP_SRC, direction):
            return False
        if direction == ORIGINAL and ct.masquerade:
            return False  # it ends if it leaves by another interface
        leaves_by = ct.oif if direction == ORIGINAL else ct.iif
        return leaves_by > 0 or not (skb.segments and ct.status & IPS_NAT_MASK)

    def _run(self, skb: Skb, manip: int, now: int) -> int:
        ct = skb.ct
        if ct is None:
            return NF_ACCEPT
        if is_error(skb):
            return self._error(skb, ct, manip)
        if skb.ctinfo == IP_CT_NEW or skb.ctinfo == IP_CT_RELATED:
            reason = self._bind(skb, ct, manip, now)
            if reason:
                self.core.kill(ct, ENDS.get(reason, END_NAT_EXHAUSTED), now)
                return self.core.drop(skb, reason)
        if manip == MANIP_SRC and self._interface_changed(skb, ct):
            self.core.kill(ct, END_OIF_CHANGED, now)
            return self.core.drop(skb, NAT_OIF_CHANGED)
        direction = direction_of(skb.ctinfo)
        if ct.status & status_bit(manip, direction):
            if self.rewriter is None or not self.rewriter.takes(skb, ct, now):
                self._translate(skb, ct, ct.tuple(1 - direction), manip)
        return NF_ACCEPT

    def _translate(self, skb: Skb, ct: NfConn, other: bytes, manip: int) -> None:
        if manip == MANIP_SRC and ct.source_early and u16(skb.data, skb.dataoff) == tuples.l4dst(other):
            return  # PREROUTING did it
        manips.translate(skb, other, manip, ct.l4proto.ports)
        if not skb.segments or not skb.checksum_partial:
            return
        early = skb.hook == PRE_ROUTING and (manip == MANIP_SRC or self.kernel_tracks)
        if early or (manip == MANIP_DST and self.interfaces.is_local(tuples.src(other))):
            manips.finish_checksum(skb)  # it is verified without segmentation before

    def _bind(self, skb: Skb, ct: NfConn, manip: int, now: int) -> int:
        """Bind ct for this manip, if it is not bound yet; OK or the reason to drop the packet."""
        done = IPS_SRC_NAT_DONE if manip == MANIP_SRC else IPS_DST_NAT_DONE
        if ct.status & (done | IPS_CONFIRMED | IPS_DYING):
            return OK
        current = inverted(ct.reply, ct.l4proto)
        first = self._rule(skb, ct, current, manip)
        mapping = self._mapping(skb, ct, current, first, manip, now)
        if mapping is not None and manip == MANIP_SRC:
            first = mapping.rule
        elif mapping is not None and self.endpoints.of(ct, MANIP_DST) is None:
            return NAT_FILTERED
        rule = translating(first)
        hairpin = manip == MANIP_SRC and rule is None and self._hairpinned(skb, ct)
        pool = self.hairpin if hairpin else self.null_binding if first is None else first.pool
        pool.connections += 1
        if mapping is not None:
            wanted = mapping.inside_range() if manip == MANIP_DST else self.endpoints.outer_range(mapping, current)
        elif hairpin:
            wanted = masquerade_range(self.interfaces, skb.outdev, current)
        else:
            wanted = self._range(rule, skb.outdev if manip == MANIP_SRC else skb.indev, current, manip)
        if not wanted.low:
            return NAT_NO_ADDRESS
        chosen = self._chosen(ct, current, wanted, rule, manip, now)
        if not chosen:
            return self._failed(pool, self.ports.refusal)
        if chosen != current:
            self.core.table.alter_reply(ct, inverted(chosen, ct.l4proto))
            ct.status |= IPS_SRC_NAT if manip == MANIP_SRC else IPS_DST_NAT
            self._allocated(pool)
            self.core.events.name(ct.id, rule.label if rule is not None else "")
        ct.status |= done
        if manip == MANIP_SRC:
            ct.oif = skb.outdev
            ct.source_early = rule is None and chosen != current and skb.hook != POST_ROUTING and ct.l4proto.ports
            ct.masquerade = hairpin or (mapping is None and rule is not None and rule.action == NAT_MASQUERADE)
            if hairpin or rule is not None:
                self._count(skb, ct, wanted, rule)
        return OK

    def _count(self, skb: Skb, ct: NfConn, wanted: Range, rule: NatRule | None) -> None:
        if self.endpoints.of(ct, MANIP_SRC) is None:
            self.ports.keep_mapping(ct, wanted)
        if skb.hook == POST_ROUTING:
            self.port_usage.add(ct, rule)
            if self.blocks.active:
                self.blocks.hold(ct)

    def _mapping(
        self, skb: Skb, ct: NfConn, current: bytes, first: NatRule | None, manip: int, now: int
    ) -> Mapping | None:
        """The endpoint-independent mapping that ct comes in by; for its source, if it is a hairpin too."""
        if not self.endpoints.count:
            return None
        if manip == MANIP_SRC:
            return self.endpoints.hairpin(ct) if skb.hook == POST_ROUTING and translating(first) is None else None
        if first is not None or skb.hook != PRE_ROUTING or skb.seen_after_routing:
            return None
        return self.endpoints.destination(ct, current, now)

    def _chosen(self, ct: NfConn, current: bytes, wanted: Range, rule: NatRule | None, manip: int, now: int) -> bytes:
        """The tuple to translate `current` to; empty when none is free: `ports.refusal` says why."""
        self.ports.refusal = BLOCK_LIMIT if rule is not None and rule.deterministic else NAT_EXHAUSTED
        if manip == MANIP_SRC and rule is not None:
            self.blocks.now = now
            if independent(rule, ct):
                return self.endpoints.source(ct, current, wanted, rule, self.rules)
            if rule.port_block and ct.iif:
                return block_choice.source(self.blocks, self.ports, ct, current, wanted, rule, self.rules)
        return self.ports.unique(current, wanted, ct, manip)

    def _hairpinned(self, skb: Skb, ct: NfConn) -> bool:
        """Whether the server would answer the client directly, past the router, which knows another address."""
        if skb.hook != POST_ROUTING or not ct.status & IPS_DST_NAT or not ct.iif or ct.iif != skb.outdev:
            return False
        return self.rules.hairpinned(info_of(ct, ct.original), ct.iif)

    def _range(self, rule: NatRule | None, dev: int, current: bytes, manip: int) -> Range:
        if rule is None:
            return null_range(current, manip)
        if rule.targets is None:
            return range_of(rule, self.interfaces, dev, current)
        target = rule.targets.choose(tuples.src(current), self.core.randomness)
        if target is None:
            return Range()  # all are down
        target.connections += 1
        return target.to

    def _allocated(self, pool: Pool) -> None:
        pool.allocations += 1
        self.core.stats.nat_allocations += 1

    def _failed(self, pool: Pool, reason: int) -> int:
        """Count it; returns the reason."""
        pool.failures += 1
        pool.limited += reason == BLOCK_LIMIT
        self.core.stats.nat_allocation_failures += 1
        return reason

    def _port_taken_here(self, ct: NfConn) -> bool:
        """Whether ct is new and its tuple is that of a connection with the router: ct is for the router too."""
        if self.rules.input_rules:
            return False  # they decide at INPUT, as in the kernel
        if not ct.l4proto.ports or ct.status & (IPS_SRC_NAT_DONE | IPS_CONFIRMED | IPS_DYING):
            return False
        owner = self.core.table.find(ct.reply)
        if owner is None or owner is ct:
            return False
        return not (owner.oif if owner.reply == ct.reply else owner.iif)

    def _unbind_early(self, skb: Skb, ct: NfConn) -> None:
        """Undo an early source: the packet is forwarded, so a source rule may apply."""
        current = inverted(ct.reply, ct.l4proto)
        current = tuples.with_src(current, tuples.src(ct.original), tuples.l4src(ct.original))
        self.core.table.alter_reply(ct, inverted(current, ct.l4proto))
        ct.status &= ~(IPS_SRC_NAT | IPS_SRC_NAT_DONE)
        ct.source_early = False
        manips.translate(skb, ct.reply, MANIP_SRC, ct.l4proto.ports)

    def bind_by_hand(self, ct: NfConn, source: Range | None, destination: Range | None) -> bool:
        """Bind a connection that is not in the table yet, destination first; False when no port is free.

        None: a null binding (ctnetlink_setup_nat).
        """
        for manip, wanted in ((MANIP_DST, destination), (MANIP_SRC, source)):
            current = inverted(ct.reply, ct.l4proto)
            chosen = self.ports.unique(current, wanted or null_range(current, manip), ct, manip)
            if not chosen:
                self._failed(self.by_hand, NAT_EXHAUSTED)
                return False
            if chosen != current:
                ct.reply = inverted(chosen, ct.l4proto)
                ct.status |= IPS_SRC_NAT if manip == MANIP_SRC else IPS_DST_NAT
                self._allocated(self.by_hand)
            ct.status |= IPS_SRC_NAT_DONE if manip == MANIP_SRC else IPS_DST_NAT_DONE
        return True

    def _rule(self, skb: Skb, ct: NfConn, current: bytes, manip: int) -> NatRule | None:
        """The first matching rule. Source rules: only after routing; destination rules: only before."""
        if skb.hook == PRE_ROUTING if manip == MANIP_SRC else skb.seen_after_routing:
            return None
        if manip == MANIP_SRC:
            return self.rules.source(info_of(ct, current), skb.outdev, skb, skb.indev)
        return self.rules.destination(info_of(ct, current), skb.indev, skb)

    def _error(self, skb: Skb, ct: NfConn, manip: int) -> int:
        kind = skb.data[skb.dataoff]
        redirect = kind == (icmp.REDIRECT if skb.protonum == IPPROTO_ICMP else icmp.V6_REDIRECT)
        unfinished = ct.status & IPS_NAT_DONE_MASK != IPS_NAT_DONE_MASK
        if redirect and (unfinished or ct.status & IPS_NAT_MASK):
            return self.core.drop(skb, NAT_MANIP)  # its receiver would learn a wrong route
        direction = direction_of(skb.ctinfo)
        if manip == MANIP_SRC and direction == ORIGINAL and tuples.dst(ct.reply) == tuples.src(ct.original):
            # The connection's source is not translated, so the tuples give no source for the error.
            if self._guard(skb) == NF_DROP:
                return NF_DROP
        if not ct.status & status_bit(manip, direction):
            return NF_ACCEPT
        inner_at = self.core.protos[skb.protonum].quotes(skb)
        if not manips.translate_error(skb, inner_at, ct.tuple(1 - direction), manip, ct.l4proto.ports):
            return self.core.drop(skb, NAT_MANIP)
        return NF_ACCEPT

    def _interface_changed(self, skb: Skb, ct: NfConn) -> bool:
        """Whether ct now leaves by another interface, where its binding is wrong or missing.

        Also a connection that was with the router itself: its destination address may have moved to another host.
        """
        if skb.hook != POST_ROUTING or ct.oif in (NO_INTERFACE, skb.outdev) or direction_of(skb.ctinfo) != ORIGINAL:
            return False
        if ct.masquerade:
            return True
        if tuples.dst(ct.reply) != tuples.src(ct.original):
            return False  # translated; a null binding changes only the port
        current = inverted(ct.reply, ct.l4proto)
        return translating(self._rule(skb, ct, current, MANIP_SRC)) is not None

    def _guard(self, skb: Skb) -> int:
        if not self.leak_guard or skb.hook != POST_ROUTING:
            return NF_ACCEPT
        leaking = leaks(skb, self.rules, self.interfaces, self.core.protos)
        return self.core.drop(skb, LEAK_GUARD) if leaking else NF_ACCEPT

    def set_interface(self, index: int, name: str, addresses: list[bytes], now: int) -> None:
        """Set name and addresses; masqueraded connections of an address it lost end."""
        self.masquerade.added(index, addresses)
        self.masquerade.lost(index, self.interfaces.replace(index, Link(name, addresses)), now)
        self.masquerade.arrived(index, name, addresses, now)

    def remove_interface(self, index: int, now: int) -> None:
        self.masquerade.lost(index, self.interfaces.replace(index, None), now)

    def destroyed(self, ct: NfConn) -> None:
        self.endpoints.detach(ct)
        if self.blocks.active:
            self.blocks.release(ct)
        if ct.status & IPS_SRC_NAT_DONE:
            self.ports.drop_mapping(ct)
            self.port_usage.remove(ct)
