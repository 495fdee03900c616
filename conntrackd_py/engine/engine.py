"""The engine: one object, one call a packet visit, no input or output of its own.

The kernel queues a packet at one or two of its hooks. Each time is a visit. A visit runs the operations of
its hook in priority order. The POSTROUTING visit of a forwarded packet runs FORWARD first. A packet without an
earlier visit runs PREROUTING (or OUTPUT) first. Between two visits the connection is carried in the
packet mark (mark_codec). A packet for which the second visit would do nothing makes only the first.

Packets, time (ms) and randomness are arguments. Verdicts, bytes, marks, counters and events are results.
"""

from typing import Final, final

from conntrackd_py.conntrack import evict
from conntrackd_py.conntrack.confirm import confirm
from conntrackd_py.conntrack.conn import L4Proto, NfConn
from conntrackd_py.conntrack.core import Conntrack
from conntrackd_py.conntrack.events import Event
from conntrackd_py.conntrack.expect import ExpectationEvent
from conntrackd_py.conntrack.lookup import conntrack_in
from conntrackd_py.conntrack.randomness import Randomness
from conntrackd_py.conntrack.skb import Skb, forwarded
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import (
    FORWARD,
    IP_CT_NEW,
    IP_CT_RELATED,
    IP_CT_RELATED_REPLY,
    IP_CT_UNTRACKED,
    IPPROTO_ICMPV6,
    IPPROTO_TCP,
    IPS_CONFIRMED,
    IPS_HELPER,
    LOCAL_OUT,
    NF_ACCEPT,
    NF_DROP,
    NF_QUEUE,
    POST_ROUTING,
    PRE_ROUTING,
    PRI_FILTER,
    PRI_RAW,
)
from conntrackd_py.engine import pipeline
from conntrackd_py.engine.change import DONE, EXISTS, Change, create, update
from conntrackd_py.engine.header_only import HeaderOnly
from conntrackd_py.engine.mark_codec import CONNECTION_GONE, MARK_VALID, RESUMED, MarkCodec
from conntrackd_py.engine.mark_maps import MarkMaps
from conntrackd_py.engine.offload import RETURNED_ADDRESS, RETURNED_CHANGED, RETURNED_RULES, Offload
from conntrackd_py.engine.overwritten import Overwritten
from conntrackd_py.engine.raw_mangle import MarkRule, Raw, RawRule, mangles_by_hook
from conntrackd_py.engine.rejects import IP_CT_ANSWER, Answer, Rejects
from conntrackd_py.engine.takeover.verdict import wait
from conntrackd_py.engine.translations import Translations
from conntrackd_py.explain.diagnostics import Diagnostics
from conntrackd_py.explain.stale import Stale
from conntrackd_py.filter.policy import Policy
from conntrackd_py.helpers.core import Helpers
from conntrackd_py.helpers.helper import Helper
from conntrackd_py.match.interface import InterfaceNames
from conntrackd_py.nat.core import Nat
from conntrackd_py.nat.range import Range
from conntrackd_py.nat.rewrite.mss import OFF, Mss, is_syn
from conntrackd_py.nat.rules import NatRule
from conntrackd_py.proto.rfc7857 import Rfc7857
from conntrackd_py.proto.standard import NETFILTER, RFC7857, distinct, standard_protos
from conntrackd_py.proto.tcp import Tcp
from conntrackd_py.reasons import CONNECTION_LOST, END_DELETED, END_FLUSHED
from conntrackd_py.wire import ip

NOT_TRANSLATING: Final = 16  # outcomes of create, in addition to those of change.py
EXHAUSTED: Final = 17

DEFAULT_MASK: Final = 0xFFFFFF00


@final
class Engine:
    """mode: "nat" translates by nat_rules; "track" and "observe" change no packet, and "observe" drops none.

    policy: the filter, or None. tcp_tracker: NETFILTER or RFC7857. protos: used instead of all trackers.
    """

    def __init__(
        self,
        tunables: Tunables,
        randomness: Randomness,
        *,
        mode: str = "nat",
        nat_rules: list[NatRule] | None = None,
        leak_guard: bool = True,
        mark_mask: int = DEFAULT_MASK,
        tcp_tracker: str = NETFILTER,
        protos: list[L4Proto] | None = None,
        policy: Policy | None = None,
        raw_rules: list[RawRule] | None = None,
        mark_rules: list[MarkRule] | None = None,
        helpers: list[Helper] | None = None,
    ) -> None:
        self.core = Conntrack(protos or standard_protos(tunables, tcp_tracker), tunables, randomness)
        self.mode = mode
        self.observing = mode == "observe"
        self.translations = Translations(self.core)
        self.nat = Nat(self.core, nat_rules or [], leak_guard, tunables)
        self.helpers = Helpers(self.nat, helpers or [])
        self.mss = Mss()
        self.mark_codec = MarkCodec(self.core, mark_mask)
        self.mark_maps = MarkMaps(self.core, self.mark_codec)
        self.nat.rewriter = self.mark_maps
        self.offload = Offload(self.core, self.mark_codec, self.mark_maps)
        self.header_only = HeaderOnly(self.core, self.mark_codec, self.mark_maps)
        self.overwritten = Overwritten(self.core, self.mark_codec)
        self.diagnostics = Diagnostics(self.core)
        self.rejects = Rejects(self.core, self.nat.interfaces)
        self.names: dict[int, str] = {}  # of the interfaces, by index
        self.trackers: list[L4Proto] = []
        self.answer_mark = (MARK_VALID | IP_CT_ANSWER) * (mark_mask & -mark_mask)  # the mark of REJECT answers
        self.own_mark = 0  # the same; 0 if nothing is rejected
        self.policy: Policy | None = None
        self.pipeline: pipeline.Pipeline = []
        self.zones = False  # a raw rule puts packets in a zone
        self.one_visit = False  # no filter and no mark rules after routing: some packets need one visit only
        self._build_pipeline(policy, raw_rules or [], mark_rules or [])

    def configure(
        self,
        tunables: Tunables,
        *,
        nat_rules: list[NatRule] | None = None,
        leak_guard: bool = True,
        tcp_tracker: str = NETFILTER,
        policy: Policy | None = None,
        raw_rules: list[RawRule] | None = None,
        mark_rules: list[MarkRule] | None = None,
        helpers: list[Helper] | None = None,
        unqueued: InterfaceNames | None = None,
    ) -> None:
        """Replace rules and tunables, for later packets. unqueued: interfaces whose packets may lack the first visit.

        Connections keep their translation and their tracker. Trackers of former raw rules keep their timeouts.
        """
        self.offload.take_all_back(RETURNED_RULES)
        self.core.tune(tunables)
        rfc7857 = isinstance(self.core.protos[IPPROTO_TCP], Rfc7857)
        for tracker in distinct(self.core.protos):
            tracker.tune(tunables)
        if rfc7857 != (tcp_tracker == RFC7857):
            self.core.protos[IPPROTO_TCP] = Rfc7857(tunables) if tcp_tracker == RFC7857 else Tcp(tunables)
        self.nat.replace_rules(nat_rules or [])
        self.nat.leak_guard = leak_guard
        self.nat.endpoints.tune(tunables)
        self.helpers.configure((not self.observing and helpers) or [])
        self.overwritten.unqueued = unqueued or InterfaceNames([])
        self._build_pipeline(policy, raw_rules or [], mark_rules or [])
        for index, name in self.names.items():
            self._mark_outside(index, name)

    def _build_pipeline(self, policy: Policy | None, raw_rules: list[RawRule], mark_rules: list[MarkRule]) -> None:
        """The pipeline of these rules, and all trackers in use."""
        used = [tracker for tracker in self.trackers if any(tracker.entries)]
        for rule in raw_rules:
            used += rule.protos or []
        self.trackers = distinct(self.core.protos + used)
        mask = self.mark_codec.mask
        self.own_mark = self.answer_mark if policy is not None or self.nat.rejects_exhausted else 0
        if policy is not None:
            policy.names = self.names
        self.policy = policy if not self.observing else None
        self.zones = any(rule.zone_original or rule.zone_reply for rule in raw_rules)
        raw = Raw(raw_rules, self.names) if raw_rules else None
        mangles = mangles_by_hook(self.core, mark_rules, self.names, mask)
        nat = self.nat if self.mode == "nat" else None
        self.nat.blocks.idle = nat is None
        helpers = self.helpers if self.helpers.in_use and not self.observing else None
        self.pipeline = pipeline.build(self.core, nat, self.policy, self.rejects, raw, mangles, helpers, self.mss)
        self.one_visit = pipeline.only_nat_after_routing(self.pipeline)
        self.mark_maps.spare(pipeline.only_nat_when_forwarded(self.pipeline))
        self.offload.allowed = not self.observing and not self.zones and pipeline.offloadable(self.pipeline)

    def handle(self, skb: Skb, hook: int, now: int) -> int:
        """One visit of a packet at a kernel hook, at `now` ms: the verdict. skb.data and skb.mark may change."""
        if self.core.standby:
            verdict = wait(self.core, skb, hook, self.mode == "nat")
        else:
            verdict = self._observe(skb, hook, now) if self.observing else self._visit(skb, hook, now)
        stats = self.core.stats
        stats.verdicts[hook * 2 + verdict] += 1
        stats.bytes[hook] += max(len(skb.data), skb.length)  # of a copy, the length of the packet
        if skb.reason or skb.ctinfo == IP_CT_NEW:
            self.diagnostics.record(skb, hook, verdict, now)
        return verdict

    def handle_headers(self, skb: Skb, hook: int, now: int) -> int:
        """The same for a packet of which skb.data is the beginning. NF_QUEUE: nothing was done, it is needed whole."""
        skb.copy = True
        if self.zones or self.core.standby or not self.header_only.judgeable(skb, hook, now):
            self.header_only.requeued += 1
            return NF_QUEUE
        return self.handle(skb, hook, now)

    def _observe(self, skb: Skb, hook: int, now: int) -> int:
        """Mode observe: track and confirm in one visit, accept the packet unchanged."""
        skb.hook = hook
        reason = ip.parse(skb)
        if reason:
            self.core.refuse(skb, reason)
            return NF_ACCEPT
        for op in self.pipeline[hook]:
            if op.priority == PRI_RAW:
                op.run(skb, now)
        if conntrack_in(self.core, skb, now) == NF_ACCEPT:
            self.translations.meet(skb, now)
            confirm(self.core, skb, now)
        return NF_ACCEPT

    def _visit(self, skb: Skb, hook: int, now: int) -> int:
        skb.hook = hook
        answer = self.own_mark != 0 and not skb.indev and skb.mark & self.mark_codec.mask == self.own_mark
        if hook in (PRE_ROUTING, LOCAL_OUT):
            return NF_ACCEPT if answer else self._first_visit(skb, hook, now)
        verdict = NF_ACCEPT if answer else self._last_visit(skb, hook, now)
        if verdict == NF_ACCEPT and not skb.by_mark:
            skb.mark |= self.mark_codec.done
        return verdict

    def _first_visit(self, skb: Skb, hook: int, now: int) -> int:
        if self.mark_maps.waiting:
            self.mark_maps.first_visit(now)
        reason = ip.parse(skb)
        before = skb.data
        verdict = self._enter(skb, hook, reason, now)
        if verdict == NF_ACCEPT:
            own = hook == LOCAL_OUT
            done = self.one_visit and not own and self._done_early(skb)
            self.mark_codec.save(skb, own and skb.data == before, done)
            if self.offload.on and skb.ct is not None and not own:
                self.offload.meet(skb, skb.ct, now)
        return verdict

    def _done_early(self, skb: Skb) -> bool:
        """Whether a second visit would do nothing, unless the packet leaves by an interface with a source rule."""
        ct = skb.ct
        if self.mss.limit != OFF and is_syn(skb):
            return False
        if ct is None:
            return skb.ctinfo == IP_CT_UNTRACKED and skb.protonum != IPPROTO_ICMPV6  # leak_guard judges some of these
        if ct.status & (IPS_CONFIRMED | IPS_HELPER) != IPS_CONFIRMED or skb.ctinfo in (
            IP_CT_RELATED,
            IP_CT_RELATED_REPLY,
        ):
            return False
        return self.mode != "nat" or self.nat.done_early(skb, ct)

    def _last_visit(self, skb: Skb, hook: int, now: int) -> int:
        reason = ip.parse(skb)
        own = hook == POST_ROUTING and not forwarded(skb)
        resumed = self.mark_codec.resume(skb, own) if not reason else RESUMED
        if resumed != RESUMED and not own:
            resumed = self._without_good_mark(skb, hook, resumed, now)
        if resumed == CONNECTION_GONE:
            return self.core.drop(skb, CONNECTION_LOST)
        if resumed != RESUMED:
            skb.seen_after_routing = True
            first = LOCAL_OUT if own else PRE_ROUTING
            if self._enter(skb, first, reason, now) == NF_DROP:
                return NF_DROP
            skb.hook = hook
        if hook == POST_ROUTING and forwarded(skb) and self._run(skb, FORWARD, now) == NF_DROP:
            return NF_DROP
        return self._run(skb, hook, now)

    def _without_good_mark(self, skb: Skb, hook: int, resumed: int, now: int) -> int:
        """Attach by its tuple a packet whose mark another rule overwrote; returns a result of MarkCodec.resume."""
        before = self.overwritten.count
        resumed = self.overwritten.resume(skb, resumed, self.names.get(skb.indev, ""), now)
        if self.overwritten.count != before:
            self.diagnostics.overwritten(skb, hook, now)
        return resumed

    def _enter(self, skb: Skb, hook: int, reason: int, now: int) -> int:
        """Run the first hook of a packet. A packet that cannot be parsed (reason) is INVALID."""
        skb.hook = hook
        if reason:
            self.core.refuse(skb, reason)
            return self._filter_unparsed(skb, hook, now)
        return self._run(skb, hook, now)

    def _filter_unparsed(self, skb: Skb, hook: int, now: int) -> int:
        """Of a first hook only the filter, for a packet that cannot be tracked or translated."""
        for op in self.pipeline[hook]:
            if op.priority == PRI_FILTER:
                return op.run(skb, now)
        return NF_ACCEPT

    def _run(self, skb: Skb, hook: int, now: int) -> int:
        for op in self.pipeline[hook]:
            if op.run(skb, now) == NF_DROP:
                return NF_DROP
        return NF_ACCEPT

    # --- time, events, requests of the operator ------------------------------------------------------

    def expire(self, now: int, budget: int) -> int:
        """End expired connections, in at most budget steps; returns how many ended."""
        ended = evict.expire(self.core, now, budget) + self.nat.masquerade.expire(now, budget)
        self.nat.endpoints.expire(now, budget)
        self.offload.turn(now)
        self.settle(now)
        return ended

    def settle(self, now: int) -> None:
        """After the verdicts of a batch were sent: change the maps of the kernel."""
        self.offload.settle(now)

    def next_expiry(self) -> int:
        """When expire has work again, in ms; 0: now."""
        if self.nat.masquerade.removed:
            return 0
        return min(evict.next_expiry(self.core), self.offload.next_turn(), self.nat.endpoints.next_expiry())

    def drain_events(self) -> list[Event]:
        return self.core.events.drain()

    def drain_expectation_events(self) -> list[ExpectationEvent]:
        return self.core.expectations.events.drain()

    def drain_rejects(self) -> list[Answer]:
        """The REJECT answers that wait, oldest first; to be sent with `own_mark`."""
        return self.rejects.drain()

    def stale(self) -> Stale:
        """Finds connections that the present rules would not make."""
        return Stale(self.nat if self.mode == "nat" else None, self.policy)

    def delete(self, slot: int, now: int) -> bool:
        """End the connection in this slot (conntrack -D); False when there is none."""
        ct = self.core.table.at(slot)
        return ct is not None and self.core.kill(ct, END_DELETED, now)

    def create(self, ct: NfConn, change: Change, source: Range | None, destination: Range | None, now: int) -> int:
        """Create a connection, translated into these ranges (conntrack -I).

        Returns an outcome of change.py, or NOT_TRANSLATING, EXHAUSTED.
        """
        if source is None and destination is None:
            return create(self.core, ct, change, now)
        if self.mode == "track":  # mode observe may record what the kernel translates
            return NOT_TRANSLATING
        if self.core.table.find(ct.original) is not None:
            return EXISTS
        if not self.nat.bind_by_hand(ct, source, destination):
            return EXHAUSTED
        outcome = create(self.core, ct, change, now)
        if outcome == DONE and source is not None:
            self.nat.ports.keep_mapping(ct, source)
            self.nat.port_usage.add(ct, None)
            self.core.save(ct)
        return outcome

    def update(self, ct: NfConn, change: Change, now: int) -> int:
        """Change a connection (conntrack -U); returns an outcome of change.py."""
        self.offload.take_back(ct, RETURNED_CHANGED, now)
        return update(self.core, ct, change, now)

    def flush(self, now: int) -> int:
        """End every confirmed connection at once; returns how many. conntrack -F walks in turns (control.walk)."""
        return sum([self.core.kill(ct, END_FLUSHED, now) for _, ct in self.core.table.hash.items()])

    def set_interface(self, index: int, name: str, addresses: list[bytes], now: int) -> None:
        """Set name and addresses (packed, preferred first) of an interface."""
        self.names[index] = name
        self.nat.set_interface(index, name, addresses, now)
        self._addresses_lost()
        self._mark_outside(index, name)

    def _mark_outside(self, index: int, name: str) -> None:
        """For the RFC 7857 trackers an interface is outside if a source NAT rule has it as out_interface."""
        rules = self.nat.rules.source_rules
        outside = any(rule.match.out_interface is not None and rule.match.out_interface.has(name) for rule in rules)
        for tracker in self.trackers:
            if not isinstance(tracker, Rfc7857):
                continue
            if outside:
                tracker.outside[index] = True
            else:
                tracker.outside.pop(index, None)

    def add_tracker(self, tracker: L4Proto) -> None:
        """A tracker of connections that a former process made."""
        self.trackers.append(tracker)
        for index, name in self.names.items():
            self._mark_outside(index, name)

    def remove_interface(self, index: int, now: int) -> None:
        self.names.pop(index, None)
        self.nat.remove_interface(index, now)
        self._addresses_lost()

    def _addresses_lost(self) -> None:
        if self.nat.masquerade.removed:  # its connections end, in turns
            self.offload.take_all_back(RETURNED_ADDRESS)
