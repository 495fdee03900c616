"""A line of the NAT log as a record, checked: a log may be damaged or forged."""

import re
from typing import Final

from msgspec import DecodeError, Struct
from msgspec.json import Decoder

from conntrackd_py.cli.conntrackd.who_had.times import ms_of
from conntrackd_py.match.address import AddressError, Addresses, packed_address
from conntrackd_py.match.match import Match
from conntrackd_py.nat.range import Range
from conntrackd_py.nat.rules import NAT_SNAT, NatRule

HEAD: Final = re.compile(
    rb'\{"time":"([12]\d{3}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{3}Z)",'
    rb'"event":"([A-Z]+)"[,}]'
)
CONNECTIONS: Final = (b"NEW", b"OPEN", b"DESTROY")
LONGEST: Final = 65536  # bytes of a line
MOST_SECONDS: Final = 1e10
PORTS: Final = 65535


class Side(Struct):
    """A tuple of a connection."""

    src: str
    dst: str
    sport: int = 0
    dport: int = 0
    id: int = 0
    srckey: int = 0
    dstkey: int = 0

    @property
    def source(self) -> tuple[str, int]:
        """Address, and port, identifier or key."""
        return self.src, self.sport or self.id or self.srckey

    @property
    def destination(self) -> tuple[str, int]:
        return self.dst, self.dport or self.id or self.dstkey


class RuleRecord(Struct):
    """A deterministic rule."""

    rule: str
    source: tuple[str, str]
    to: tuple[str, str]
    ports: tuple[int, int]

    def nat_rule(self) -> NatRule:
        """Raises AddressError."""
        source, to = ([packed_address(text) for text in bounds] for bounds in (self.source, self.to))
        low, high = self.ports
        if len(source[0]) != len(source[1]) or len(to[0]) != len(to[1]) or not 0 < low <= high <= PORTS:
            raise AddressError("not a range")
        if source[0] > source[1] or to[0] > to[1]:
            raise AddressError("not a range")
        rule = NatRule(NAT_SNAT, Match(source=Addresses(source)), Range(to[0], to[1], low, high), label=self.rule)
        rule.deterministic = True
        return rule


class Record(Struct):
    """The keys of all events. at: ms since 1970."""

    time: str
    event: str
    proto: str = ""
    orig: Side | None = None
    reply: Side | None = None
    zone: int = 0
    rule: str = ""
    duration: float = 0.0
    packets: tuple[int, int] | None = None
    bytes: tuple[int, int] | None = None
    inside: str = ""
    outer: str = ""
    low: int = 0
    high: int = 0
    version: int = 0
    run: str = ""
    connections: bool | int = True
    blocks: bool = True
    rules: tuple[RuleRecord, ...] = ()
    lines: int = 0
    since: str = ""
    step: float = 0.0
    off: bool = False

    @property
    def at(self) -> int:
        return ms_of(self.time)


DECODER: Final = Decoder(Record)


def record_of(line: bytes) -> Record | None:
    """None for a damaged line."""
    try:
        record = DECODER.decode(line)
        whole = ms_of(record.time) >= 0 and 0 <= record.duration < MOST_SECONDS and abs(record.step) < MOST_SECONDS
        whole = whole and (not record.since or ms_of(record.since) >= 0)
        tuples = record.event.encode() not in CONNECTIONS or (record.orig is not None and record.reply is not None)
        return record if whole and tuples else None
    except (DecodeError, ValueError, RecursionError):
        return None
