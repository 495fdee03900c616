"""Conversations: a test is a transcript of what went in (>>) and what came out (<<).

    assert (
        play
        >> udp(CLIENT, SERVER) << accept(NEW, timeout=30)
        >> udp(SERVER, CLIENT) << accept(ESTABLISHED_REPLY, timeout=30)
        >> advance(31)         << destroyed("timeout")
    )

Every step but `advance`, `restart` and `crash` must be answered, and everything an answer names must be so; what it
does not name is free. A difference prints the whole conversation, wanted beside seen. A test that does not assert its
conversation fails (tests/conftest.py).

A packet goes through the router as in life: PREROUTING, routing by destination, POSTROUTING (or INPUT, or OUTPUT),
and what leaves is what the next answer can ask about. A packet that the daemon marked as done makes no second visit, as
with the steering rules. Time is virtual and moves only by `advance`, after which only
entries, events and ended are known; the sweep may be a second late, so a connection of 30 s has ended after 31.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.events import Event
from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import (
    CTINFO_NAMES,
    IPCT_DESTROY,
    LOCAL_IN,
    LOCAL_OUT,
    NF_ACCEPT,
    POST_ROUTING,
    PRE_ROUTING,
    STATUS_NAMES,
)
from conntrackd_py.engine.engine import Engine
from conntrackd_py.engine.raw_mangle import MarkRule, RawRule
from conntrackd_py.explain.hints import sentence
from conntrackd_py.helpers.helper import Helper
from conntrackd_py.nat.rules import NatRule
from conntrackd_py.reasons import END_NAMES, REASON_NAMES
from conntrackd_py.wire import ip as wire_ip
from tests.support import journals, packets
from tests.support.steering import passes
from tests.support.transcript import Transcript

LAN, WAN, LOCAL = 2, 3, 0


@dataclass(frozen=True)
class Host:
    """An end of conversations, in both families. `port` is what its packets use by default."""

    name: str
    v4: str
    v6: str
    link: int
    port: int


CLIENT = Host("client", "192.168.1.2", "fd00:1::2", LAN, 40000)
NEIGHBOUR = Host("neighbour", "192.168.1.3", "fd00:1::3", LAN, 40000)
SERVER = Host("server", "198.51.100.2", "2001:db8:2::2", WAN, 80)
OTHER = Host("other", "198.51.100.3", "2001:db8:2::3", WAN, 80)
ROUTER = Host("router", "203.0.113.1", "2001:db8:1::1", WAN, 40000)
INSIDE = Host("inside", "192.168.1.1", "fd00:1::1", LAN, 40000)
HOSTS = (CLIENT, NEIGHBOUR, SERVER, OTHER, ROUTER, INSIDE)


@dataclass
class Said:
    """One packet put into the router; `bytes_for` makes it for address family 4 or 6."""

    text: str
    bytes_for: Callable[[int], bytes]
    sender: Host


@dataclass(frozen=True)
class Arrival:
    """The first of a packet's two visits."""

    said: Said


@dataclass(frozen=True)
class Departure:
    """The second visit of a packet that has arrived; place: among those that wait, 0 the oldest."""

    place: int


def arrives(said: Said) -> Arrival:
    """The packet comes in and waits; `leaves` sends it on."""
    return Arrival(said)


def leaves(place: int = 0) -> Departure:
    """A packet that waits goes on. With a place other than 0 it overtakes the older ones."""
    return Departure(place)


@dataclass(frozen=True)
class Advance:
    seconds: float


@dataclass(frozen=True)
class Restart:
    """clean: the daemon stopped by itself; otherwise it was killed. away: seconds until the new one is ready."""

    clean: bool
    away: float


def restart(away: float = 0.0) -> Restart:
    return Restart(True, away)


def crash(away: float = 0.0) -> Restart:
    return Restart(False, away)


def advance(seconds: float) -> Advance:
    """Let virtual time pass; what expires, expires."""
    return Advance(seconds)


def _at(host: Host, family: int) -> str:
    return host.v4 if family == 4 else host.v6


def udp(sender: Host, receiver: Host, data: bytes = b"", *, sport: int = 0, dport: int = 0) -> Said:
    ports = sport or sender.port, dport or receiver.port
    return Said(
        f"udp {sender.name} > {receiver.name}",
        lambda f: packets.udp(_at(sender, f), _at(receiver, f), *ports, data),
        sender,
    )


def tcp(
    sender: Host,
    receiver: Host,
    flags: str,
    *,
    seq: int = 0,
    ack: int = 0,
    data: bytes = b"",
    window: int = 65535,
    options: bytes = b"",
    sport: int = 0,
    dport: int = 0,
) -> Said:
    ports = sport or sender.port, dport or receiver.port

    def make(family: int) -> bytes:
        return packets.tcp(
            _at(sender, family),
            _at(receiver, family),
            *ports,
            flags,
            seq=seq,
            ack=ack,
            data=data,
            window=window,
            options=options,
        )

    return Said(f"tcp {sender.name} > {receiver.name} {flags} seq {seq} ack {ack}", make, sender)


def ping(sender: Host, receiver: Host, ident: int = 42, sequence: int = 1) -> Said:
    return _echo(sender, receiver, 8, 128, ident, sequence, "echo request")


def pong(sender: Host, receiver: Host, ident: int = 42, sequence: int = 1) -> Said:
    return _echo(sender, receiver, 0, 129, ident, sequence, "echo reply")


def _echo(sender: Host, receiver: Host, v4: int, v6: int, ident: int, sequence: int, text: str) -> Said:
    return Said(
        f"{text} {sender.name} > {receiver.name} id {ident}",
        lambda f: packets.icmp(_at(sender, f), _at(receiver, f), v4 if f == 4 else v6, 0, ident, sequence),
        sender,
    )


def error(
    sender: Host, receiver: Host, about: Said, *, v4: tuple[int, int] = (3, 3), v6: tuple[int, int] = (1, 4)
) -> Said:
    """An ICMP error (type, code) that quotes a packet: port unreachable by default."""
    return Said(
        f"icmp error {sender.name} > {receiver.name} about ({about.text})",
        lambda f: packets.icmp(
            _at(sender, f),
            _at(receiver, f),
            *(v4 if f == 4 else v6),
            0,
            0,
            about.bytes_for(f)[: 28 if f == 4 else 1232],
        ),
        sender,
    )


def raw(sender: Host, packet: bytes | Callable[[int], bytes], text: str = "raw") -> Said:
    """packet: its bytes, or what makes them for address family 4 or 6."""
    return Said(text, (lambda _: packet) if isinstance(packet, bytes) else packet, sender)


def corrupted(said: Said) -> Said:
    """The same packet with a wrong checksum."""
    return Said(f"{said.text} (bad checksum)", lambda f: packets.broken(said.bytes_for(f)), said.sender)


@dataclass
class Wanted:
    """What an answer asks for; a field left out is free."""

    facts: dict[str, object] = field(default_factory=dict)


def accept(ctinfo: int | None = None, **facts: object) -> Wanted:
    """The packet left (or reached the router). Facts: timeout (s), state, status and not_status (IPS_* bits),
    exactly (all of them) and entered (all of them behind PREROUTING), reason, why (the reason in a sentence), visits,
    keepalive (s: would have saved the connection that expired in use and for which this packet was),
    src, dst, sport, dport, data (of the packet as it left), entries, events (their kinds, since the step before)."""
    wanted = {} if ctinfo is None else {"ctinfo": CTINFO_NAMES[ctinfo]}
    return Wanted({"verdict": "accept", **wanted, **facts})


def invalid(reason: int, **facts: object) -> Wanted:
    """It passed, attached to nothing, for this reason."""
    return Wanted({"verdict": "accept", "ctinfo": "INVALID", "reason": REASON_NAMES[reason], **facts})


def dropped(reason: int) -> Wanted:
    return Wanted({"verdict": "drop", "reason": REASON_NAMES[reason]})


def destroyed(reason: str = "timeout") -> Wanted:
    """Exactly one connection has ended, for this reason."""
    return Wanted({"ended": [reason]})


def nothing() -> Wanted:
    """No connection has ended."""
    return Wanted({"ended": []})


class Play:
    def __init__(
        self,
        family: int,
        nat_rules: list[NatRule] | None = None,
        *,
        mode: str = "nat",
        tcp: str = "netfilter",
        raw_rules: list[RawRule] | None = None,
        mark_rules: list[MarkRule] | None = None,
        mark: int = 0,
        helpers: tuple[type[Helper], ...] = (),
        **tunables: object,
    ) -> None:
        self.family = family
        self.mark = mark  # of packets from outside the router, when they arrive
        self.now = 1_000_000
        self.tunables = Tunables(**tunables)  # type: ignore[arg-type]
        self.make: partial[Engine] = partial(
            Engine,
            self.tunables,
            Repeatable(7),
            mode=mode,
            nat_rules=nat_rules,
            tcp_tracker=tcp,
            raw_rules=raw_rules,
            mark_rules=mark_rules,
        )
        self.helpers = helpers
        self.engine = self._started()
        self.transcript = Transcript()
        self.waiting: list[tuple[Said, Skb, dict[str, object]]] = []  # between their two visits
        self.seen: dict[str, object] = {}
        self.ct: NfConn | None = None
        self.left = b""
        self.events: list[str] = []
        self.log: list[Event] = []

    def _started(self) -> Engine:
        """A new engine with a journal, like that of a daemon that has just started."""
        engine = self.make(helpers=[helper(self.tunables) for helper in self.helpers])
        engine.core.events.enabled = True
        for link, name, hosts in ((LAN, "lan", (INSIDE,)), (WAN, "wan", (ROUTER,))):
            addresses = [packets.address(a) for host in hosts for a in (host.v4, host.v6)]
            engine.set_interface(link, name, addresses, self.now)
        journals.attach(engine)
        return engine

    def _restart(self, step: Restart) -> None:
        if step.clean:
            journals.finish(self.engine)
        former = self.engine.core.journal
        assert former is not None
        self.now += int(step.away * 1000)
        self.waiting.clear()
        self.engine = self._started()
        journals.restored(
            former, self.engine, self.now, clean=step.clean, away=int(step.away * 1000), tunables=self.tunables
        )
        assert self.engine.core.journal is not None
        self.engine.core.journal.write_all(self.engine.core.table.slots)
        self.engine.expire(self.now, 1 << 20)
        self.seen = {"entries": len(self.engine.core.table)}

    # --- in ---------------------------------------------------------------------------------------

    def __rshift__(self, step: Said | Arrival | Departure | Advance | Restart) -> Play:
        if isinstance(step, Advance):
            self.transcript.note(f"{step.seconds} s later")
            self.now += int(step.seconds * 1000)
            self.engine.expire(self.now, 1 << 20)
            self.seen = {"entries": len(self.engine.core.table)}
        elif isinstance(step, Restart):
            self.transcript.note(f"{'restart' if step.clean else 'crash'}, ready {step.away} s later")
            self._restart(step)
        elif isinstance(step, Arrival):
            self.transcript.ask(f"arrives: {step.said.text}")
            self._enter(step.said)
        elif isinstance(step, Departure):
            self.transcript.ask(f"leaves: {self.waiting[step.place][0].text}")
            self._leave(*self.waiting.pop(step.place))
        else:
            self.transcript.ask(step.text)
            if self._enter(step) == NF_ACCEPT:
                self._leave(*self.waiting.pop())
        self._collect()
        return self

    def _collect(self) -> None:
        events = self.engine.drain_events()
        self.log += events
        kinds = [event.kind for event in events]
        self.events += kinds
        self.seen["events"] = kinds
        self.seen["ended"] = [END_NAMES[e.conn.end_reason] for e in events if e.bits & IPCT_DESTROY]

    def _enter(self, step: Said) -> int:
        """The first visit; what is accepted waits for the second."""
        data = step.bytes_for(self.family)
        own = step.sender in (ROUTER, INSIDE)
        skb = Skb(data, 0 if own else self.mark, 0 if own else step.sender.link, self._link_to(data) if own else 0)
        told = self.engine.diagnostics.recent.total
        verdict = self.engine.handle(skb, LOCAL_OUT if own else PRE_ROUTING, self.now)
        self._observe(skb, verdict)
        if skb.ct is not None:
            self.seen["entered"] = skb.ct.status
        self._explain(told)
        if verdict == NF_ACCEPT:
            self.waiting.append((step, skb, dict(self.seen)))
        return verdict

    def _leave(self, step: Said, first: Skb, before: dict[str, object]) -> None:
        own = step.sender in (ROUTER, INSIDE)
        outdev = self._link_to(first.data)
        hook = LOCAL_IN if outdev == LOCAL else POST_ROUTING
        told = self.engine.diagnostics.recent.total
        skb, verdict, passed = first, NF_ACCEPT, passes(self.engine, first.mark, hook, outdev)
        if not passed:
            skb = Skb(first.data, first.mark, 0 if own else step.sender.link, outdev)
            verdict = self.engine.handle(skb, hook, self.now)
            skb.reason = skb.reason or first.reason
        self._observe(skb, verdict)
        self.seen["visits"] = 1 if passed else 2
        self.seen = {key: before[key] for key in ("entered", "why", "keepalive") if key in before} | self.seen
        self._explain(told)

    def _explain(self, told: int) -> None:
        for note in self.engine.diagnostics.recent.since(told):
            self.seen["why"] = sentence(note)
            self.seen["keepalive"] = note.expired.keepalive() / 1000 if note.expired else "nothing"

    def _link_to(self, data: bytes) -> int:
        """Routing: the link of the host with this destination address; the router's own are local."""
        destination = data[16:20] if data[0] >> 4 == 4 else data[24:40]
        for host in HOSTS:
            if packets.address(_at(host, self.family)) == destination:
                return LOCAL if host in (ROUTER, INSIDE) else host.link
        return WAN

    def _observe(self, skb: Skb, verdict: int) -> None:
        self.ct = skb.ct
        self.left = skb.data if verdict == NF_ACCEPT else b""
        self.seen = {
            "verdict": "accept" if verdict == NF_ACCEPT else "drop",
            "ctinfo": CTINFO_NAMES[skb.ctinfo],
            "reason": REASON_NAMES[skb.reason],
            "entries": len(self.engine.core.table),
            "mark": skb.mark & 0xFF,
            "data": self.left,
        }
        if skb.ct is not None:
            self.seen["timeout"] = skb.ct.remaining(self.now) / 1000
            self.seen["state"] = skb.ct.l4proto.state_names[skb.ct.state]
            self.seen["status"] = self.seen["exactly"] = skb.ct.status
            self.seen["connmark"] = skb.ct.mark
            self.seen["zones"] = (tuples.zone(skb.ct.original), tuples.zone(skb.ct.reply))
            self.seen["reply"] = tuple(_show(skb.ct.reply))
        if not wire_ip.parse(skb):
            l4 = self.engine.core.protos[skb.protonum].l4(skb) or b"\0\0\0\0"
            shown = _show(tuples.make(wire_ip.addresses(skb), l4, skb.protonum))
            self.seen.update(zip(("src", "dst", "sport", "dport"), shown, strict=True))
            self.seen["ident"] = shown[2]

    # --- out -----------------------------------------------------------------------------------------

    def __lshift__(self, wanted: Wanted) -> Play:
        compared = [self._compare(name, value) for name, value in wanted.facts.items()]
        good = all(fits for fits, _, _ in compared)
        seen = " ".join(text for _, _, text in compared)
        self.transcript.answer(" ".join(text for _, text, _ in compared), "" if good else seen)
        return self

    def _compare(self, name: str, value: object) -> tuple[bool, str, str]:
        """Whether a fact is as wanted; what was wanted and what was seen, as text."""
        actual = self.seen.get("status" if name == "not_status" else name, "nothing")
        if name in ("status", "not_status", "exactly", "entered"):
            assert isinstance(value, int)
            if not isinstance(actual, int):  # no connection
                return False, f"{name}={bits(value)}", f"{name}={actual}"
            masked = actual & value if name in ("status", "not_status") else actual
            return masked == (0 if name == "not_status" else value), f"{name}={bits(value)}", f"{name}={bits(actual)}"
        if isinstance(value, Host):
            value = _at(value, self.family)
        return actual == value, f"{name}={value}", f"{name}={actual}"

    def __bool__(self) -> bool:
        """Whether everything went as wanted; otherwise fails with both transcripts."""
        self.transcript.check()
        return True


def bits(status: int) -> str:
    return "|".join(name for i, name in enumerate(STATUS_NAMES) if status >> i & 1) or "0"


def _show(t: bytes) -> list[object]:
    return [
        str(ipaddress.ip_address(tuples.src(t))),
        str(ipaddress.ip_address(tuples.dst(t))),
        tuples.l4src(t),
        tuples.l4dst(t),
    ]
