"""Sequence adjustment: TCP sequence numbers after the payload of a stream was changed in length.

A correction says: from this position of the sender's stream on, the receiver's numbers are higher by `offset`. The
tracker and the helpers work with the numbers that each end sent itself; only packets that leave are adjusted.
More than one correction is kept, so that a late retransmission before the newest one is still right; the kernel keeps
one. Bounds: MOST corrections a direction; the oldest is merged into the base.
Source: nf_conntrack_seqadj.c.
"""

from typing import Final, final

from mypy_extensions import mypyc_attr

MOST: Final = 8
M32: Final = 0xFFFFFFFF
FAR: Final = 1 << 30  # bytes behind which a correction can meet no packet


def _after(a: int, b: int) -> bool:
    return 0 < (a - b) & M32 < 0x80000000


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


@final
@mypyc_attr(acyclic=True)
class SeqAdj:
    """sides: by the direction of the changed payload."""

    def __init__(self) -> None:
        self.sides = (Corrections(), Corrections())
