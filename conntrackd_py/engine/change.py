"""Change: an operator creates or updates a connection (conntrack -I, -U).

The fields are those of ctnetlink: timeout, state, mark, labels, and three status bits, which can be set but not
cleared. Nothing checks whether packets could reach such a state.
Sources: ctnetlink_create_conntrack, ctnetlink_change_conntrack, __nf_ct_change_status.
"""

from typing import Final, final

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.core import Conntrack
from conntrackd_py.conntrack.evict import early_drop
from conntrackd_py.const import (
    IPCT_ASSURED,
    IPCT_HELPER,
    IPCT_LABEL,
    IPCT_MARK,
    IPCT_NEW,
    IPCT_PROTOINFO,
    IPCT_REPLY,
    IPCT_SEQADJ,
    IPS_ASSURED,
    IPS_CONFIRMED,
    IPS_DYING,
    IPS_EXPECTED,
    IPS_FIXED_TIMEOUT,
    IPS_SEEN_REPLY,
)

# outcomes of create and update
DONE: Final = 0
EXISTS: Final = 1  # one of its tuples is taken
FULL: Final = 2  # nf_conntrack_max is reached and no connection can be evicted
TIMEOUT_FIXED: Final = 3  # FIXED_TIMEOUT is set: the timeout cannot change
STATUS_FIXED: Final = 4  # an operator cannot set this status bit
ENDED: Final = 5  # it has ended

SECOND: Final = 1000
UNTOUCHED: Final = -1
SETTABLE: Final = IPS_SEEN_REPLY | IPS_ASSURED | IPS_FIXED_TIMEOUT  # others are ignored, as in the kernel
REFUSED_BITS: Final = IPS_EXPECTED | IPS_CONFIRMED | IPS_DYING
# The kernel reports all of these after an operator's update, changed or not.
CHANGED: Final = IPCT_REPLY | IPCT_ASSURED | IPCT_PROTOINFO | IPCT_HELPER | IPCT_MARK | IPCT_SEQADJ | IPCT_LABEL


@final
class Change:
    """timeout: ms from now; status: IPS_* bits to set; state: the tracker's number; each UNTOUCHED to keep it.

    The mark becomes (mark & ~mark_mask) ^ mark_value. protoinfo: the values for L4Proto.set_protoinfo.
    """

    def __init__(self) -> None:
        self.timeout = UNTOUCHED
        self.status = UNTOUCHED
        self.state = UNTOUCHED
        self.protoinfo: tuple[int, ...] | None = None
        self.mark_value = 0
        self.mark_mask = 0
        self.labels_on = 0
        self.labels_off = 0

    def mark(self, old: int) -> int:
        return (old & ~self.mark_mask) ^ self.mark_value

    def labels(self, old: int) -> int:
        return (old & ~self.labels_off) | self.labels_on

    def alters(self, ct: NfConn, now: int) -> bool:
        """Whether it would alter ct; timeouts are compared in seconds."""
        if self.timeout >= 0 and self.timeout // SECOND != ct.remaining(now) // SECOND:
            return True
        if self.mark(ct.mark) != ct.mark or self.labels(ct.labels) != ct.labels:
            return True
        if self.status >= 0 and self.status & ~ct.status & (SETTABLE | REFUSED_BITS):
            return True
        return self.protoinfo is not None or (self.state >= 0 and self.state != ct.state)

    def refused(self, ct: NfConn) -> int:
        """DONE, or why ct cannot be changed like this."""
        if ct.status & IPS_DYING:
            return ENDED
        if self.timeout >= 0 and ct.status & IPS_FIXED_TIMEOUT:
            return TIMEOUT_FIXED
        if self.status >= 0 and self.status & ~ct.status & REFUSED_BITS & ~IPS_CONFIRMED:
            return STATUS_FIXED
        return DONE

    def write(self, ct: NfConn) -> None:
        """Apply all but the timeout, whose meaning depends on whether ct is confirmed."""
        if self.status >= 0:
            ct.status |= self.status & SETTABLE
        if self.state >= 0:
            ct.l4proto.set_state(ct, self.state)
        if self.protoinfo is not None:
            ct.l4proto.set_protoinfo(ct, self.protoinfo)
        ct.mark = self.mark(ct.mark)
        ct.labels = self.labels(ct.labels)


def create(core: Conntrack, ct: NfConn, change: Change, now: int) -> int:
    """Insert ct, whose tuples are final: DONE, or EXISTS, FULL, STATUS_FIXED and it is not in the table."""
    refused = change.refused(ct)
    if refused:
        return refused
    if core.table.find(ct.original) is not None or core.table.find(ct.reply) is not None:
        return EXISTS
    if core.limit and len(core.table) >= core.limit and not early_drop(core, now):
        return FULL
    ct.l4proto.adopt(ct)
    change.write(ct)
    core.table.adopt(ct)
    ct.timeout = now + change.timeout
    core.gc.schedule(ct, now)
    core.stats.insert += 1
    core.events.report(CHANGED | IPCT_NEW, now, ct)
    core.save(ct)
    return DONE


def update(core: Conntrack, ct: NfConn, change: Change, now: int) -> int:
    """Alter a confirmed ct: DONE, or TIMEOUT_FIXED, STATUS_FIXED, ENDED and ct is unchanged."""
    refused = change.refused(ct)
    if refused:
        return refused
    old_state = ct.state
    if change.timeout >= 0:
        ct.timeout = now + change.timeout
    change.write(ct)
    core.follow(ct, old_state, now)
    core.events.report(CHANGED, now, ct)
    core.save(ct)
    return DONE
