"""A frame: one entry of the stream, with records of the journal.

    head | slot, length, record | slot, length, record | ...

The records are those of the journal: they are made anyway, a sixth as long as JSON, and checked when they are read.
"""

from collections.abc import Iterable
from struct import Struct
from typing import Final, NamedTuple

from conntrackd_py.conntrack.records.record import LARGEST, VERSION

MAGIC: Final = b"ctpy"
# magic, version of the records, mode, kind, node, epoch, sequence number, ms of the sender's clock
HEAD: Final = Struct("<4sBBB8sQQq")
ITEM: Final = Struct("<iH")
CHANGES: Final = 0  # kinds; without records it is a sign of life
BEGIN: Final = 1  # of a snapshot: the records from here to END, and the changes between them
END: Final = 2
MODES: Final = ("nat", "track")


class Head(NamedTuple):
    mode: str
    kind: int
    node: bytes
    epoch: int
    sequence: int
    clock: int


class Frame(NamedTuple):
    head: Head
    items: list[tuple[int, bytes]]


class Claim(NamedTuple):
    """A wish to be the active one. polite: not if another one is. former: the own epoch before a restart."""

    polite: bool
    former: int


class FrameError(Exception):
    """It is no frame, or of another version."""


def pack(head: Head, items: Iterable[tuple[int, bytes]] = ()) -> bytes:
    fixed = HEAD.pack(
        MAGIC, VERSION, MODES.index(head.mode), head.kind, head.node, head.epoch, head.sequence, head.clock
    )
    return fixed + b"".join(ITEM.pack(slot, len(data)) + data for slot, data in items)


def unpack(data: bytes) -> Frame:
    """Raises FrameError."""
    if len(data) < HEAD.size:
        raise FrameError("it is too short")
    magic, version, mode, kind, node, epoch, sequence, clock = HEAD.unpack_from(data)
    if magic != MAGIC or version != VERSION or mode >= len(MODES) or kind > END:
        raise FrameError(f"it is of version {version}, this program reads version {VERSION}")
    items = []
    at = HEAD.size
    while at < len(data):
        if at + ITEM.size > len(data):
            raise FrameError("it is cut off")
        slot, length = ITEM.unpack_from(data, at)
        at += ITEM.size
        if length > LARGEST or at + length > len(data):
            raise FrameError("it is cut off")
        items.append((slot, data[at : at + length]))
        at += length
    return Frame(Head(MODES[mode], kind, node, epoch, sequence, clock), items)
