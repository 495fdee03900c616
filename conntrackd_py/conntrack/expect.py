"""Expectations: tuples of connections that another connection, the master, has announced.

A first packet that matches an expectation creates a RELATED connection: status EXPECTED, with its master and the
master's mark. This removes the expectation unless it is PERMANENT; the end of the master removes it too.
Bounds: `limit` for all of them, and per master the number that the caller of expect() passes.
Sources: nf_ct_find_expectation, nf_ct_expect_related, struct nf_conntrack_expect.
"""

from collections import OrderedDict
from typing import Final, final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.const import IPPROTO_GRE, ORIGINAL

EVENT_LIMIT: Final = 4096

PERMANENT: Final = 1
INACTIVE: Final = 2  # listed, but no packet matches it
USERSPACE: Final = 4  # an operator made it
KEEPS_SOURCE: Final = 8  # NAT: if not the master's peer connects, its source is left to the rules
FLAG_NAMES: Final = ("PERMANENT", "INACTIVE", "USERSPACE")

ANY_TIME: Final = -1  # ms: before any expectation ends

NEW: Final = "NEW"
DESTROY: Final = "DESTROY"


@final
class Expectation:
    """t: the expected tuple; mask: its significant bits, same length, all bits set for the destination.

    until: ms. kind: the expectation class, which has its own limit per master.
    """

    def __init__(self, master: NfConn, t: bytes, mask: bytes, until: int, *, flags: int = 0, kind: int = 0) -> None:
        self.master = master
        self.tuple = t
        self.mask = mask
        self.bits = _masked(t, mask)
        source = tuples.src(mask)
        self.key = tuples.destination_key(t, source == b"\xff" * len(source))
        self.until = until
        self.flags = flags
        self.kind = kind
        self.helper = ""  # the master's
        self.child_helper = ""  # of the expected connection
        self.follows = False  # NAT: the expected connection is translated as its master
        self.direction = ORIGINAL  # then: of the expected connection, compared with its master
        self.port = 0  # then: the announced port, which its destination port becomes; of GRE the call id behind NAT
        self.id = 0

    @property
    def calls(self) -> bool:
        """Whether it expects the packets of a PPTP call."""
        return tuples.protonum(self.tuple) == IPPROTO_GRE

    def fits(self, t: bytes) -> bool:
        return len(t) == len(self.tuple) and _masked(t, self.mask) == self.bits

    def equals(self, other: "Expectation") -> bool:
        """Of the same master, for the same connections (expect_matches)."""
        if self.master is not other.master or self.kind != other.kind:
            return False
        return self.tuple == other.tuple and self.mask == other.mask

    def overlaps(self, other: "Expectation") -> bool:
        """Whether a packet could match both (expect_clash)."""
        if len(self.tuple) != len(other.tuple):
            return False
        common = int.from_bytes(self.mask, "big") & int.from_bytes(other.mask, "big")
        return self.bits & common == other.bits & common


def _masked(t: bytes, mask: bytes) -> int:
    return int.from_bytes(t, "big") & int.from_bytes(mask, "big")


@final
class ExpectationEvent:
    """A NEW or ended (DESTROY) expectation. at: ms; timeout (ms left), flags: then; origin: as in events.Event."""

    def __init__(self, kind: str, at: int, sequence: int, known: Expectation, origin: int) -> None:
        self.kind = kind
        self.at = at
        self.sequence = sequence
        self.expectation = known
        self.timeout = max(known.until - at, 0)
        self.flags = known.flags
        self.origin = origin


@final
class ExpectationEvents:
    """A queue of EVENT_LIMIT at most; `lost` counts what did not fit. While not enabled, it takes no event."""

    def __init__(self) -> None:
        self.enabled = False
        self.origin = 0
        self.lost = 0
        self.sequence = 0
        self.waiting: list[ExpectationEvent] = []

    def report(self, kind: str, at: int, known: Expectation) -> None:
        if not self.enabled:
            return
        self.sequence += 1
        if len(self.waiting) >= EVENT_LIMIT:
            self.lost += 1
            return
        self.waiting.append(ExpectationEvent(kind, at, self.sequence, known, self.origin))

    def drain(self) -> list[ExpectationEvent]:
        """Everything since the last call, oldest first."""
        events = self.waiting
        self.waiting = []
        return events


NONE: Final[OrderedDict[int, Expectation]] = OrderedDict()


@final
class Expectations:
    def __init__(self, limit: int) -> None:
        self.events = ExpectationEvents()
        self.limit = limit
        self.count = 0
        self.last_id = 0
        self.created = 0
        self.deleted = 0
        self.changed = 0
        self.refused = 0  # because of `limit`
        self.earliest = 0  # ms: none ends before
        # By tuples.destination_key, then by id. With the source address, if it is fixed: one port of one host may
        # expect many hosts.
        self.by_key: dict[bytes, OrderedDict[int, Expectation]] = {}
        self.by_master: dict[int, list[Expectation]] = {}  # by the master's slot

    def expect(self, wanted: Expectation, most: int, now: int) -> bool:
        """Add one; False at `limit`. most: how many of this kind its master may have, 0 for no limit.

        It replaces an equal one, else at the master's limit the oldest of its kind.
        """
        mine = self.by_master.setdefault(wanted.master.slot, [])
        for known in mine:
            if known.equals(wanted):
                self.remove(known, now)
                break
        same = [known for known in mine if known.kind == wanted.kind]
        if most and len(same) >= most:
            self.remove(same[0], now)
        elif self.count >= self.limit:
            self.refused += 1
            self._tidy(wanted.master.slot)
            return False
        self.last_id = self.last_id % 0xFFFFFFFF + 1
        wanted.id = self.last_id
        self.by_master.setdefault(wanted.master.slot, []).append(wanted)
        self.by_key.setdefault(wanted.key, OrderedDict())[wanted.id] = wanted
        self.earliest = min(self.earliest, wanted.until) if self.count else wanted.until
        self.count += 1
        self.created += 1
        self.events.report(NEW, now, wanted)
        return True

    def extend(self, known: Expectation, until: int) -> None:
        """Let it end at another time."""
        known.until = until
        self.earliest = min(self.earliest, until)
        self.changed += 1

    def clashes(self, wanted: Expectation) -> bool:
        """Whether another one matches packets that `wanted` matches, unless `wanted` replaces it."""
        for source in (True, False):
            for known in self.by_key.get(tuples.destination_key(wanted.tuple, source), NONE).values():
                if known.overlaps(wanted) and not known.equals(wanted):
                    return True
        return False

    def find(self, t: bytes, now: int) -> Expectation | None:
        """The expectation that a first packet of tuple t matches; removed unless PERMANENT."""
        if not self.count:
            return None
        known = self._first(t, now, INACTIVE)
        if known is not None and not known.flags & PERMANENT:
            self.remove(known, now)
        return known

    def _first(self, t: bytes, now: int, excluded: int) -> Expectation | None:
        """The oldest that fits, has not ended and has none of the excluded flags; those with a fixed source first."""
        for key in (tuples.destination_key(t, True), tuples.destination_key(t, False)):
            for known in self.by_key.get(key, NONE).values():
                if known.until > now and not known.flags & excluded and known.fits(t):
                    return known
        return None

    def remove(self, known: Expectation, now: int) -> None:
        del self.by_key[known.key][known.id]
        if not self.by_key[known.key]:
            del self.by_key[known.key]
        self.by_master[known.master.slot].remove(known)
        self._tidy(known.master.slot)
        self.count -= 1
        self.deleted += 1
        self.events.report(DESTROY, now, known)

    def _tidy(self, slot: int) -> None:
        if slot in self.by_master and not self.by_master[slot]:
            del self.by_master[slot]

    def remove_all_of(self, master: NfConn, now: int) -> None:
        """Remove the expectations of a master, which has ended."""
        for known in list(self.by_master.get(master.slot, ())):
            self.remove(known, now)

    def expire(self, now: int) -> int:
        """Remove those whose time is over; returns how many. It reads all of them, but not before `earliest`."""
        if not self.count or now < self.earliest:
            return 0
        over = [known for known in self.all() if known.until <= now]
        for known in over:
            self.remove(known, now)
        self.earliest = min([known.until for known in self.all()], default=0)
        return len(over)

    def known(self, t: bytes) -> Expectation | None:
        """The oldest that tuple t matches, whatever its flags and time."""
        return self._first(t, ANY_TIME, 0)

    def all(self) -> list[Expectation]:
        return [known for mine in self.by_master.values() for known in mine]
