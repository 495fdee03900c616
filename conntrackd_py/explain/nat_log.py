"""The lines of the NAT log: a JSON object each; the time comes first and always has 24 characters, then the event.

    {"time":"2026-11-22T10:03:00.123Z","event":"NEW","proto":"tcp","orig":{...},"reply":{...},"id":7,"rule":"nat[0]"}

VERSION changes when a reader of the former version would misread a line. docs/nat-log.md explains every event.
"""

import json
from datetime import UTC, datetime
from typing import Final, final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.events import Event
from conntrackd_py.const import ICMP_PROTOCOLS, IPCT_DESTROY, IPPROTO_GRE, PROTO_NAMES, WITH_PORTS
from conntrackd_py.match.address import address_text
from conntrackd_py.nat.carrier.block_space import Block
from conntrackd_py.nat.carrier.blocks import BlockEvent
from conntrackd_py.nat.carrier.deterministic import shape_of
from conntrackd_py.nat.rules import NatRule

VERSION: Final = 1
KEPT: Final = 16384
NEW: Final = "NEW"
OPEN: Final = "OPEN"
DESTROY: Final = "DESTROY"
BLOCK: Final = "BLOCK"
HELD: Final = "HELD"
RELEASE: Final = "RELEASE"
FILE: Final = "FILE"
START: Final = "START"
RELOAD: Final = "RELOAD"
STOP: Final = "STOP"
LOST: Final = "LOST"
LIST: Final = "LIST"
LISTED: Final = "LISTED"
CLOCK: Final = "CLOCK"
MARK: Final = "MARK"


@final
class Texts:
    """Texts of times, addresses and names of rules. It keeps that of the last second, and KEPT of the others."""

    def __init__(self) -> None:
        self.second = -1
        self.time = ""
        self.addresses: dict[bytes, str] = {}
        self.names: dict[str, str] = {}

    def stamp(self, at: int) -> str:
        """at: ms since 1970."""
        second = at // 1000
        if second != self.second:
            self.second = second
            self.time = f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"
        return f"{self.time}.{at - second * 1000:03d}Z"

    def address(self, packed: bytes) -> str:
        text = self.addresses.get(packed)
        if text is None:
            if len(self.addresses) >= KEPT:
                self.addresses.clear()
            text = address_text(packed)
            self.addresses[packed] = text
        return text

    def quoted(self, name: str) -> str:
        text = self.names.get(name)
        if text is None:
            if len(self.names) >= KEPT:
                self.names.clear()
            text = json.dumps(name)
            self.names[name] = text
        return text

    def side(self, t: bytes) -> str:
        """A tuple, with the keys of the control socket."""
        text = f'{{"src":"{self.address(tuples.src(t))}","dst":"{self.address(tuples.dst(t))}"'
        protonum, first, second = tuples.protonum(t), tuples.l4src(t), tuples.l4dst(t)
        if protonum in WITH_PORTS:
            return f'{text},"sport":{first},"dport":{second}}}'
        if protonum in ICMP_PROTOCOLS:
            return f'{text},"type":{second >> 8},"code":{second & 0xFF},"id":{first}}}'
        if protonum == IPPROTO_GRE:
            return f'{text},"srckey":{first},"dstkey":{second}}}'
        return f"{text}}}"


@final
class Connections:
    """Events that were drained together. offset: the time in ms since 1970 at which the engine's clock was 0.

    names: the rules of each connection, empty if not known. An event without bits is a connection that was open.
    """

    def __init__(self, events: list[Event], names: list[str], offset: int, accounting: bool) -> None:
        self.events = events
        self.names = names
        self.offset = offset
        self.accounting = accounting

    def lines(self, first: int, end: int, texts: Texts) -> bytes:
        """The lines of the events from `first`, before `end`."""
        found: list[str] = []
        for at in range(first, min(end, len(self.events))):
            found.append(self._line(self.events[at], self.names[at], texts))
        return "".join(found).encode()

    def _line(self, event: Event, name: str, texts: Texts) -> str:
        ct = event.conn
        ends = event.bits & IPCT_DESTROY != 0
        at = event.ended if ends else event.at
        kind = DESTROY if ends else NEW if event.bits else OPEN
        protonum, zone = tuples.protonum(ct.original), tuples.zone(ct.original)
        more = f',"zone":{zone}' if zone else ""
        if name:
            more += f',"rule":{texts.quoted(name)}'
        if kind != NEW:
            age = max(at - event.born, 0)
            more += f',"duration":{age // 1000}.{age % 1000:03d}'
        if ends and self.accounting:
            more += f',"packets":[{event.packets_original},{event.packets_reply}]'
            more += f',"bytes":[{event.bytes_original},{event.bytes_reply}]'
        return (
            f'{{"time":"{texts.stamp(self.offset + at)}","event":"{kind}",'
            f'"proto":"{PROTO_NAMES.get(protonum) or str(protonum)}",'
            f'"orig":{texts.side(ct.original)},"reply":{texts.side(ct.reply)},"id":{ct.id}{more}}}\n'
        )


def held_line(block: Block, now: int, offset: int, texts: Texts) -> bytes:
    """A block that is allocated. now: engine time."""
    event = BlockEvent(True, block.inside, block.outer, block.low, block.high, block.label, now)
    fields = {**_block(event), "duration": max(now - block.since, 0) / 1000}
    return note_line(HELD, offset + now, texts, fields)


def block_line(event: BlockEvent, offset: int, texts: Texts) -> bytes:
    return note_line(BLOCK if event.allocated else RELEASE, offset + event.when, texts, _block(event))


def _block(event: BlockEvent) -> dict[str, object]:
    addresses: dict[str, object] = {"inside": address_text(event.inside), "outer": address_text(event.outer)}
    return {**addresses, "low": event.low, "high": event.high, "rule": event.label}


def note_line(kind: str, at: int, texts: Texts, fields: dict[str, object]) -> bytes:
    """Any other line. at: ms since 1970."""
    text = json.dumps({"time": texts.stamp(at), "event": kind, **fields}, separators=(",", ":"))
    return f"{text}\n".encode()


def deterministic_rules(rules: list[NatRule]) -> list[dict[str, object]]:
    """What `rule_of` needs, of each deterministic rule."""
    found: list[dict[str, object]] = []
    for rule in rules:
        source = rule.match.source
        if source is None or not shape_of(rule)[0]:
            continue
        found.append(
            {
                "rule": rule.label,
                "source": [address_text(source.bounds[0]), address_text(source.bounds[1])],
                "to": [address_text(rule.to.low), address_text(rule.to.high)],
                "ports": [rule.to.port_low, rule.to.port_high],
            }
        )
    return found
