"""Walks over the tables in bounded turns; packets pass between two turns, and only one walk is in its turn at a time.

An entry that is created or ends during a walk may be missing; no entry appears twice. A slow client delays only its
own walk.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Final

from conntrackd_py.conntrack import tuple as tuples
from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.core import Conntrack
from conntrackd_py.conntrack.expect import Expectation
from conntrackd_py.const import IPS_CONFIRMED, IPS_DYING
from conntrackd_py.control.matcher import Matcher

Act = Callable[[NfConn], bytes]

TURN: Final = 0.00015  # seconds that a walk may delay packets
PIECE: Final = 16  # slots between two reads of the clock
A_TURN: Final = 16  # expectations or refused packets in a turn
TABLES: Final[Mapping[str, Callable[[int], bool]]] = {  # whether the table holds a connection with this status
    "conntrack": lambda status: status & (IPS_CONFIRMED | IPS_DYING) == IPS_CONFIRMED,
    "unconfirmed": lambda status: status & (IPS_CONFIRMED | IPS_DYING) == 0,
    "dying": lambda status: status & IPS_DYING != 0,
}


class Walker:
    """publish: called after each turn, since a flush ends more connections than the engine's event queue holds."""

    def __init__(self, core: Conntrack, clock: Callable[[], int], publish: Callable[[], None]) -> None:
        self.core = core
        self.clock = clock
        self.publish = publish
        self.turn = asyncio.Lock()  # held by the walk that is in its turn

    async def connections(self, table: str, matcher: Matcher, act: Act) -> AsyncGenerator[list[bytes], None]:
        """The lines that `act` returns for matching connections; an empty line is left out."""
        slots = self._slots(table)
        at = 0
        while at < len(slots):
            async with self.turn:
                lines, at = self._turn(slots, at, table, matcher, act)
                self.publish()
                await asyncio.sleep(0)
            yield lines

    def _turn(self, slots: Sequence[int], at: int, table: str, matcher: Matcher, act: Act) -> tuple[list[bytes], int]:
        lines: list[bytes] = []
        belongs = TABLES[table]
        until = time.perf_counter() + TURN
        while at < len(slots):
            ct = self.core.table.at(slots[at])
            at += 1
            acted = ct is not None and belongs(ct.status) and matcher.matches(ct, ct)
            if acted and ct is not None:
                line = act(ct)
                if line:
                    lines.append(line)
            if (acted or at % PIECE == 0) and time.perf_counter() >= until:
                break
        return lines, at

    def _slots(self, table: str) -> Sequence[int]:
        """The slots that exist now, so that a growing table does not make a walk endless."""
        if table == "unconfirmed":
            return list(self.core.table.unconfirmed)
        return range(len(self.core.table.slots))

    async def expectations(
        self, length: int, line: Callable[[Expectation], bytes]
    ) -> AsyncGenerator[list[bytes], None]:
        """The lines of the expectations. length: of an address, 0 for both families."""
        known = self.core.expectations.all()
        for at in range(0, len(known), A_TURN):
            async with self.turn:
                lines = [line(one) for one in known[at : at + A_TURN] if self._exists(one, length)]
                await asyncio.sleep(0)
            yield lines

    def _exists(self, known: Expectation, length: int) -> bool:
        if length not in (0, tuples.address_length(known.tuple)) or known.until <= self.clock():
            return False
        return known in self.core.expectations.by_master.get(known.master.slot, ())
