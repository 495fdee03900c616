"""Replays a capture through an engine, one step a packet, with the connection before and after it.

Each packet makes both visits of a forwarded packet in a row. One that was seen before is not handled again. If it was
translated between the two sightings, its new connection gets the same translation. A packet that the capture holds only
as it left the router gets back the tuple with which it arrived.

The clock is that of the capture, but never runs backwards. Connections that time out between two packets expire before
the second one.

A checksum that a network card was still to complete (CHECKSUM_PARTIAL) holds the sum of the pseudo-header. It is not
verified.
"""

from dataclasses import dataclass, field
from typing import Final

from conntrackd_py.cli.conntrackd.explain.capture import Captured
from conntrackd_py.cli.conntrackd.explain.sightings import Sighting
from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NO_QUOTE, NfConn
from conntrackd_py.conntrack.icmp_error import inner_tuple
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import (
    IPCT_DESTROY,
    IPPROTO_TCP,
    IPPROTO_UDP,
    MANIP_DST,
    MANIP_SRC,
    NF_ACCEPT,
    ORIGINAL,
    POST_ROUTING,
    PRE_ROUTING,
    REPLY,
)
from conntrackd_py.engine.engine import Engine
from conntrackd_py.explain.refusals import Refusal
from conntrackd_py.match.address import Addresses
from conntrackd_py.nat.binding import inverted
from conntrackd_py.nat.range import Range
from conntrackd_py.nat.rewrite import manip as manips
from conntrackd_py.nat.rules import NAT_DNAT, NAT_SNAT, NatRule
from conntrackd_py.proto.tcp_states import TCP_CONNTRACK_ESTABLISHED
from conntrackd_py.proto.tcp_window import M32, Segment, Side, TcpInfo, after
from conntrackd_py.reasons import END_REOPENED, END_TIMEOUT
from conntrackd_py.settings.schema import NAT, Settings
from conntrackd_py.wire import ip, tcp
from conntrackd_py.wire.packet import u16

INSIDE: Final = 1  # interface indexes
OUTSIDE: Final = 2
ALL: Final = 1 << 30  # steps of expiry
CHECKSUM_AT: Final = {IPPROTO_TCP: tcp.CHECKSUM_AT, IPPROTO_UDP: 6}


@dataclass(frozen=True)
class Shown:
    """A connection at one moment. timeout: ms left."""

    status: int
    state: str
    timeout: int


@dataclass
class Step:
    """One packet.

    arrived: as it came to the router, if the capture has it translated already. before, after: its connection; of a
    refused packet, the connection with its tuple. gained: (hook, IPS_* bits) of each visit that set some. ended: (ms,
    connection) ended since the previous packet. left: the packet as it was sent; empty if it was dropped.
    """

    packet: Captured
    arrived: bytes = b""
    hooks: list[int] = field(default_factory=list)
    ctinfo: int = 0
    verdict: int = NF_ACCEPT
    ct: NfConn | None = None
    before: Shown | None = None
    after: Shown | None = None
    gained: list[tuple[int, int]] = field(default_factory=list)
    ended: list[tuple[int, NfConn]] = field(default_factory=list)
    notes: list[Refusal] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)
    left: bytes = b""
    judged: bool = True  # False: not IP, seen again, a fragment that waits, or headers not captured completely
    again: Sighting | None = None  # it was seen before
    unfinished: bool = False  # its checksum is the sum of the pseudo-header

    @property
    def note(self) -> Refusal | None:
        """The last reason why it was refused, ignored or dropped."""
        refusals = [note for note in self.notes if note.reason]
        return refusals[-1] if refusals else None


class Replay:
    """inside: networks whose packets arrive at the inside interface; if empty, all packets do."""

    """engine: made by these settings. rules: its NAT rules, for connections whose translation the capture hides."""

    def __init__(self, engine: Engine, inside: list[Addresses], settings: Settings, rules: list[NatRule]) -> None:
        self.engine = engine
        self.inside = inside
        self.settings = settings
        self.rules = rules
        self.now = 0
        self.checksum = engine.core.checksum
        engine.core.events.enabled = True

    def step(self, sighting: Sighting) -> Step:
        """Hand the next packet of the capture to the engine, unless it was seen before."""
        packet = sighting.packet
        step = Step(packet, again=sighting if sighting.again else None)
        self.now = max(self.now, packet.at)
        step.ended = self._expire()
        if not packet.data or packet.waiting or step.again or (packet.cut and not _headers_complete(packet)):
            step.judged = False
            return step
        step.arrived = self._arrived(packet.data)
        known = self._known(step.arrived)
        hint = ""
        if known is not None:
            step.before = shown(known, self.now)
            hint = _repeats(known, step.arrived)
        learned = known is None and sighting.last is not None and self._learn(step.arrived, sighting.last.data)
        self._visits(step, known)
        if learned:
            self.engine.nat.replace_rules(self.rules)
        if hint and step.note is None and step.ct is known:
            step.hints.append(hint)
        return step

    def _arrived(self, data: bytes) -> bytes:
        """The packet with the tuple that its connection expects. It has another one if it was captured as it left."""
        core, t = self.engine.core, self._tuple(data)
        inverse = inverted(t, core.protos[tuples.protonum(t)]) if t else b""
        ct = core.table.find(inverse) if inverse and core.table.find(t) is None else None
        if ct is None:
            return data
        skb = Skb(data)
        ip.parse(skb)
        skb.checksum_partial = has_unfinished_checksum(data)
        other = inverted(ct.reply if ct.original == inverse else ct.original, ct.l4proto)
        for manip in (MANIP_SRC, MANIP_DST):
            manips.translate(skb, other, manip, ct.l4proto.ports)
        return skb.data

    def _learn(self, arrived: bytes, left: bytes) -> bool:
        """Give the packet's new connection the translation that the capture shows. False: nothing to learn."""
        engine, before, after = self.engine, self._tuple(arrived), self._tuple(left)
        if not before or not after:
            return False
        ports = engine.core.protos[tuples.protonum(before)].ports
        rules = []
        if (tuples.dst(before), tuples.l4dst(before)) != (tuples.dst(after), tuples.l4dst(after)):
            rules.append(NatRule(NAT_DNAT, to=_exactly(tuples.dst(after), tuples.l4dst(after) if ports else 0)))
        if (tuples.src(before), tuples.l4src(before)) != (tuples.src(after), tuples.l4src(after)):
            rules.append(NatRule(NAT_SNAT, to=_exactly(tuples.src(after), tuples.l4src(after))))
        if rules and engine.mode != NAT:
            engine.mode = NAT
            engine.configure(self.settings.tunables, leak_guard=False, tcp_tracker=self.settings.tcp_tracker)
        former = engine.core.table.find(inverted(after, engine.core.protos[tuples.protonum(after)]))
        if former is not None:  # the router had ended it already
            engine.core.kill(former, END_REOPENED, self.now)
        engine.nat.replace_rules(rules)
        return True

    def _visits(self, step: Step, known: NfConn | None) -> None:
        engine, packet = self.engine, step.packet
        seen = engine.diagnostics.recent.total
        engine.core.checksum = self.checksum and not packet.cut
        indev, outdev = self._interfaces(step.arrived)
        first = Skb(step.arrived, 0, indev, 0)
        step.unfinished = first.checksum_partial = engine.core.checksum and has_unfinished_checksum(step.arrived)
        status = known.status if known is not None else 0
        step.hooks = [PRE_ROUTING]
        last, step.verdict = first, engine.handle(first, PRE_ROUTING, self.now)
        if first.ct is not known:
            status = 0
        self._gain(step, first.ct, status, PRE_ROUTING)
        status = first.ct.status if first.ct is not None else status
        if step.verdict == NF_ACCEPT:
            last = Skb(first.data, first.mark, indev, outdev)
            last.checksum_partial = first.checksum_partial
            step.hooks.append(POST_ROUTING)
            step.verdict = engine.handle(last, POST_ROUTING, self.now)
            self._gain(step, last.ct, status, POST_ROUTING)
        step.ctinfo = last.ctinfo
        step.ct = last.ct
        step.left = last.data if step.verdict == NF_ACCEPT else b""
        step.notes = [note for note in engine.diagnostics.recent.since(seen) if not note.lacks]
        concerned = last.ct or (known if known is not None and not known.dying else None)
        if concerned is not known:
            step.before = None
        step.after = shown(concerned, self.now) if concerned is not None else None
        step.ended += [(at, ct) for at, ct in self._ended() if ct is not step.ct]  # its own is in the status

    def _gain(self, step: Step, ct: NfConn | None, before: int, hook: int) -> None:
        if ct is not None and ct.status & ~before:
            step.gained.append((hook, ct.status & ~before))

    def _expire(self) -> list[tuple[int, NfConn]]:
        self.engine.expire(self.now, ALL)
        return self._ended()

    def _ended(self) -> list[tuple[int, NfConn]]:
        events = self.engine.drain_events()
        ended = [event.conn for event in events if event.bits & IPCT_DESTROY]
        return sorted([(_end(ct), ct) for ct in ended], key=_when)

    def _interfaces(self, data: bytes) -> tuple[int, int]:
        packet = Skb(data)
        if not self.inside or ip.parse(packet):
            return INSIDE, OUTSIDE
        pair = ip.addresses(packet)
        source = pair[: len(pair) // 2]
        return (INSIDE, OUTSIDE) if any(net.has(source) for net in self.inside) else (OUTSIDE, INSIDE)

    def _known(self, data: bytes) -> NfConn | None:
        """The connection of the packet's tuple, or of the tuple an ICMP error quotes, before the packet is handled."""
        core = self.engine.core
        t = self._tuple(data)
        if not t:
            skb = Skb(data)
            at = NO_QUOTE if ip.parse(skb) else self._quote(skb)
            t = inner_tuple(core.protos, skb, at) if at > NO_QUOTE else b""
        ct = core.table.find(t)
        return ct if ct is not None and ct.timeout > self.now else None

    def _tuple(self, data: bytes) -> bytes:
        """The packet's own tuple; empty if it cannot be read, or of an ICMP error."""
        skb = Skb(data)
        if ip.parse(skb) or self._quote(skb) > NO_QUOTE:
            return b""
        l4 = self.engine.core.protos[skb.protonum].l4(skb)
        return tuples.make(ip.addresses(skb), l4, skb.protonum) if l4 else b""

    def _quote(self, skb: Skb) -> int:
        l4proto = self.engine.core.protos[skb.protonum]
        return NO_QUOTE if l4proto.check(skb, False) else l4proto.quotes(skb)


def _exactly(address: bytes, port: int) -> Range:
    return Range(address, address, port, port)


def has_unfinished_checksum(data: bytes) -> bool:
    """Whether the TCP or UDP checksum field holds the sum of the pseudo-header."""
    skb = Skb(data)
    if ip.parse(skb) or skb.protonum not in CHECKSUM_AT:
        return False
    at = skb.dataoff + CHECKSUM_AT[skb.protonum]
    return at + 2 <= skb.end and u16(data, at) > 0 and u16(data, at) % 65535 == ip.pseudo_header(skb) % 65535


def _headers_complete(packet: Captured) -> bool:
    """Whether a packet cut short by the capture still has its whole layer 4 header."""
    kept = len(packet.data) - packet.cut
    skb = Skb(packet.data)
    if ip.parse(skb):
        return False
    needed = 8
    if skb.protonum == IPPROTO_TCP:
        complete = kept >= skb.dataoff + tcp.HEADER
        needed = tcp.data_offset(skb.data, skb.dataoff) if complete else tcp.HEADER
    return kept >= skb.dataoff + needed


def _end(ct: NfConn) -> int:
    """When it ended; for a timeout when it was due, as gc runs a little later."""
    return ct.timeout if ct.end_reason == END_TIMEOUT else ct.ended


def _when(ended: tuple[int, NfConn]) -> int:
    return ended[0]


def shown(ct: NfConn, now: int) -> Shown:
    state = ct.l4proto.state_names[ct.state] if ct.l4proto.shows_state else ""
    return Shown(ct.status, state, ct.remaining(now))


def _repeats(ct: NfConn, data: bytes) -> str:
    """A hint about a TCP segment in the window without new data: keepalive or retransmission; else empty."""
    if not isinstance(ct.proto, TcpInfo):
        return ""
    skb = Skb(data)
    ip.parse(skb)
    t = tuples.make(ip.addresses(skb), ct.l4proto.l4(skb), skb.protonum)
    direction = ORIGINAL if tuples.bare(ct.original) == t else REPLY
    segment = Segment(skb, direction)
    length = skb.end - segment.stop
    sender = Side()
    sender.load(ct.proto.original if direction == ORIGINAL else ct.proto.reply)
    if segment.flags & tcp.RST or sender.maxwin == 0 or after(segment.end, sender.end):
        return ""
    if length <= 1 and segment.seq == (sender.end - 1) & M32 and ct.state == TCP_CONNTRACK_ESTABLISHED:
        return "a keepalive: it repeats the last byte"
    if segment.end == segment.seq:
        return ""  # a pure ACK
    what = "SYN" if segment.flags & tcp.SYN else f"SEQ {segment.seq} to {segment.end}"
    return f"a retransmission: {what} was sent before, the highest so far is {sender.end}"
