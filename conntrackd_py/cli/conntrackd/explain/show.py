"""Prints the steps of a capture as text or JSON. Changes are marked with + and, on a terminal, are bold.

#2  0.031000  tcp 198.51.100.2:80 > 192.168.1.2:40000 [S.] seq 200 ack 101 win 65535 len 0
    PRE_ROUTING +SEEN_REPLY → FORWARD → POST_ROUTING
    ctinfo   ESTABLISHED_REPLY
    status   +SEEN_REPLY CONFIRMED
    state    SYN_SENT → SYN_RECV
    timeout  119.99 s → 60 s
"""

from typing import Final

from rich.console import Console
from rich.text import Text

from conntrackd_py.cli.conntrackd.explain.replay import Shown, Step
from conntrackd_py.cli.conntrackd.explain.sightings import Sighting
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.const import (
    CTINFO_NAMES,
    FORWARD,
    HOOK_NAMES,
    IPS_DYING,
    NF_ACCEPT,
    POST_ROUTING,
    PRE_ROUTING,
    STATUS_NAMES,
)
from conntrackd_py.control import view
from conntrackd_py.explain import packet_line as packetline
from conntrackd_py.explain.hints import seconds, sentence
from conntrackd_py.reasons import END_NAMES, REASON_NAMES

INDENT: Final = "    "
WRONG: Final = "bold red"
CHANGED: Final = "bold"


class Screen:
    """Prints steps to a console. zero: time of the first packet, ms."""

    def __init__(self, console: Console, zero: int) -> None:
        self.console = console
        self.zero = zero

    def step(self, step: Step) -> None:
        packet = step.packet
        line = packetline.line(packet.data, len(packet.data)) if packet.data else "not an IP packet"
        self.put(f"#{packet.number}  {(packet.at - self.zero) / 1000:.6f}  {line}")
        if packet.cut:
            self.fact("capture", f"{packet.cut} bytes were not captured; the checksum is not verified")
        if not step.judged:
            if step.again:
                self.fact("again", again_text(step.again))
            elif packet.waiting:
                self.fact("fragment", "tracked when its packet is complete")
            elif packet.data:
                self.fact("skipped", "its headers were not captured completely; it is not tracked", WRONG)
            self.console.print()
            return
        if packet.pieces:
            self.fact("whole", f"reassembled from {', '.join(f'#{number}' for number in packet.pieces)}")
        if step.arrived != packet.data:
            self.fact("arrives", packetline.line(step.arrived, len(step.arrived)), CHANGED)
        self.print(hooks_text(step))
        self.fact("ctinfo", CTINFO_NAMES[step.ctinfo])
        self._connection(step)
        if step.left and step.left != packet.data:
            self.fact("leaves", packetline.line(step.left, len(step.left)), CHANGED)
        for note in step.notes:
            self.fact("reason" if note.reason else "hint", sentence(note), WRONG)
        for hint in step.hints:
            self.fact("hint", hint)
        self.console.print()

    def ended(self, at: int, ct: NfConn) -> None:
        """A connection that ended between two packets."""
        why = END_NAMES[ct.end_reason]
        text = Text(f"--  {(at - self.zero) / 1000:.6f}  {connection_text(ct)}: {why}: ")
        text.append("+DYING", style=CHANGED)
        text.append(", removed from the table")
        self.print(text)
        self.console.print()

    def _connection(self, step: Step) -> None:
        before, after = step.before, step.after
        if after is None:
            return
        old = after.status if step.ct is None else before.status if before is not None else 0
        text = Text(f"{INDENT}{'status':<8}")
        for bit, name in enumerate(STATUS_NAMES):
            if after.status >> bit & 1:
                new = not old >> bit & 1
                text.append(f" +{name}" if new else f" {name}", style=CHANGED if new else "")
        if step.ct is None:
            text.append(" (of its connection, unchanged)")
        self.print(text)
        if after.state:
            self._change("state", before.state if before is not None else "", after.state)
        if not after.status & IPS_DYING:
            self._change("timeout", seconds(before.timeout) if before is not None else "", seconds(after.timeout))

    def _change(self, label: str, old: str, new: str) -> None:
        text = Text(f"{INDENT}{label:<9}")
        if old != new:
            text.append(f"{old or '-'} → ")
        text.append(new, style=CHANGED if old != new else "")
        self.print(text)

    def fact(self, label: str, value: str, style: str = "") -> None:
        text = Text(f"{INDENT}{label:<9}")
        text.append(value, style=style)
        self.print(text)

    def put(self, line: str) -> None:
        self.print(Text(line))

    def print(self, text: Text) -> None:
        self.console.print(text, soft_wrap=True)


def again_text(again: Sighting) -> str:
    """`#1 seen again on interface 3, sent`."""
    packet, first = again.packet, again.first
    where = f"on {packet.interface}" if packet.interface else "on another link"
    if packet.sent is not None:
        where += ", sent" if packet.sent else ", received"
    return f"#{first.number} seen again {where}" if first else f"a part of packets seen before, {where}"


def hooks_text(step: Step) -> Text:
    """PRE_ROUTING +SEEN_REPLY → FORWARD → POST_ROUTING: the hooks and the status bits set at each."""
    gained = dict(step.gained)
    text = Text(INDENT)
    for at, hook in enumerate(passed(step)):
        text.append(" → " if at else "")
        text.append(HOOK_NAMES[hook])
        for name in view.names(gained.get(hook, 0), STATUS_NAMES):
            text.append(f" +{name}", style=CHANGED)
    if step.verdict != NF_ACCEPT:
        text.append(", dropped here", style=WRONG)
    return text


def passed(step: Step) -> list[int]:
    """The hooks passed: a visit at POST_ROUTING includes FORWARD."""
    return [PRE_ROUTING, FORWARD, POST_ROUTING] if POST_ROUTING in step.hooks else step.hooks


def connection_text(ct: NfConn) -> str:
    described = view.connection(ct, 0, False)
    side = view.tuple_fields(ct.original)
    ports = "sport" in side
    source = f"{side['src']}:{side['sport']}" if ports else f"{side['src']}"
    destination = f"{side['dst']}:{side['dport']}" if ports else f"{side['dst']}"
    return f"{described['proto']} {source} > {destination} {described.get('state', '')}".rstrip()


def step_fields(step: Step, zero: int) -> packetline.Fields:
    """One packet as a JSON object. Times and timeouts are in seconds, by the clock of the capture."""
    packet = step.packet
    found: packetline.Fields = {
        "number": packet.number,
        "time": packet.at / 1000,
        "since_first": (packet.at - zero) / 1000,
    }
    if step.ended:
        found["ended"] = [
            {"time": at / 1000, "connection": connection_text(ct), "reason": END_NAMES[ct.end_reason]}
            for at, ct in step.ended
        ]
    if packet.data:
        found["packet"] = packetline.fields(packet.data, len(packet.data))
    if packet.cut:
        found["not_captured"] = packet.cut
    if packet.interface:
        found["interface"] = packet.interface
    if packet.pieces:
        found["reassembled_from"] = list(packet.pieces)
    if step.judged and step.arrived != packet.data:
        found["arrived"] = packetline.fields(step.arrived, len(step.arrived))
    if step.again:
        found["seen_before"] = step.again.first.number if step.again.first else None
    if not step.judged:
        return {**found, "judged": False}
    found["hooks"] = [HOOK_NAMES[hook] for hook in passed(step)]
    found["verdict"] = "accept" if step.verdict == NF_ACCEPT else "drop"
    found["ctinfo"] = CTINFO_NAMES[step.ctinfo]
    found["before"] = _moment(step.before)
    found["after"] = _moment(step.after)
    found["gained"] = {HOOK_NAMES[hook]: view.names(bits, STATUS_NAMES) for hook, bits in step.gained}
    found["reasons"] = [_reason(step, at) for at in range(len(step.notes))]
    found["hints"] = step.hints
    return found


def _reason(step: Step, at: int) -> packetline.Fields:
    note = step.notes[at]
    found: packetline.Fields = {
        "reason": REASON_NAMES[note.reason],
        "numbers": list(note.numbers),
        "why": sentence(note),
    }
    if note.cause:
        found["cause"] = REASON_NAMES[note.cause]
    if note.expired is not None:
        found["expired_in_use"] = view.expired_in_use(note.expired, note.at)
    return found


def _moment(shown: Shown | None) -> packetline.Fields | None:
    if shown is None:
        return None
    return {
        "status": view.names(shown.status, STATUS_NAMES),
        "state": shown.state,
        "timeout": shown.timeout / 1000,
    }
