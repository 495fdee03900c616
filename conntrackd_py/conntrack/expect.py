"""Expectations: connections that somebody knows will come, because of what another connection said.

A first packet that fits an expectation makes a RELATED connection: EXPECTED, with the expecting connection as its
master and that one's mark. An expectation is used up by it unless PERMANENT. Everything is bounded: all of them
by `limit`, those of one master by what whoever expects allows; a master takes its expectations with it.
Sources: nf_ct_find_expectation, nf_ct_expect_related, struct nf_conntrack_expect.
"""

from collections import OrderedDict
from typing import Final, final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn

EVENT_LIMIT: Final = 4096

PERMANENT: Final = 1
INACTIVE: Final = 2  # listed but matched by nothing until activated
USERSPACE: Final = 4  # made by somebody outside
FLAG_NAMES: Final = ("PERMANENT", "INACTIVE", "USERSPACE")

ALWAYS: Final = -1  # ms: before anything ends

NEW: Final = "NEW"
DESTROY: Final = "DESTROY"


@final
class Expectation:
    """t: the tuple to come; mask: as long, the bits of it that count. The destination always counts whole.

    until: ms. protocol class `kind` groups what one helper expects of one master, for its limit.
    """

    def __init__(self, master: NfConn, t: bytes, mask: bytes, until: int, *, flags: int = 0, kind: int = 0) -> None:
        self.master = master
        self.tuple = t
        self.mask = mask
        self.bits = _masked(t, mask)
        n = tuples.address_length(t)
        self.key = _key(t, mask[:n] == b"\xff" * n)
        self.until = until
        self.flags = flags
        self.kind = kind
        self.helper = ""
        self.direction = 0  # NAT: of the master, the one the new connection goes in
        self.saved_address = b""  # NAT: what the expected destination was before translation
        self.saved_port = 0
        self.id = 0

    def fits(self, t: bytes) -> bool:
        return len(t) == len(self.tuple) and _masked(t, self.mask) == self.bits


def _masked(t: bytes, mask: bytes) -> int:
    return int.from_bytes(t, "big") & int.from_bytes(mask, "big")


def source_mask(t: bytes, address: bool, l4source: bool) -> bytes:
    """The mask for t in which the destination and protocol count, and of the source only what is asked for."""
    n = tuples.address_length(t)
    return (
        (b"\xff" if address else b"\0") * n
        + b"\xff" * n
        + (b"\xff\xff" if l4source else b"\0\0")
        + b"\xff" * (len(t) - 2 * n - 2)
    )


def _key(t: bytes, source: bool) -> bytes:
    """What an expectation has in common with its packet: destination, protocol and zone, and the source address if
    it names one. By the source, because all hosts may be expected at one port of one host.
    """
    n = tuples.address_length(t)
    return t[0 if source else n : 2 * n] + t[2 * n + 2 :]


@final
class ExpectationEvent:
    """An expectation came (NEW) or went (DESTROY). at: ms; timeout: ms left; origin: as of events.Event."""

    def __init__(self, kind: str, at: int, sequence: int, known: Expectation, origin: int) -> None:
        self.kind = kind
        self.at = at
        self.sequence = sequence
        self.expectation = known
        self.timeout = max(known.until - at, 0)
        self.origin = origin


@final
class ExpectationEvents:
    """Waiting to be drained, EVENT_LIMIT at most; with nobody listening, nothing is made."""

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


NOBODY: Final[OrderedDict[int, Expectation]] = OrderedDict()


@final
class Expectations:
    def __init__(self, limit: int) -> None:
        self.events = ExpectationEvents()
        self.limit = limit
        self.count = 0
        self.last_id = 0
        self.created = 0
        self.deleted = 0
        self.refused = 0  # for want of room
        self.earliest = 0  # ms: nothing ends before
        self.by_key: dict[bytes, OrderedDict[int, Expectation]] = {}  # by id
        self.by_master: dict[int, list[Expectation]] = {}  # by the master's slot

    def expect(self, wanted: Expectation, most: int, now: int) -> bool:
        """Add one; False when there is no room. most: how many of this kind its master may have at once.

        One that is there already starts again; at the master's limit the oldest of its kind goes.
        """
        mine = self.by_master.setdefault(wanted.master.slot, [])
        for known in mine:
            if known.tuple == wanted.tuple and known.mask == wanted.mask and known.kind == wanted.kind:
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

    def find(self, t: bytes, now: int) -> Expectation | None:
        """The expectation the first packet of tuple t fulfils, used up unless PERMANENT."""
        if not self.count:
            return None
        known = self._first(t, now, INACTIVE)
        if known is not None and not known.flags & PERMANENT:
            self.remove(known, now)
        return known

    def _first(self, t: bytes, now: int, excluded: int) -> Expectation | None:
        """The oldest that fits, lives longer than now and has none of the excluded flags; those with a source first."""
        for key in (_key(t, True), _key(t, False)):
            for known in self.by_key.get(key, NOBODY).values():
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

    def forget(self, master: NfConn, now: int) -> None:
        """The master has ended."""
        for known in list(self.by_master.get(master.slot, ())):
            self.remove(known, now)

    def expire(self, now: int) -> int:
        """End what waited too long; looks at all of them, once one may have. Returns how many went."""
        if not self.count or now < self.earliest:
            return 0
        over = [known for known in self.all() if known.until <= now]
        for known in over:
            self.remove(known, now)
        self.earliest = min([known.until for known in self.all()], default=0)
        return len(over)

    def known(self, t: bytes) -> Expectation | None:
        """The one expecting this very tuple, or, its source being open, anything with its destination."""
        return self._first(t, ALWAYS, 0)

    def all(self) -> list[Expectation]:
        return [known for mine in self.by_master.values() for known in mine]
