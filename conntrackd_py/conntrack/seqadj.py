"""Sequence adjustment: TCP sequence numbers after the payload of a stream was changed in length.

A correction says: from this position of the sender's stream on, the receiver's numbers are higher by `offset`. The
tracker and the helpers work with the numbers that each end sent itself; only packets that leave are adjusted.
More than one correction is kept, so that a late retransmission before the newest one is still right; the kernel keeps
one. Bounds: MOST corrections a direction; the oldest is merged into the base.
Source: nf_conntrack_seqadj.c.
"""

from struct import Struct
from typing import Final, final

from mypy_extensions import mypyc_attr

MOST: Final = 8
M32: Final = 0xFFFFFFFF
FAR: Final = 1 << 30  # bytes behind which a correction can meet no packet
BASE: Final = Struct("<Bi")  # of a record: number of corrections + 1, the offset before them
ONE: Final = Struct("<Ii")  # position, offset
NONE: Final = b"\0"


def _after(a: int, b: int) -> bool:
    return 0 < (a - b) & M32 < 0x80000000


def _signed(offset: int) -> int:
    return ((offset + 0x80000000) & M32) - 0x80000000


@final
@mypyc_attr(acyclic=True)
class Corrections:
    """Of the stream of one direction (nf_ct_seqadj). offsets[n] holds after positions[n - 1], offsets[0] before all."""

    def __init__(self) -> None:
        self.positions: list[int] = []
        self.offsets = [0]

    def add(self, position: int, grown: int) -> None:
        """The payload that begins at this position grew (or shrank).

        Nothing changes for a position that is not behind the newest one: a retransmission, which is counted already.
        """
        if self.positions and not _after(position, self.positions[-1]):
            return
        self.positions.append(position)
        self.offsets.append(self.offsets[-1] + grown)
        if len(self.positions) > MOST:
            self._merge()

    def _merge(self) -> None:
        """The oldest correction holds for everything."""
        del self.positions[0]
        del self.offsets[0]

    def received(self, seq: int) -> int:
        """The number that the receiver sees for a number of the sender."""
        if self.positions and (seq - self.positions[0]) & M32 > FAR and _after(seq, self.positions[0]):
            self._merge()  # numbers wrap around: it would soon lie ahead
        at = len(self.positions)
        while at and not _after(seq, self.positions[at - 1]):
            at -= 1
        return (seq + self.offsets[at]) & M32

    def sent(self, ack: int) -> int:
        """The number of the sender for a number that the receiver acknowledges."""
        at = len(self.positions)
        while at and not _after(ack - self.offsets[at - 1], self.positions[at - 1]):
            at -= 1
        return (ack - self.offsets[at]) & M32

    def packed(self, most: int) -> bytes:
        """The newest `most` corrections for a record; the older ones are merged into the base."""
        if not self.positions and not self.offsets[0]:
            return NONE
        first = max(len(self.positions) - most, 0)
        data = BASE.pack(len(self.positions) - first + 1, _signed(self.offsets[first]))
        for at in range(first, len(self.positions)):
            data += ONE.pack(self.positions[at], _signed(self.offsets[at + 1]))
        return data

    def unpack(self, data: bytes, at: int) -> int:
        """Read what `packed` wrote to this offset; returns the offset behind it, 0 if that cannot be read."""
        count = data[at] if at < len(data) else MOST + 2
        if not count:
            return at + len(NONE)
        end = at + BASE.size + (count - 1) * ONE.size
        if count > MOST + 1 or end > len(data):
            return 0
        self.offsets[0] = BASE.unpack_from(data, at)[1]
        for place in range(at + BASE.size, end, ONE.size):
            position, offset = ONE.unpack_from(data, place)
            if self.positions and not _after(position, self.positions[-1]):
                return 0
            self.positions.append(position)
            self.offsets.append(offset)
        return end


@final
@mypyc_attr(acyclic=True)
class SeqAdj:
    """sides: by the direction of the changed payload."""

    def __init__(self) -> None:
        self.sides = (Corrections(), Corrections())

    @property
    def empty(self) -> bool:
        return self.packed(MOST) == NONE + NONE

    def packed(self, most: int) -> bytes:
        """For a record: at most so many corrections a direction."""
        return self.sides[0].packed(most) + self.sides[1].packed(most)

    def unpack(self, data: bytes, at: int) -> int:
        """As Corrections.unpack."""
        middle = self.sides[0].unpack(data, at)
        return self.sides[1].unpack(data, middle) if middle else 0
