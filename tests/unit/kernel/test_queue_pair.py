"""Who goes first, on queues that only count."""

import os

from conntrackd_py.kernel.queue import PacketQueue, QueueCounters
from conntrackd_py.kernel.queue_pair import IN_A_ROUND, OUT_A_ROUND, ROUNDS, QueuePair


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
    queue_pair = QueuePair(entrance, out)
    assert queue_pair.drain() == 2 * ROUNDS * IN_A_ROUND
    assert out.packets == 0
    assert out.most <= IN_A_ROUND < OUT_A_ROUND


def test_it_ends_when_nothing_waits() -> None:
    assert QueuePair(Waiting(0), Waiting(0)).drain() == 0
    assert QueuePair(Waiting(3), None).drain() == 3


def test_refusing_closes_the_entrance_only() -> None:
    entrance, out = Waiting(0, descriptor=1), Waiting(0, descriptor=2)
    queue_pair = QueuePair(entrance, out)
    queue_pair.refuse()
    assert (entrance.refused, out.refused) == (True, False)
    queue_pair.close()
    assert entrance.closed
    assert out.closed
    assert queue_pair.filenos() == [2, 1]


def test_it_moves_while_packets_are_handled_or_none_waits() -> None:
    reader, writer = os.pipe()
    try:
        queue_pair = QueuePair(Waiting(5, descriptor=reader), None)
        assert queue_pair.moving()
        os.write(writer, b"a packet")
        assert not queue_pair.moving()
        queue_pair.drain()
        assert queue_pair.moving()
        assert not queue_pair.moving()
    finally:
        os.close(reader)
        os.close(writer)
