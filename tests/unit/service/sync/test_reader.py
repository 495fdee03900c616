"""Epochs, gaps, snapshots and clocks, as a standby sees them."""

from __future__ import annotations

from conntrackd_py.service.sync.frames import BEGIN, CHANGES, END, Head
from conntrackd_py.service.sync.reader import WINDOW, Reader

OWN, OTHER = b"own own ", b"theirs  "


class Sender:
    def __init__(self, reader: Reader, epoch: int = 1) -> None:
        self.reader, self.epoch, self.sequence, self.now = reader, epoch, 0, 0

    def send(self, kind: int = CHANGES, *, delay: int = 0, skip: int = 0, node: bytes = OTHER) -> bool:
        self.sequence += skip
        head = Head("nat", kind, node, self.epoch, self.sequence, self.now)
        accepted = self.reader.accepts(head, self.now + delay + 5000)
        if accepted:
            self.reader.ended(head)
            self.delay = self.reader.lag(head, self.now + delay + 5000)
        self.sequence += 1
        return accepted

    def snapshot(self) -> None:
        for kind in (BEGIN, CHANGES, END):
            assert self.send(kind)


def reader() -> Reader:
    return Reader("nat", OWN)


def test_it_is_complete_after_a_snapshot() -> None:
    sender = Sender(reader())
    assert sender.send()
    assert not sender.reader.synced
    sender.snapshot()
    assert sender.reader.synced


def test_a_gap_needs_another_snapshot_and_its_frames_count_all_the_same() -> None:
    sender = Sender(reader())
    sender.snapshot()
    assert sender.send(skip=3)
    assert (sender.reader.synced, sender.reader.gaps) == (False, 1)
    sender.snapshot()
    assert sender.reader.synced


def test_a_snapshot_with_a_gap_is_not_complete() -> None:
    sender = Sender(reader())
    assert sender.send(BEGIN)
    assert sender.send(skip=1)
    assert sender.send(END)
    assert not sender.reader.synced


def test_an_end_without_a_begin_completes_nothing() -> None:
    sender = Sender(reader())
    assert sender.send(END)
    assert not sender.reader.synced


def test_a_repeated_frame_is_not_applied_twice() -> None:
    sender = Sender(reader())
    sender.snapshot()
    sender.sequence -= 1
    assert not sender.send()
    assert (sender.reader.synced, sender.reader.gaps) == (True, 0)


def test_a_new_epoch_begins_anew_and_the_old_one_is_ignored() -> None:
    old, new = Sender(shared := reader(), 4), Sender(shared, 5)
    old.snapshot()
    assert new.send()
    assert not shared.synced
    assert not old.send()
    assert (shared.epoch, shared.older, shared.gaps) == (5, 1, 0)


def test_own_frames_and_those_of_another_mode_are_ignored() -> None:
    sender = Sender(reader())
    assert not sender.send(node=OWN)
    assert not sender.reader.accepts(Head("track", CHANGES, OTHER, 1, 0, 0), 0)
    assert (sender.reader.older, sender.reader.foreign) == (1, 1)


def test_the_lag_is_measured_against_the_fastest_frame() -> None:
    sender = Sender(reader())
    sender.send(delay=30)
    assert sender.reader.shift == 5030
    sender.send(delay=10)
    assert (sender.reader.shift, sender.delay) == (5010, 0)
    sender.send(delay=700)
    assert (sender.reader.shift, sender.delay) == (5010, 690)


def test_clocks_that_drift_apart_are_no_lag() -> None:
    sender = Sender(reader())
    sender.send()
    for drift in (40, 80, 120):
        sender.now += WINDOW
        sender.send(delay=drift)
        assert sender.delay <= 40
    assert sender.reader.shift == 5080


def test_nothing_heard_shifts_nothing() -> None:
    assert reader().shift == 0
