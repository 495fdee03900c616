"""Export and import of connections over the control socket, in bounded turns.

An imported connection goes the way of one in a journal (engine/takeover/restore.py). It gets a slot and an id of its
own. It never replaces a living connection unless the client says so, and never evicts one.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, final

from msgspec import ValidationError
from msgspec.json import Decoder

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.lookup import lookup
from conntrackd_py.conntrack.records import record
from conntrackd_py.conntrack.records.record import Record
from conntrackd_py.const import IPCT_NEW, IPCT_RELATED, IPS_CONFIRMED, IPS_DYING, IPS_EXPECTED, IPS_NAT_MASK
from conntrackd_py.control.edit import IS_STANDBY
from conntrackd_py.control.protocol.answers import encode
from conntrackd_py.control.protocol.requests import TEXT_LIMIT, Import, RefusedError, RequestError
from conntrackd_py.control.subscriber import Publisher
from conntrackd_py.control.transfer.form import VERSION, Connection, form, packed, tuple_of
from conntrackd_py.control.walk import TURN
from conntrackd_py.engine.engine import Engine
from conntrackd_py.engine.takeover.restore import ANY_SLOT, Origin, Restore
from conntrackd_py.nat import mapping_restore
from conntrackd_py.reasons import END_DELETED

FORMAT: Final = "conntrackd-py connections"
IMPORTED: Final = "imported"
REPLACED: Final = "replaced"
EXISTS: Final = "exists"
COLLIDES: Final = "collides"
WRONG: Final = "wrong"
FULL: Final = "full"
NO_ADDRESS: Final = "no_address"
NOT_TRANSLATING: Final = "not_translating"
WHY: Final = {
    COLLIDES: "a living connection has one of its tuples",
    FULL: "the table is full",
    NO_ADDRESS: "it is masqueraded, and its interface does not have the address",
    NOT_TRANSLATING: "it is translated, and this daemon translates nothing",
}
_decoder: Final = Decoder(Connection)

Outcome = tuple[str, str]  # name, why


def head(mode: str) -> bytes:
    """The first line of an export."""
    return encode({"export": {"format": FORMAT, "version": VERSION, "written": round(time.time(), 3), "mode": mode}})


def line_of(engine: Engine, clock: Callable[[], int]) -> Callable[[NfConn], bytes]:
    """What writes the line of a connection."""
    return lambda ct: encode({"connection": form(ct, engine, clock())})


@final
class Importer:
    """One request: its connections, one after the other."""

    def __init__(self, engine: Engine, publisher: Publisher, *, replace: bool) -> None:
        self.engine = engine
        self.core = engine.core
        self.publisher = publisher
        self.replace = replace
        self.now = publisher.clock()
        self.links = {name: index for index, name in engine.names.items()}
        self.restore = Restore(engine, self.core.tunables, 0, Origin(self.now, 0, False), self.now)
        self.imported: list[NfConn | None] = []

    async def run(self, request: Import) -> list[Outcome]:
        found: list[Outcome] = []
        until = time.perf_counter() + TURN
        for line in request.connections:
            with self.publisher.by_client():
                found.append(self.one(bytes(line)))
            self.publisher.publish()
            if time.perf_counter() >= until:
                await asyncio.sleep(0)
                self.now = self.restore.now = self.restore.origin.shift = self.publisher.clock()
                until = time.perf_counter() + TURN
        self.restore.settle()
        mapping_restore.restore(self.engine.nat.endpoints, self.engine.nat.rules, self.imported)
        self.engine.nat.blocks.claim(self.imported)
        return found

    def one(self, text: bytes) -> Outcome:
        """Import the connection of a line."""
        try:
            line = _decoder.decode(text)
            read = record.decode(packed(line, self.restore, self.links), self.restore)
            master = None if line.master is None else tuple_of(line.master.protonum, line.master.orig)
        except (RequestError, RefusedError, ValidationError) as error:
            return WRONG, str(error)[:TEXT_LIMIT]
        except RecursionError:
            return WRONG, "nested too deeply"
        if read is None:
            return WRONG, "its fields do not agree with each other"
        outcome = self._refused(read.ct) or self._insert(read, master)
        return outcome, WHY.get(outcome, "")

    def _refused(self, ct: NfConn) -> str:
        """Why ct cannot live here; empty if it can."""
        if ct.status & IPS_NAT_MASK and self.engine.mode == "track":
            return NOT_TRANSLATING
        return NO_ADDRESS if ct.masquerade and not self.restore.has_address(ct) else ""

    def _insert(self, read: Record, master: bytes | None) -> str:
        ct = read.ct
        owners = self._owners(ct)
        if any(owner.original == ct.original and owner.reply == ct.reply for owner in owners) and not self.replace:
            return EXISTS
        if owners and not self.replace:
            return COLLIDES
        if self.core.limit and len(self.core.table) - len(owners) >= self.core.limit:
            return FULL
        for owner in owners:
            self.core.kill(owner, END_DELETED, self.now)
        if not self.restore.insert(read, ANY_SLOT):  # its two tuples are one, in two directions
            return COLLIDES
        if master is not None:
            ct.master = self._living(master)
        self.imported.append(ct)
        self.core.stats.insert += 1
        self.core.events.report(IPCT_RELATED if ct.status & IPS_EXPECTED else IPCT_NEW, self.now, ct)
        self.core.save(ct)
        return REPLACED if owners else IMPORTED

    def _owners(self, ct: NfConn) -> list[NfConn]:
        """The living connections that have one of the tuples of ct."""
        found = [self._living(t) for t in (ct.original, ct.reply)]
        owners = [owner for owner in found if owner is not None]
        return owners[:1] if len(owners) > 1 and owners[0] is owners[1] else owners

    def _living(self, t: bytes) -> NfConn | None:
        """The confirmed connection with this tuple, unless its timeout is over: then it ends."""
        ct = lookup(self.core, t, self.now)
        return ct if ct is not None and ct.status & (IPS_CONFIRMED | IPS_DYING) == IPS_CONFIRMED else None


async def import_(engine: Engine, publisher: Publisher, request: Import) -> bytes:
    """The answer to an `import`. Raises RefusedError."""
    if engine.core.standby:
        raise RefusedError(IS_STANDBY)
    importer = Importer(engine, publisher, replace=request.replace)
    return encode({"import": await importer.run(request)})
