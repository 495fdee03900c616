"""Who goes first, on queues that only count."""

import os

from conntrackd_py.kernel.lanes import IN_A_ROUND, OUT_A_ROUND, ROUNDS, Lanes
from conntrackd_py.kernel.queue import PacketQueue, QueueCounters


class Waiting(PacketQueue):
    """So many packets wait; each one handled appears at the end of `onward`."""

    def __init__(self, packets: int, onward: "Waiting | None" = None, descriptor: int = -1) -> None:
        self.descriptor = descriptor
        self.counters = QueueCounters()
        self.packets = packets
        self.onward = onward
        self.most = packets
        self.refused = self.closed = False

    def fileno(self) -> int:
        return self.descriptor

    def drain(self, limit: int) -> int:
        handled = min(limit, self.packets)
        self.packets -= handled
        if self.onward is not None:
            self.onward.packets += handled
            self.onward.most = max(self.onward.most, self.onward.packets)
        return handled

    def refuse(self) -> None:
        self.refused = True

    def close(self) -> None:
        self.closed = True


def test_what_was_begun_is_finished_before_more_is_taken_on() -> None:
    out = Waiting(0)
    entrance = Waiting(10_000, out)
    lanes = Lanes(entrance, out)
    assert lanes.drain() == 2 * ROUNDS * IN_A_ROUND
    assert out.packets == 0
    assert out.most <= IN_A_ROUND < OUT_A_ROUND


def test_it_ends_when_nothing_waits() -> None:
    assert Lanes(Waiting(0), Waiting(0)).drain() == 0
    assert Lanes(Waiting(3), None).drain() == 3


def test_refusing_closes_the_entrance_only() -> None:
    entrance, out = Waiting(0, descriptor=1), Waiting(0, descriptor=2)
    lanes = Lanes(entrance, out)
    lanes.refuse()
    assert (entrance.refused, out.refused) == (True, False)
    lanes.close()
    assert entrance.closed
    assert out.closed
    assert lanes.filenos() == [2, 1]


def test_it_moves_while_packets_are_handled_or_none_waits() -> None:
    reader, writer = os.pipe()
    try:
        lanes = Lanes(Waiting(5, descriptor=reader), None)
        assert lanes.moving()
        os.write(writer, b"a packet")
        assert not lanes.moving()
        lanes.drain()
        assert lanes.moving()
        assert not lanes.moving()
    finally:
        os.close(reader)
        os.close(writer)
