"""create, get, update and delete of single entries. Their events name the client.

A request that cannot be carried out raises RefusedError, in conntrack(8)'s words where it has some.
"""

from collections.abc import Callable
from typing import Final

from msgspec import UNSET

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.expect import USERSPACE, Expectation
from conntrackd_py.conntrack.lookup import lookup
from conntrackd_py.control import spec as specs
from conntrackd_py.control.protocol import requests
from conntrackd_py.control.protocol.requests import RefusedError, RequestError, TupleFields
from conntrackd_py.control.subscriber import Publisher
from conntrackd_py.engine import change as changes
from conntrackd_py.engine.engine import EXHAUSTED, NOT_TRANSLATING, Engine

IS_STANDBY: Final = "this daemon is a standby: it has the connections of the active one and creates none"
WHY: Final = {
    changes.EXISTS: "Such conntrack exists, try -U to update",
    changes.FULL: "the table is full",
    changes.TIMEOUT_FIXED: "its timeout is fixed",
    changes.STATUS_FIXED: "Device or resource busy: only packets set this status",
    changes.ENDED: "such conntrack doesn't exist",
    NOT_TRANSLATING: "this daemon translates nothing (its mode is track)",
    EXHAUSTED: "no free port to translate to",
}


class Editor:
    def __init__(self, engine: Engine, clock: Callable[[], int], publisher: Publisher) -> None:
        self.engine = engine
        self.core = engine.core
        self.clock = clock
        self.publisher = publisher

    def create(self, spec: requests.NewConnection) -> NfConn | None:
        """The new connection; None if it exists. Raises RequestError and RefusedError."""
        if self.core.standby:
            raise RefusedError(IS_STANDBY)
        wanted = specs.wanted(spec)
        if spec.timeout is UNSET:
            raise RequestError("a new connection needs a timeout")
        now = self.clock()
        l4proto = self.core.protos[tuples.protonum(wanted.original)]
        change = specs.change_of(spec, l4proto)
        ct = NfConn(wanted.original, wanted.reply, l4proto, now)
        for t in (wanted.original, wanted.reply):
            lookup(self.core, t, now)  # removes an expired connection
        with self.publisher.by_client():
            outcome = self.engine.create(ct, change, wanted.source, wanted.destination, now)
        self.publisher.publish()
        if outcome == changes.EXISTS:
            return None
        if outcome:
            raise RefusedError(WHY[outcome])
        return ct

    def update(self, ct: NfConn, wanted: requests.Change) -> str | None:
        """Why the change was refused; empty when it was made; None when it changes nothing."""
        try:
            change = specs.change_of(wanted, ct.l4proto)
        except RefusedError as error:
            return str(error)
        if not change.alters(ct, self.clock()):
            return None
        with self.publisher.by_client():
            return WHY.get(self.engine.update(ct, change, self.clock()), "")

    def get(self, spec: TupleFields) -> NfConn:
        """The connection with this tuple in either direction. Raises RequestError and RefusedError."""
        ct = lookup(self.core, specs.one_tuple(spec), self.clock())
        if ct is None or not ct.confirmed:
            raise RefusedError("such conntrack doesn't exist")
        return ct

    def delete(self, ct: NfConn, reason: int) -> None:
        """reason: END_*."""
        with self.publisher.by_client():
            self.core.kill(ct, reason, self.clock())

    # --- expectations --------------------------------------------------------------------------------

    def expect(self, spec: requests.NewExpectation) -> Expectation:
        """The new expectation. Raises RequestError and RefusedError."""
        master = self.get(spec.master)
        t = specs.one_tuple(spec.tuple)
        if self.core.expectations.known(t) is not None:
            raise RefusedError("File exists")
        now = self.clock()
        made = Expectation(master, t, _mask(spec.mask, t), now + spec.timeout * 1000, flags=USERSPACE)
        with self.publisher.by_client():
            taken = self.core.expectations.expect(made, 0, now)
        if not taken:
            raise RefusedError("the expectation table is full")
        self.publisher.publish()
        return made

    def get_expectation(self, spec: TupleFields) -> Expectation:
        """The expectation of this tuple. Raises RequestError and RefusedError."""
        known = self.core.expectations.known(specs.one_tuple(spec))
        if known is None or known.until <= self.clock():
            raise RefusedError("such expectation doesn't exist")
        return known

    def delete_expectation(self, known: Expectation) -> None:
        with self.publisher.by_client():
            self.core.expectations.remove(known, self.clock())
        self.publisher.publish()


def _mask(spec: requests.Mask, t: bytes) -> bytes:
    """A mask of t's length; destination and protocol are compared in full, as in the kernel."""
    address = specs.packed(spec.src) or b"\xff" * tuples.address_length(t)
    if len(address) != tuples.address_length(t):
        raise RequestError("mismatched address family")
    port = 65535 if spec.sport is UNSET else spec.sport
    return tuples.with_src(b"\xff" * len(t), address, port)
