"""Both queues are drained in rounds, on queues that only count."""

import os

from conntrackd_py.kernel.queues.queue import PacketQueue, QueueCounters
from conntrackd_py.kernel.queues.queue_pair import (
    EGRESS_A_ROUND,
    KNOWN_A_ROUND,
    NEW_A_ROUND,
    NEW_BESIDE_KNOWN,
    ROUNDS,
    QueuePair,
)


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


def test_the_egress_queue_does_not_grow() -> None:
    egress = Waiting(0)
    ingress = Waiting(10_000, egress)
    queue_pair = QueuePair(ingress, egress)
    assert queue_pair.drain() == (2 * ROUNDS - 1) * NEW_A_ROUND
    assert egress.packets == NEW_A_ROUND
    assert egress.most <= NEW_A_ROUND < EGRESS_A_ROUND


def test_known_connections_come_first_and_new_ones_get_a_small_share() -> None:
    egress = Waiting(0)
    known, new = Waiting(3 * KNOWN_A_ROUND, egress), Waiting(10_000, egress)
    queue_pair = QueuePair(new, egress, known=known)
    queue_pair.drain()
    assert known.packets == 0
    assert ROUNDS == 4
    assert 10_000 - new.packets == 3 * NEW_BESIDE_KNOWN + 2 * NEW_BESIDE_KNOWN
    assert egress.most <= KNOWN_A_ROUND + NEW_BESIDE_KNOWN <= EGRESS_A_ROUND


def test_the_share_of_new_connections_grows_back() -> None:
    new = Waiting(10_000)
    queue_pair = QueuePair(new, None, Waiting(1))
    shares = []
    for _ in range(3):
        before = new.packets
        queue_pair.drain()
        shares.append(before - new.packets)
    assert shares == [4 + 8 + 16 + 32, ROUNDS * NEW_A_ROUND, ROUNDS * NEW_A_ROUND]


def test_refusing_closes_the_queue_of_known_connections_too() -> None:
    known = Waiting(0, descriptor=3)
    queue_pair = QueuePair(Waiting(0, descriptor=1), Waiting(0, descriptor=2), known=known)
    assert sorted(queue_pair.filenos()) == [1, 2, 3]
    queue_pair.refuse()
    assert known.refused


def test_it_ends_when_nothing_waits() -> None:
    assert QueuePair(Waiting(0), Waiting(0)).drain() == 0
    assert QueuePair(Waiting(3), None).drain() == 3


def test_refusing_closes_the_ingress_only() -> None:
    ingress, egress = Waiting(0, descriptor=1), Waiting(0, descriptor=2)
    queue_pair = QueuePair(ingress, egress)
    queue_pair.refuse()
    assert (ingress.refused, egress.refused) == (True, False)
    queue_pair.close()
    assert ingress.closed
    assert egress.closed
    assert queue_pair.filenos() == [2, 1]


def test_known_connections_have_two_queues_more() -> None:
    queues = [Waiting(5 + at, descriptor=1 + at) for at in range(4)]
    queue_pair = QueuePair(*queues)
    assert queue_pair.drain() == 5 + 6 + 7 + 8
    queue_pair.refuse()
    assert [queue.refused for queue in queues] == [True, False, True, False]
    assert sorted(queue_pair.filenos()) == [1, 2, 3, 4]
    queue_pair.close()
    assert all(queue.closed for queue in queues)


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
