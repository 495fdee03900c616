"""Refused packets for a client that follows them, as they come.

The packets do no work for a follower: it reads the ring of recent refusals every PERIOD, in turns. It gets at most
A_PERIOD lines of each reading. What the ring overwrote before, and what was over that number, is counted in a line.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from msgspec import UNSET

from conntrackd_py.control import view
from conntrackd_py.control.protocol.answers import NotShown, encode
from conntrackd_py.control.protocol.requests import Recent, RequestError
from conntrackd_py.control.subscriber import Stream
from conntrackd_py.control.walk import A_TURN
from conntrackd_py.explain.packet_filter import ANY, PacketFilter
from conntrackd_py.explain.refusals import RecentRefusals, Refusal
from conntrackd_py.match.address import AddressError, addresses, network
from conntrackd_py.reasons import REASON_NUMBERS

PERIOD: Final = 0.1  # seconds
FOLLOWERS_LIMIT: Final = 4  # at once: each reads up to 10,000 refusals a second
A_PERIOD: Final = 20  # lines: 200 a second


class Follower(Stream):
    """clock: the engine's, ms. past: refusals to send first. read: the sequence number of the newest one by then."""

    head = encode({"following": True})

    def __init__(
        self, ring: RecentRefusals, wanted: PacketFilter, clock: Callable[[], int], past: list[Refusal], read: int
    ) -> None:
        self.ring = ring
        self.wanted = wanted
        self.clock = clock
        self._waiting = deque(past)
        self._room = len(past)  # lines left of this reading
        self._read = read
        self._overwritten = 0
        self._over_rate = 0

    async def lines(self) -> list[bytes]:
        """Wait for the next lines; at least one."""
        while True:
            found = self._turn()
            if not self._waiting and self._overwritten + self._over_rate:
                missed: NotShown = {"overwritten": self._overwritten, "over_rate": self._over_rate}
                found.append(encode({"not_shown": missed}))
                self._overwritten = self._over_rate = 0
            if found:
                return found
            await asyncio.sleep(0 if self._waiting else PERIOD)
            if not self._waiting:
                self._take()

    def _take(self) -> None:
        notes = self.ring.since(self._read)
        self._overwritten += self.ring.total - self._read - len(notes)
        self._read = self.ring.total
        self._waiting.extend(notes)
        self._room = A_PERIOD

    def _turn(self) -> list[bytes]:
        found = []
        offset = view.epoch(self.clock)
        for _ in range(min(A_TURN, len(self._waiting))):
            note = self._waiting.popleft()
            if not self.wanted.matches(note):
                continue
            if self._room:
                self._room -= 1
                found.append(line(note, offset))
            else:
                self._over_rate += 1
        return found


def line(note: Refusal, offset: float) -> bytes:
    return encode({"recent": view.refused_packet(note, offset + note.at / 1000)})


async def matching(notes: list[Refusal], wanted: PacketFilter, count: int) -> list[Refusal]:
    """The newest `count` of the notes that match, oldest first."""
    found: list[Refusal] = []
    for at in range(0, len(notes), A_TURN):
        found += [note for note in notes[at : at + A_TURN] if wanted.matches(note)]
        await asyncio.sleep(0)
    return found[max(len(found) - count, 0) :]


def wanted_by(request: Recent) -> PacketFilter:
    """Raises RequestError for a host that is no network, or an unknown reason."""
    unknown = [name for name in request.reasons if name not in REASON_NUMBERS]
    if unknown:
        raise RequestError(f"unknown reason `{unknown[0][:60]}'")
    try:
        host = None if request.host is UNSET else addresses(network(request.host))
    except AddressError as error:
        raise RequestError(str(error)) from error
    port = ANY if request.port is UNSET else request.port
    protonum = ANY if request.proto is UNSET else request.proto
    return PacketFilter(host, port, protonum, frozenset(REASON_NUMBERS[name] for name in request.reasons))
