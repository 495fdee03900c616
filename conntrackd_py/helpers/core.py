"""Connections with a helper: they get it when they are created, it reads their packets, their numbers are adjusted.

A raw rule assigns a helper by name, as `-j CT --helper`; nothing assigns one by port alone. Such a connection has
status HELPER. Its packets are always seen whole and make both visits: no maps of the kernel, no headers, no offload.
Sources: nf_conntrack_helper.c, nf_confirm.
"""

from typing import final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.core import Extension
from conntrackd_py.conntrack.expect import Expectation
from conntrackd_py.conntrack.records.record import Help
from conntrackd_py.conntrack.seqadj import SeqAdj
from conntrackd_py.conntrack.skb import Skb, direction_of, forwarded
from conntrackd_py.const import (
    IP_CT_ESTABLISHED,
    IP_CT_ESTABLISHED_REPLY,
    IPCT_HELPER,
    IPPROTO_GRE,
    IPPROTO_TCP,
    IPPROTO_UDP,
    IPS_DYING,
    IPS_HELPER,
    IPS_SEQ_ADJUST,
    NF_ACCEPT,
    NF_DROP,
    ORIGINAL,
    POST_ROUTING,
)
from conntrackd_py.helpers.helper import PASS, ControlPacket, Helped, Helper, outer_port
from conntrackd_py.nat.binding import inverted
from conntrackd_py.nat.core import Nat
from conntrackd_py.nat.follow import call_outside, follow_master, ports_allotted
from conntrackd_py.nat.rewrite import payload as payloads
from conntrackd_py.nat.rewrite.seqadj import adjust_ack, adjust_seq
from conntrackd_py.proto.gre import Gre
from conntrackd_py.reasons import END_CALL, HELPER_REFUSED
from conntrackd_py.wire import tcp
from conntrackd_py.wire.packet import u32

UDP_HEADER = 8


@final
class Figures:
    """Of one helper."""

    def __init__(self) -> None:
        self.connections = 0  # that got it
        self.expectations = 0  # that it made
        self.changed = 0  # packets whose payload it changed
        self.dropped = 0  # packets


@final
class Helpers(Extension):
    """by_name: the helpers that rules assign. helped: by slot."""

    def __init__(self, nat: Nat, helpers: list[Helper]) -> None:
        self.core = nat.core
        self.nat = nat
        self.by_name: dict[str, Helper] = {}
        self.helped: dict[int, Helped] = {}
        self.figures: dict[str, Figures] = {}
        gre = self.core.protos[IPPROTO_GRE]
        self.gre = gre if isinstance(gre, Gre) else None
        self.core.extensions.append(self)
        self.configure(helpers)

    def configure(self, helpers: list[Helper]) -> None:
        """For new connections; the others keep their helper."""
        self.by_name = {helper.name: helper for helper in helpers}
        for name in self.by_name:
            self.figures.setdefault(name, Figures())

    @property
    def in_use(self) -> bool:
        """Whether a connection has or may get a helper, or has adjusted numbers."""
        return len(self.by_name) > 0 or len(self.helped) > 0 or len(self.core.seqadj) > 0

    def name_of(self, ct: NfConn) -> str:
        """The name of its helper; empty without one."""
        return self.core.helper_names.get(ct.slot, "") if ct.status & IPS_HELPER else ""

    def created(self, ct: NfConn, helper: str, expected: Expectation | None) -> None:
        if expected is not None:
            helper = expected.child_helper
            if expected.follows:
                follow_master(self.nat, ct, expected, self._announced(ct, expected))
            if expected.calls:
                self._remove_opposite(expected, ct.born)
        found = self._found(helper, ct)
        if found is not None:
            self._assign(ct, Helped(found, found.state()))
            ct.status |= IPS_HELPER
            ct.pending_events |= IPCT_HELPER
            self.figures[found.name].connections += 1

    def _remove_opposite(self, expected: Expectation, now: int) -> None:
        """A call has begun: its packets from the other end are answers (pptp_expectfn)."""
        if self.gre is None:
            return
        answers = inverted(call_outside(expected), self.gre)
        for known in list(self.core.expectations.by_master.get(expected.master.slot, [])):
            if known.tuple == answers:
                self.core.expectations.remove(known, now)

    def _announced(self, ct: NfConn, expected: Expectation) -> int:
        """The port outside that the sender of an expected connection announced for its port; 0 without one."""
        master, direction = expected.master, expected.direction
        if tuples.src(ct.original) != tuples.src(master.tuple(direction)):
            return 0
        helped, port = self.helped.get(master.slot), tuples.l4src(ct.original)
        return outer_port(helped, self.core.expectations, master, direction, tuples.protonum(ct.original), port)

    def _found(self, name: str, ct: NfConn) -> Helper | None:
        helper = self.by_name.get(name)
        protonum = tuples.protonum(ct.original)
        return helper if helper is not None and protonum in (helper.protonum, helper.other_protonum) else None

    def _assign(self, ct: NfConn, helped: Helped) -> None:
        self.helped[ct.slot] = helped
        self.core.helper_names[ct.slot] = helped.helper.name

    def resume(self, ct: NfConn, helped: Help) -> None:
        """ct goes on after a restart. If no rule names its helper any more, its numbers are adjusted without help."""
        if helped.seqadj is not None:
            self.core.seqadj[ct.slot] = helped.seqadj
        found = self._found(helped.helper, ct)
        if found is not None:
            self._assign(ct, Helped(found, found.resumed()))

    def destroyed(self, ct: NfConn) -> None:
        """Its packets may still be between their visits. The calls of a control connection end with it."""
        if self.gre is not None and ct.slot in self.gre.keys:
            self._end_calls(ct, b"", ct.due)

    def _end_calls(self, ct: NfConn, call_id: bytes, now: int) -> None:
        """End the calls of this control connection that have this id, all if it is empty (pptp_destroy_siblings)."""
        if self.gre is None:
            return
        for t in self.gre.end_call(ct.slot, call_id):
            child = self.core.table.find(tuples.with_zone(t, tuples.zone(ct.original)))
            if child is not None and child.master is ct:
                self.core.kill(child, END_CALL, now)

    def know_calls(self, cts: list[NfConn], now: int) -> None:
        """After a restart: what is expected, and these connections, say which packets belong to which call."""
        if self.gre is None:
            return
        for known in self.core.expectations.all():
            self._know(known, now)
        for ct in cts:
            if ct.master is not None and ct.l4proto is self.gre and tuples.l4(ct.original) != bytes(4):
                self.gre.add_call(ct.master.slot, ct.original, ct.reply)

    def _know(self, made: Expectation, now: int) -> None:
        """A call of a former control connection with the same ids has ended."""
        if self.gre is not None and made.calls:
            former = self.core.table.find(made.tuple)
            if former is not None and former.master is not made.master:
                self.core.kill(former, END_CALL, now)
            self.gre.add_call(made.master.slot, made.tuple, inverted(call_outside(made), self.gre))

    def released(self, ct: NfConn) -> None:
        if ct.status & (IPS_HELPER | IPS_SEQ_ADJUST):
            self.helped.pop(ct.slot, None)
            self.core.helper_names.pop(ct.slot, None)
            self.core.seqadj.pop(ct.slot, None)

    def acknowledge(self, skb: Skb, ct: NfConn) -> None:
        """Adjust what a packet with SEQ_ADJUST acknowledges."""
        adjustment = self.core.seqadj.get(ct.slot)
        if adjustment is not None and skb.protonum == IPPROTO_TCP:
            adjust_ack(skb, adjustment.sides[1 - direction_of(skb.ctinfo)])

    def leave(self, skb: Skb, ct: NfConn, now: int) -> int:
        """Read and adjust a packet with HELPER or SEQ_ADJUST at its last hook; a verdict."""
        if skb.protonum != tuples.protonum(ct.original):
            return NF_ACCEPT  # an ICMP error
        adjusted = ct.status & IPS_SEQ_ADJUST  # before this packet
        if ct.status & (IPS_HELPER | IPS_DYING) == IPS_HELPER and self._help(skb, ct, now) == NF_DROP:
            return NF_DROP
        adjustment = self.core.seqadj.get(ct.slot) if adjusted else None
        if adjustment is not None:
            if skb.hook == POST_ROUTING and not forwarded(skb):
                self.acknowledge(skb, ct)  # of the router itself: not at OUTPUT, where a change needs a new route
            adjust_seq(skb, adjustment.sides[direction_of(skb.ctinfo)])
        return NF_ACCEPT

    def _help(self, skb: Skb, ct: NfConn, now: int) -> int:
        helped = self.helped.get(ct.slot)
        at = _payload_at(skb)
        if helped is None or at >= skb.end:
            return NF_ACCEPT
        seq = 0
        if skb.protonum == IPPROTO_TCP:
            if skb.ctinfo not in (IP_CT_ESTABLISHED, IP_CT_ESTABLISHED_REPLY):
                return NF_ACCEPT
            seq = u32(skb.data, skb.dataoff + 4)
        direction = direction_of(skb.ctinfo)
        payload = skb.data[at : skb.end]
        core = self.core
        packet = ControlPacket(ct, helped, direction, payload, seq, now, core.expectations, core.randomness)
        if direction == ORIGINAL:
            allotted = ports_allotted(self.nat, ct)
            if allotted is not None:
                packet.low, packet.high, packet.confined = allotted.port_low, allotted.port_high, True
        if self.gre is not None:
            packet.keymap = self.gre.keymap
        if not skb.indev:
            packet.network = self.nat.interfaces.network(skb.outdev, tuples.dst(ct.tuple(direction)))
        outcome = helped.helper.help(packet)
        core.follow(ct, ct.state, now)  # the timeout may be shorter
        if outcome == PASS and packet.changes and not self._change(skb, at, packet):
            outcome = HELPER_REFUSED
        figures = self.figures[helped.helper.name]
        if outcome == PASS:
            for call_id in packet.ended:
                self._end_calls(ct, call_id, now)
            for made in packet.made:
                self._know(made, now)
            figures.expectations += len(packet.made)
            return NF_ACCEPT
        packet.withdraw()
        figures.dropped += 1
        return core.drop(skb, outcome)

    def _change(self, skb: Skb, at: int, packet: ControlPacket) -> bool:
        """Put the changed payload in; False if it is too long."""
        new = packet.changed()
        if new == packet.payload:
            return True
        if not payloads.replace(skb, at, new):
            return False
        ct = packet.ct
        grown = len(new) - len(packet.payload)
        if grown and skb.protonum == IPPROTO_TCP:
            adjustment = self.core.seqadj.get(ct.slot)
            if adjustment is None:
                adjustment = self.core.seqadj[ct.slot] = SeqAdj()
            adjustment.sides[packet.direction].add(packet.seq, grown)
            ct.status |= IPS_SEQ_ADJUST
            self.core.save(ct)  # before the packet leaves
        self.figures[packet.helper.name].changed += 1
        return True


def _payload_at(skb: Skb) -> int:
    """Offset of the payload of TCP or UDP; the end of the packet for others, or if its header is cut off."""
    at = skb.dataoff
    if skb.protonum == IPPROTO_UDP:
        return at + UDP_HEADER
    if skb.protonum == IPPROTO_TCP and at + tcp.HEADER <= skb.end:
        return at + tcp.data_offset(skb.data, at)
    return skb.end
