"""Orders of a client that change single entries: create, update and get a connection; the same for expectations.

What the client may say is in spec.py. An order that makes sense and yet cannot be carried out is answered with
{"error": why}, in conntrack(8)'s words where it has some. What is changed here is reported as coming from outside.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from conntrackd_py.conntrack import change as changes
from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.expect import USERSPACE, Expectation
from conntrackd_py.conntrack.lookup import lookup
from conntrackd_py.control import spec as specs
from conntrackd_py.control.query import shown
from conntrackd_py.control.spec import RefusedError, SpecError
from conntrackd_py.engine.engine import EXHAUSTED, NOT_TRANSLATING

if TYPE_CHECKING:
    from conntrackd_py.control.server import ControlServer

Request = Mapping[str, object]

WHY: Final = {
    changes.EXISTS: "Such conntrack exists, try -U to update",
    changes.FULL: "the table is full",
    changes.TIMEOUT_FIXED: "its timeout is fixed",
    changes.STATUS_FIXED: "Device or resource busy: only packets set this status",
    changes.ENDED: "such conntrack doesn't exist",
    NOT_TRANSLATING: "this daemon translates nothing (its mode is track)",
    EXHAUSTED: "no free port to translate to",
}
UPDATE_FILTER: Final = specs.TUPLE_KEYS | {"family", "src_nat", "dst_nat", "labels"}
EXPECT_KEYS: Final = frozenset({"master", "tuple", "mask", "timeout"})
MASK_KEYS: Final = frozenset({"src", "dst", "sport", "dport"})


class Editor:
    def __init__(self, control: "ControlServer") -> None:
        self.control = control
        self.engine = control.engine
        self.core = control.engine.core

    @contextmanager
    def by_client(self) -> Iterator[None]:
        """What happens inside is told to listeners as ordered by this client."""
        queues = (self.core.events, self.core.expectations.events)
        for queue in queues:
            queue.origin = self.control.origin.get()
        try:
            yield
        finally:
            for queue in queues:
                queue.origin = 0

    def create(self, spec: Mapping[str, object]) -> NfConn | None:
        """Make the connection of spec; None when it is there. Raises SpecError and RefusedError."""
        wanted = specs.wanted(spec)
        if "timeout" not in spec:
            raise SpecError("a connection to be made needs a timeout")
        now = self.control.clock()
        l4proto = self.core.protos[tuples.protonum(wanted.original)]
        change = specs.change_of(spec, l4proto)
        ct = NfConn(wanted.original, wanted.reply, l4proto, now)
        for t in (wanted.original, wanted.reply):
            lookup(self.core, t, now)  # ends one whose time is over
        with self.by_client():
            outcome = self.engine.create(ct, change, wanted.source, wanted.destination, now)
        self.control.tell()
        if outcome == changes.EXISTS:
            return None
        if outcome:
            raise RefusedError(WHY[outcome])
        return ct

    def check_update(self, request: Request) -> Mapping[str, object]:
        """The changes of an update that makes sense. Raises SpecError."""
        spec = request.get("set")
        if not isinstance(spec, dict) or not spec:
            raise SpecError("update needs what to set")
        specs.only(spec, specs.CHANGE_KEYS, "a change")
        filtered = request.get("filter", {})
        if isinstance(filtered, dict):
            specs.only(filtered, UPDATE_FILTER, "the filter of an update")
        specs.change_of({key: value for key, value in spec.items() if key != "state"}, self.core.protos[0])
        return spec

    def update(self, ct: NfConn, spec: Mapping[str, object]) -> str | None:
        """Change ct: what failed, empty when nothing did; None when ct is as spec wants it already."""
        try:
            change = specs.change_of(spec, ct.l4proto)
        except RefusedError as error:
            return str(error)
        if not change.alters(ct, self.control.clock()):
            return None
        with self.by_client():
            return WHY.get(self.engine.update(ct, change, self.control.clock()), "")

    def get(self, spec: Mapping[str, object]) -> NfConn:
        """The connection that has this tuple in either direction. Raises SpecError and RefusedError."""
        ct = lookup(self.core, specs.one_tuple(spec), self.control.clock())
        if ct is None or not ct.confirmed:
            raise RefusedError("such conntrack doesn't exist")
        return ct

    # --- expectations --------------------------------------------------------------------------------

    def expect(self, spec: Mapping[str, object]) -> Expectation:
        """Make the expectation of spec. Raises SpecError and RefusedError."""
        specs.only(spec, EXPECT_KEYS, "an expectation")
        master = self.get(_table(spec, "master"))
        t = self._expected(spec)
        timeout = specs.number(spec, "timeout", specs.U32) * 1000
        if self.core.expectations.known(t) is not None:
            raise RefusedError("File exists")
        now = self.control.clock()
        made = Expectation(master, t, _mask(_table(spec, "mask"), t), now + timeout, flags=USERSPACE)
        with self.by_client():
            taken = self.core.expectations.expect(made, 0, now)
        if not taken:
            raise RefusedError("the expectation table is full")
        self.control.tell()
        return made

    def get_expectation(self, spec: Mapping[str, object]) -> Expectation:
        known = self.core.expectations.known(self._expected({"tuple": spec}))
        if known is None or known.until <= self.control.clock():
            raise RefusedError("such expectation doesn't exist")
        return known

    def forget_expectation(self, known: Expectation) -> None:
        with self.by_client():
            self.core.expectations.remove(known, self.control.clock())
        self.control.tell()

    def _expected(self, spec: Mapping[str, object]) -> bytes:
        return specs.one_tuple(_table(spec, "tuple"))


def _table(spec: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = spec.get(key)
    if not isinstance(value, dict):
        raise SpecError(f"{key} must be a JSON object, not {shown(value)}")
    return value


def _mask(spec: Mapping[str, object], t: bytes) -> bytes:
    """As long as t; the destination and the protocol count whole, as in the kernel."""
    specs.only(spec, MASK_KEYS, "a mask")
    address = specs.packed(spec, "src") or b"\xff" * tuples.address_length(t)
    if len(address) != tuples.address_length(t):
        raise SpecError("mismatched address family")
    port = specs.number(spec, "sport", 65535) if "sport" in spec else 65535
    return tuples.with_src(b"\xff" * len(t), address, port)
