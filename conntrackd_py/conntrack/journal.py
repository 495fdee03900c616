"""The journal: one record of a fixed size for each slot of the table, in a buffer that outlives the process.

    0      HEADER_SIZE                                        RECORD = 256 bytes each
    +------+-- side records ------------+-- record of slot 0 --+-- slot 1 --+ - - -
    | head | expectations, interfaces   | crc | record         |            |
    +------+----------------------------+----------------------+------------+ - - -

- A record is written before the verdict on the packet that changed the connection is sent: when the connection is
  confirmed, when it changes with an event, and when it ends (cleared). A new record replaces the former one in place.
- Packets that only refresh a connection write nothing. `turn` walks the table in bounded steps and writes connections
  whose timeout has moved by SLACK or more. So a record is at most SLACK and one round old, and a reader adds that.
- The CRC starts from the file's seed and the number of the record: a record elsewhere, or of another file, is wrong.
- A record that was half written when the process was killed has a wrong CRC, and its connection is lost.
- Bound: the buffer grows with the highest slot in use, up to `most` records; `unwritten` counts what did not fit.
- A record that would be longer than its place is written without its least important parts; `shortened` counts them.
"""

from abc import ABC, abstractmethod
from array import array
from mmap import mmap
from struct import Struct
from typing import Final, final
from zlib import crc32

from mypy_extensions import mypyc_attr

from conntrackd_py.conntrack.conn import NfConn
from conntrackd_py.conntrack.feed import ENDED, Feed
from conntrackd_py.conntrack.records import record
from conntrackd_py.conntrack.records.record import Help
from conntrackd_py.conntrack.seqadj import SeqAdj
from conntrackd_py.const import IPS_CONFIRMED, IPS_DYING, IPS_HELPER

RECORD: Final = 256  # bytes
CRC: Final = Struct("<I")
FRAME: Final = Struct("<I252s")  # CRC, and the record filled up with zeros
EMPTY: Final = bytes(8)
M32: Final = 0xFFFFFFFF
SLACK: Final = 10  # seconds
SLACK_SHIFT: Final = 3  # and at most an eighth of the remaining time
MOST_SECONDS: Final = 0x7FFFFFFF
HEADER_SIZE: Final = 4096
PULSE_AT: Final = 2048

Buffer = mmap | bytearray


@mypyc_attr(allow_interpreted_subclasses=True)  # service/journal.py is not compiled
class Room(ABC):
    @abstractmethod
    def reserve(self, size: int) -> bool:
        """Make the buffer this long at least, in bytes that can be written; False if there is no room."""


@final
class Journal:
    """buffer: header and all side records exist. side: number of side records. most: limit of records."""

    def __init__(self, buffer: Buffer, room: Room, *, seed: int, side: int, most: int) -> None:
        self.buffer: Buffer = buffer
        self.room = room
        self.seed = seed
        self.side = side
        self.most = most
        self.records = 0  # that the buffer has room for
        self.noted = array("i")  # by slot: the timeout in its record, in seconds
        self.feed: Feed | None = None  # for a standby
        self.side_written: dict[int, bytes] = {}  # by number
        self.helper_names: dict[int, str] = {}  # by slot, as in Conntrack
        self.seqadj: dict[int, SeqAdj] = {}
        self.written = 0
        self.unwritten = 0  # no room
        self.shortened = 0  # records without the counters or without the helper: too long
        self.position = 0  # slot at which `turn` continues
        self.round_began = -1  # ms
        self.round = 0  # ms: how long the last round took
        self.resized()

    def resized(self) -> None:
        """The buffer has another length."""
        self.records = min((len(self.buffer) - HEADER_SIZE) // RECORD, self.most)
        more = self.records - self.side - len(self.noted)
        if more > 0:
            self.noted.frombytes(bytes(more * self.noted.itemsize))

    def write(self, ct: NfConn) -> None:
        """Write the record of a confirmed connection."""
        number = self.side + ct.slot
        data = self.record_of(ct)
        if self.feed is not None:
            self.feed.add(ct.slot, data)
        if number >= self.records and not self._grow(number):
            self.unwritten += 1
            return
        self._put(number, data)
        self.noted[ct.slot] = _seconds(ct)
        self.written += 1

    def record_of(self, ct: NfConn) -> bytes:
        """As it is written."""
        if not ct.status & IPS_HELPER:
            return record.encode(ct)
        data, whole = record.fitted(ct, Help(self.helper_names.get(ct.slot, ""), self.seqadj.get(ct.slot)))
        self.shortened += not whole
        return data

    def clear(self, slot: int) -> None:
        """The connection in this slot has ended."""
        if self.feed is not None:
            self.feed.add(slot, ENDED)
        number = self.side + slot
        if number < self.records:
            at = HEADER_SIZE + number * RECORD
            self.buffer[at : at + len(EMPTY)] = EMPTY

    def _grow(self, number: int) -> bool:
        if number >= self.most or not self.room.reserve(HEADER_SIZE + (number + 1) * RECORD):
            return False
        self.resized()
        return number < self.records

    def _put(self, number: int, data: bytes) -> None:
        FRAME.pack_into(self.buffer, HEADER_SIZE + number * RECORD, crc32(data, (self.seed + number) & M32), data)

    def write_side(self, number: int, data: bytes) -> None:
        """Write a side record; empty: clear it."""
        if self.side_written.get(number, b"") == data:
            return
        if self.feed is not None:
            self.feed.add(-1 - number, data)
        if data:
            self._put(number, data)
            self.side_written[number] = data
        else:
            at = HEADER_SIZE + number * RECORD
            self.buffer[at : at + len(EMPTY)] = EMPTY
            del self.side_written[number]

    def clear_side(self) -> None:
        """Clear the side records of a former process."""
        self.buffer[HEADER_SIZE : HEADER_SIZE + self.side * RECORD] = bytes(self.side * RECORD)

    def turn(self, slots: list[NfConn | None], now: int, checks: int, writes: int) -> int:
        """Walk on over at most `checks` slots and write at most `writes` refreshed connections; returns how many."""
        done = 0
        if self.round_began < 0:
            self.round_began = now
        for _ in range(min(checks, len(slots))):
            if self.position >= len(slots):
                self._next_round(now)
            ct = slots[self.position]
            if ct is not None and self._is_old(ct, now):
                if done >= writes:
                    return done
                self.write(ct)
                done += 1
            self.position += 1
        return done

    def _next_round(self, now: int) -> None:
        self.position = 0
        self.round = now - self.round_began
        self.round_began = now

    def _is_old(self, ct: NfConn, now: int) -> bool:
        if ct.status & (IPS_CONFIRMED | IPS_DYING) != IPS_CONFIRMED or ct.slot >= len(self.noted):
            return False
        remaining: int = (ct.timeout - now) // 1000
        slack = remaining >> SLACK_SHIFT
        if slack > SLACK:
            slack = SLACK
        moved: int = _seconds(ct) - self.noted[ct.slot]
        return moved > slack or moved < 0

    def write_all(self, slots: list[NfConn | None]) -> None:
        """At the end: every connection as it is."""
        for ct in slots:
            if ct is not None and ct.status & (IPS_CONFIRMED | IPS_DYING) == IPS_CONFIRMED:
                self.write(ct)

    def lag(self, now: int) -> int:
        """ms: the longest time that a refreshed connection has waited for `turn`."""
        current = now - self.round_began if self.round_began >= 0 else 0
        return current if current > self.round else self.round


def _seconds(ct: NfConn) -> int:
    """The timeout in seconds, as far as `noted` can hold it."""
    seconds: int = ct.timeout // 1000
    return seconds if seconds < MOST_SECONDS else MOST_SECONDS


@final
class Found:
    """What a part of a journal holds: records by number, and how many were damaged."""

    def __init__(self) -> None:
        self.records: list[tuple[int, bytes]] = []
        self.damaged = 0


def read(buffer: Buffer, seed: int, first: int, count: int) -> Found:
    """The records with numbers from `first` on, `count` at most, of a buffer with this seed."""
    found = Found()
    for number in range(first, first + count):
        at = HEADER_SIZE + number * RECORD
        if at >= len(buffer):
            break
        framed = buffer[at : at + RECORD]
        if framed[: len(EMPTY)] == EMPTY:
            continue
        data = _intact(framed, (seed + number) & M32)
        if data:
            found.records.append((number, data))
        else:
            found.damaged += 1
    return found


def _intact(framed: bytes | bytearray, start: int) -> bytes:
    """The record in a frame; empty if its CRC is wrong."""
    length = framed[6] | framed[7] << 8 if len(framed) > 8 else 0
    if not 4 <= length <= len(framed) - CRC.size:
        return b""
    data = bytes(framed[CRC.size : CRC.size + length])
    return data if crc32(data, start) == CRC.unpack_from(framed)[0] else b""
