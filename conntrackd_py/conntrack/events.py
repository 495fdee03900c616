"""Events: what happened to a connection, as data, in a bounded queue that the service drains.

An event is a snapshot, because the connection changes later. `lost` counts what did not fit, and the sequence numbers
show the gap. While the queue is not enabled, it takes no event.
The NAT log has a queue of its own (`translated`), with beginnings and ends of translated connections only.
"""

from typing import Final, final

from mypy_extensions import mypyc_attr

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.const import IPCT_DESTROY, IPCT_NEW, IPCT_RELATED, IPS_NAT_MASK

QUEUE_LIMIT: Final = 65536
BEGINS_OR_ENDS: Final = IPCT_NEW | IPCT_RELATED | IPCT_DESTROY


@final
@mypyc_attr(acyclic=True)
class Event:
    """bits: IPCT_*; at: ms; timeout: ms left; the rest as in NfConn. conn: for what never changes.

    ended: of a DESTROY, when the timeout was over; the sweep finds it later (as in nf_ct_delete).
    """

    def __init__(self, bits: int, at: int, sequence: int, ct: NfConn) -> None:
        self.bits = bits
        self.at = at
        self.sequence = sequence
        self.conn = ct
        self.timeout = ct.remaining(at)
        self.status = ct.status
        self.state = ct.state
        self.mark = ct.mark
        self.labels = ct.labels
        self.origin = 0  # id of the process that ordered it; 0: caused by a packet or a timeout
        self.born = ct.born
        self.ended = min(at, ct.timeout) if bits & IPCT_DESTROY else 0
        self.packets_original = ct.packets_original
        self.packets_reply = ct.packets_reply
        self.bytes_original = ct.bytes_original
        self.bytes_reply = ct.bytes_reply

    @property
    def kind(self) -> str:
        """NEW, UPDATE or DESTROY, as conntrack -E prints it."""
        if self.bits & IPCT_DESTROY:
            return "DESTROY"
        return "NEW" if self.bits & (IPCT_NEW | IPCT_RELATED) else "UPDATE"


@final
class EventQueue:
    def __init__(self, limit: int = QUEUE_LIMIT) -> None:
        self.limit = limit
        self.origin = 0  # of the events reported now
        self.enabled = False
        self.lost = 0
        self.sequence = 0
        self.waiting: list[Event] = []
        self.translated: EventQueue | None = None  # also gets the events of the NAT log
        self.rules: dict[int, str] | None = None  # which translated a new connection, by its id; None: not wanted
        self.statuses: int = IPS_NAT_MASK  # IPS_*: of which a connection in `translated` has one

    def report(self, bits: int, at: int, ct: NfConn) -> None:
        if self.translated is not None and bits & BEGINS_OR_ENDS and ct.status & self.statuses:
            self.translated.report(bits, at, ct)
        if not self.enabled:
            return
        self.sequence += 1
        if len(self.waiting) >= self.limit:
            self.lost += 1
            return
        event = Event(bits, at, self.sequence, ct)
        event.origin = self.origin
        self.waiting.append(event)

    def name(self, connection: int, rule: str) -> None:
        """A rule has translated a new connection, by its id."""
        if self.rules is not None and rule:
            self.rules[connection] = f"{self.rules.get(connection, '')} {rule}".lstrip()

    def drain(self) -> list[Event]:
        """Everything since the last call, oldest first."""
        events = self.waiting
        self.waiting = []
        return events
