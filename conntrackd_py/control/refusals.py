"""The engine's notes in words: as JSON-able dicts for the control socket, and as a sampled log.

The keys are a contract, as in view: added to, never renamed.

    sequence time hook outcome reason [cause] numbers[] why ctinfo packet{} text [connection{}] [expired_in_use{}]
    connection: id [state] status[] timeout orig{}
    expired_in_use: proto after ago keepalive              seconds: its timeout, since its end, what would have saved it

`outcome` is INVALID, IGNORED, DROPPED, or ACCEPTED where only the end of a connection before is worth telling.
"""

from collections.abc import Callable
from typing import Final, final

import structlog

from conntrackd_py.const import CTINFO_NAMES, HOOK_NAMES, STATUS_NAMES
from conntrackd_py.control import view
from conntrackd_py.explain import packet_line as packetline
from conntrackd_py.explain import sentences as reasons
from conntrackd_py.explain.expired import ExpiredConnection
from conntrackd_py.explain.refusals import RecentRefusals, Refusal
from conntrackd_py.reasons import OK, REASON_NAMES

EXPIRED_IN_USE: Final = "expired_in_use"  # in the place of a reason's name, for a packet that was accepted
LINES_A_SECOND: Final = 1  # of each reason

log = structlog.get_logger()


def note_fields(note: Refusal, time: float) -> view.Json:
    """A note of something that happened at `time`, in seconds since the epoch."""
    packet = packetline.fields(note.header, note.length)
    described: view.Json = {
        "sequence": note.sequence,
        "time": round(time, 6),
        "hook": HOOK_NAMES[note.hook],
        "outcome": reasons.outcome(note.reason) or "ACCEPTED",
        "reason": REASON_NAMES[note.reason] if note.reason else EXPIRED_IN_USE,
    }
    if note.cause:
        described["cause"] = REASON_NAMES[note.cause]
    described["numbers"] = list(note.numbers)
    described["why"] = sentence(note)
    described["ctinfo"] = CTINFO_NAMES[note.ctinfo]
    described["packet"] = packet
    described["text"] = packetline.text(packet)
    if note.original:
        described["connection"] = _connection(note)
    if note.expired is not None:
        described["expired_in_use"] = expired_fields(note.expired, note.at)
    return described


def _connection(note: Refusal) -> view.Json:
    described: view.Json = {"id": note.id}
    if note.state:
        described["state"] = note.state
    described["status"] = view.names(note.status, STATUS_NAMES)
    described["timeout"] = note.timeout // 1000
    described["orig"] = view.tuple_fields(note.original)
    return described


def sentence(note: Refusal) -> str:
    """Why, in words, with what became of the connection it was sent for if that expired in use."""
    parts = [] if note.reason == OK else [reasons.sentence(note.reason, note.numbers, note.cause)]
    if note.expired is not None:
        parts.append(expired_in_use(note.expired, note.at))
    return "; ".join(parts)


def expired_fields(expired: ExpiredConnection, at: int) -> view.Json:
    return {
        "proto": expired.proto,
        "after": expired.lifetime / 1000,
        "ago": (at - expired.ended) / 1000,
        "keepalive": expired.keepalive() / 1000,
    }


def expired_in_use(expired: ExpiredConnection, at: int) -> str:
    """The hint: which timeout it was, and the keepalive interval that would have saved the connection."""
    return (
        f"its {expired.proto} connection timed out after {seconds(expired.lifetime)} without a packet, "
        f"{seconds(at - expired.ended)} before this one; "
        f"a keepalive every {seconds(expired.keepalive())} would have saved it"
    )


def seconds(ms: int) -> str:
    """`30 s`, `0.5 s`: as many digits as there are."""
    digits = f"{ms / 1000:.3f}".rstrip("0").rstrip(".")
    return f"{digits} s"


@final
class RefusalLog:
    """Writes notes as log lines: at most `rate` a second of each reason, and how many there were besides.

    Reads the engine's ring; what was overwritten before it came to read is not logged, and counted with the rest.
    """

    def __init__(self, recent: RecentRefusals, clock: Callable[[], int], rate: int = LINES_A_SECOND) -> None:
        self.recent = recent
        self.clock = clock
        self.rate = rate
        self.not_logged = 0  # ever
        self._read = recent.total
        self._second = -1
        self._lines: dict[int, int] = {}  # this second's, by reason
        self._left_out: dict[int, int] = {}  # since the reason's last line

    def publish(self) -> None:
        """Log what is new. Costs one comparison when nothing is."""
        if self._read == self.recent.total:
            return
        notes = self.recent.since(self._read)
        self.not_logged += self.recent.total - self._read - len(notes)
        self._read = self.recent.total
        second = self.clock() // 1000
        if second != self._second:
            self._second = second
            self._lines.clear()
        for note in notes:
            self._sample(note)

    def _sample(self, note: Refusal) -> None:
        lines = self._lines.get(note.reason, 0)
        if lines >= self.rate:
            self.not_logged += 1
            self._left_out[note.reason] = self._left_out.get(note.reason, 0) + 1
            return
        self._lines[note.reason] = lines + 1
        line = note_fields(note, 0.0)
        connection = line.get("connection")
        state = connection.get("state", "") if isinstance(connection, dict) else ""
        log.info(
            "packet",
            outcome=line["outcome"],
            reason=line["reason"],
            why=line["why"],
            hook=line["hook"],
            packet=line["text"],
            numbers=line["numbers"],
            state=state,
            not_logged=self._left_out.pop(note.reason, 0),
        )
