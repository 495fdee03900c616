"""Finds who had an outer address and port during a span of time. Lines come in the order of the log, each once.

Memory holds only the lines about this address and port. `gap` reports that lines may be missing. A complete list of the
open connections (LIST to LISTED) ends the effect of a gap before it.
The answer "nobody" is certain in two cases:

- A list comes before the span, and there is no gap between them.
- A list comes after the span, and there is neither a gap nor a start of the daemon between them.

A connection that had the port is then in that list, or the log has a line of its end. That line also says when it
began.
"""

from dataclasses import dataclass, field
from typing import Final

from conntrackd_py.cli.conntrackd.who_had.records import CONNECTIONS, HEAD, Record, RuleRecord, record_of
from conntrackd_py.cli.conntrackd.who_had.times import Span, ms_of, text_of
from conntrackd_py.const import ICMP_PROTOCOLS, PROTO_NAMES
from conntrackd_py.explain import nat_log
from conntrackd_py.match.address import AddressError, address_text, packed_address
from conntrackd_py.nat.carrier.deterministic import inside_of, slice_of

MOST: Final = 100_000  # holders in memory, and in the answer
AHEAD: Final = 3_600_000  # ms: read on after the span, in case the clock was set back
NEAR: Final = 1000  # ms between the beginnings that two lines of a connection give
FOREVER: Final = 2**62
NOTES: Final = 100
NOT_LOGGED: Final = "no connections were logged"
NOTHING: Final = "nothing was logged"
HEADS: Final = (nat_log.FILE, nat_log.START, nat_log.RELOAD)
ICMP: Final = tuple(PROTO_NAMES[number] for number in ICMP_PROTOCOLS)
BLOCKS: Final = (b"BLOCK", b"HELD", b"RELEASE")

SOURCE: Final = "source"
DESTINATION: Final = "destination"
PORT_BLOCK: Final = "block"
DETERMINISTIC: Final = "deterministic"


@dataclass(frozen=True)
class Question:
    """proto: a name, or a number as text; empty: any. remote: address and port (0: any); None: any."""

    address: str
    port: int
    span: Span
    proto: str = ""
    remote: tuple[str, int] | None = None


@dataclass
class Holder:
    """Who had it. since, until: ms; until None: the end is not known. seen: the last line that shows it.

    gone: its end is not logged, but at this time it was over. sure: until when its end would be logged; None: always.
    """

    kind: str
    proto: str
    inside: str
    inside_port: int
    outer: tuple[str, int, int]  # address, first and last port
    since: int
    seen: int
    remote: tuple[str, int] = ("", 0)
    zone: int = 0
    rule: str = ""
    until: int | None = None
    gone: int | None = None
    sure: int | None = None
    listed: bool = True
    packets: tuple[int, int] | None = None
    bytes: tuple[int, int] | None = None

    def had(self, span: Span) -> bool:
        """Whether it may have had the port in the span."""
        end = self.until if self.until is not None else self.gone if self.gone is not None else FOREVER
        return self.since <= span.last and end >= span.first

    def certain(self, span: Span) -> bool:
        """Whether it had the port in the span, given that it may have."""
        return self.until is not None or self.sure is None or self.sure >= span.first

    def alone(self, span: Span) -> bool:
        """Whether no other host can have had the port in the span: a block and a slice have one host."""
        whole = self.since <= span.first and (self.until is None or self.until >= span.last)
        return self.kind in (PORT_BLOCK, DETERMINISTIC) and whole and self.certain(span)

    def doubt(self, at: int) -> None:
        """From this time on its end may be missing."""
        if self.sure is None:
            self.sure = max(at, self.seen)


Key = tuple[object, ...]


@dataclass
class Search:
    question: Question
    open: dict[Key, Holder] = field(default_factory=dict)
    found: list[Holder] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    before: str = ""  # a gap since the last list before the span; empty: none
    after: str = ""  # the first gap between the span and the next list
    healed: bool = False  # there was a list after the span
    end: str = ""  # time of the last line
    too_many: bool = False
    seen: int = 0  # ms: of the line before
    damaged: bool = False  # since the last good line
    list_at: int = -1  # of the list that is being read
    run: str = ""  # the process that writes; empty: it ended in order, or none did
    off: tuple[int, str] | None = None  # since when lines are not written, and which
    rules: list[tuple[int, tuple[RuleRecord, ...]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.needle = f'"{self.question.address}"'.encode()

    # --- lines ---------------------------------------------------------------------------------------------

    def line(self, text: bytes) -> bool:
        """False for a damaged line."""
        head = HEAD.match(text)
        if head is None or not text.endswith(b"}\n"):
            self.damaged = True
            return False
        event = head[2]
        connection, block = event in CONNECTIONS, event in BLOCKS
        record = None
        if not (connection or block) or self.needle in text:
            record = record_of(text)
            if record is None:
                self.damaged = True
                return False
        self._reached(head[1].decode())
        if record is not None:
            if connection:
                self._connection(record)
            elif block:
                self._block(record)
            else:
                self._note(record)
        return True

    def _reached(self, stamp: str) -> None:
        if self.damaged:
            self.damaged = False
            self.gap(_ms(self.end), _ms(stamp), "a line is damaged")
        if not self.end:
            self.gap(0, _ms(stamp), f"the log begins at {stamp}, and connections that were open then are not known")
        self.seen = _ms(self.end)
        self.end = max(self.end, stamp)

    def answered(self) -> bool:
        """Whether no later line can change the answer."""
        settled = not self.open and (not self.before or self.healed)
        return settled and bool(self.end) and _ms(self.end) > self.question.span.last + AHEAD

    # --- connections and blocks ----------------------------------------------------------------------------

    def _connection(self, record: Record) -> None:
        original, reply = record.orig, record.reply
        assert original is not None
        assert reply is not None
        if reply.destination != original.source:
            self._holder(record, SOURCE, original.source, reply.destination, reply.source)
        if reply.source != original.destination:
            self._holder(record, DESTINATION, reply.source, original.destination, original.source)

    def _holder(
        self, record: Record, kind: str, inside: tuple[str, int], outer: tuple[str, int], remote: tuple[str, int]
    ) -> None:
        asked = self.question
        if outer != (asked.address, asked.port) or asked.proto not in ("", record.proto):
            return
        if record.proto in ICMP:  # it has no port
            remote = (remote[0], 0)
        if asked.remote is not None and asked.remote not in (remote, (remote[0], 0)):
            return
        key = (kind, record.proto, record.zone, inside, remote)
        at = record.at
        since = at if record.event == nat_log.NEW else at - round(record.duration * 1000)
        holder = Holder(kind, record.proto, *inside, (*outer, outer[1]), since, at, remote, record.zone, record.rule)
        if record.event == nat_log.DESTROY:
            holder.until, holder.packets, holder.bytes = at, record.packets, record.bytes
        self._sighted(key, holder, record.event == nat_log.NEW)

    def _block(self, record: Record) -> None:
        asked = self.question
        if record.outer != asked.address or not record.low <= asked.port <= record.high:
            return
        at = record.at
        outer = (record.outer, record.low, record.high)
        since = at - round(record.duration * 1000)
        holder = Holder(PORT_BLOCK, "", record.inside, 0, outer, since, at, rule=record.rule)
        if record.event == nat_log.RELEASE:
            holder.since, holder.until = 0, at
        for key, other in list(self.open.items()):
            if other.kind == PORT_BLOCK and other.inside != record.inside:
                self._gone(self.open.pop(key), at)
        self._sighted((PORT_BLOCK, *outer, record.inside), holder)

    def _sighted(self, key: Key, holder: Holder, new: bool = False) -> None:
        """new: the connection has just begun, so it is none of an earlier line."""
        former = self.open.pop(key, None)
        if former is not None:
            self._continue(former, holder, new)
        if holder.until is not None:
            self._closed(holder)
        elif holder.since <= self.question.span.last or holder.kind == PORT_BLOCK:  # its last line has no beginning
            if len(self.open) < MOST:
                self.open[key] = holder
            else:
                self.too_many = True

    def _continue(self, former: Holder, holder: Holder, new: bool) -> None:
        """An earlier line with the same tuples is of the same holder, or of one whose end was not logged."""
        same = abs(former.since - holder.since) < NEAR and (not new or former.seen >= holder.since)
        if same or holder.kind == PORT_BLOCK:
            holder.since, holder.rule = former.since, holder.rule or former.rule
        elif former.since < holder.since:
            self._gone(former, holder.since)

    def _gone(self, holder: Holder, at: int) -> None:
        """It ended at this time or before, without a line."""
        holder.gone = at
        holder.doubt(holder.seen)
        self._closed(holder)

    def _closed(self, holder: Holder) -> None:
        if holder.had(self.question.span):
            if len(self.found) < MOST:
                self.found.append(holder)
            else:
                self.too_many = True

    # --- what the other lines tell -------------------------------------------------------------------------

    def _note(self, record: Record) -> None:
        at = record.at
        if record.event in HEADS:
            self._head(record, at)
        elif record.event == nat_log.STOP and record.run == self.run:
            self.run = ""
            if record.off:
                self.off = at, NOTHING
        elif record.event == nat_log.LOST:
            self.gap(ms_of(record.since) if record.since else at, at, f"{record.lines} lines were lost")
        elif record.event == nat_log.CLOCK:
            self._clock(at, round(record.step * 1000))
        elif record.event == nat_log.LIST:
            self.list_at = at
            for holder in self.open.values():
                holder.listed = False
        elif record.event == nat_log.LISTED and self.list_at >= 0:
            self._listed()

    def _head(self, record: Record, at: int) -> None:
        if record.version > nat_log.VERSION:
            self.gap(at, FOREVER, "a newer version of the daemon wrote it, which this command does not know")
        if record.event == nat_log.START:
            for holder in self.open.values():
                holder.doubt(self.seen)
            if at >= self.question.span.first and not self.healed:  # it may not have restored a connection
                self.after = self.after or "the daemon was started"
        if self.run not in ("", record.run):
            self.gap(self.seen, at, "the daemon ended without writing its last lines")
        self.run = record.run
        if self.off is not None:
            self.gap(self.off[0], at, self.off[1])
        self.off = None if record.connections else (at, NOT_LOGGED)
        if not record.blocks:
            self._doubt_blocks(at)
        if at <= self.question.span.last:
            if at <= self.question.span.first:
                self.rules.clear()
            self.rules.append((at, record.rules))

    def _doubt_blocks(self, at: int) -> None:
        for holder in self.open.values():
            if holder.kind == PORT_BLOCK:
                holder.doubt(at)

    def _clock(self, at: int, step: int) -> None:
        first, last = sorted((at, at - step))
        self.end = text_of(at)  # lines before it may have later times
        if first <= self.question.span.last and last >= self.question.span.first and len(self.notes) < NOTES:
            self.notes.append(
                f"the router's clock was set by {step / 1000:+.3f} s at {text_of(at)}, so times near it are uncertain"
            )

    def _listed(self) -> None:
        span = self.question.span
        for key, holder in list(self.open.items()):
            if not holder.listed:
                self._gone(self.open.pop(key), self.list_at)
        if self.list_at < span.first:
            self.before = ""
        self.healed = self.healed or self.list_at > span.last
        self.list_at = -1

    def gap(self, first: int, last: int, why: str) -> None:
        """Lines between these times may be missing."""
        span = self.question.span
        text = f"{why}, between {text_of(first)} and {text_of(last)}" if 0 < first < last < FOREVER else why
        for holder in self.open.values():
            if why != NOT_LOGGED or holder.kind != PORT_BLOCK:
                holder.doubt(first)
        if first <= span.last:
            self.before = self.before or text
        if last >= span.first and not self.healed:
            self.after = self.after or text
        self.list_at = -1

    # --- the answer ----------------------------------------------------------------------------------------

    def finish(self) -> list[Holder]:
        """All that may have had it, oldest first, after the last line."""
        span = self.question.span
        end = _ms(self.end)
        if self.damaged:
            self.gap(end, end, "the last line is damaged")
        if not self.end:
            self.gap(0, FOREVER, "the log is empty")
        elif span.last > end:
            self.gap(end, FOREVER, f"the log ends at {self.end}")
        if self.off is not None:
            self.gap(self.off[0], FOREVER, self.off[1])
            self.before = self.off[1] if self.off[0] <= span.last else self.before
        for holder in self.open.values():
            self._closed(holder)
        self.open.clear()
        for at, rules in self.rules:
            for rule in rules:
                self._rule(at, rule)
        return sorted(self.found, key=lambda holder: (holder.since, holder.inside))

    def _rule(self, at: int, record: RuleRecord) -> None:
        """A deterministic rule, which needs no other line."""
        asked = self.question
        try:
            rule, outer = record.nat_rule(), packed_address(asked.address)
            inside = inside_of(rule, outer, asked.port)
        except (AddressError, ZeroDivisionError):
            return
        ports = slice_of(rule, inside) if inside is not None else None
        if inside is None or ports is None:
            return
        text = address_text(inside)
        same = [one for one in self.found if (one.kind, one.inside, one.rule) == (DETERMINISTIC, text, record.rule)]
        if not same:
            outer_ports = (asked.address, ports[1], ports[2])
            self.found.append(Holder(DETERMINISTIC, "", text, 0, outer_ports, at, asked.span.last, rule=record.rule))

    def unknown(self) -> str:
        """Why somebody may have had it of whom there is no line; empty: that cannot be."""
        if self.too_many:
            return f"more than {MOST} connections had it"
        if not self.before or (self.healed and not self.after):
            return ""
        if any(holder.alone(self.question.span) for holder in self.found):
            return ""
        return self.before


def _ms(stamp: str) -> int:
    return ms_of(stamp) if stamp else 0
