"""A packet queue that another socket bound before is taken over, and what waits in it is handled once."""

import os
import select
import socket
from collections.abc import Iterator

import pytest

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import NF_ACCEPT
from conntrackd_py.kernel.queues.mmsg import MOST
from conntrackd_py.kernel.queues.nfqueue import NfqueueQueue
from conntrackd_py.kernel.queues.proc_queues import QUEUES, queue_rows
from conntrackd_py.kernel.queues.queue import QueueError
from tests.support.network import private_network, run

HERE = "192.0.2.1"
PORT = 5000
NUMBER = 3


class Seen:
    """A handle that accepts and remembers the last byte of each packet."""

    def __init__(self) -> None:
        self.last: list[int] = []

    def __call__(self, skb: Skb, hook: int, now: int) -> int:
        self.last.append(skb.data[-1])
        return NF_ACCEPT


class Ends:
    """Two sockets with the queue between them."""

    def __init__(self) -> None:
        self.receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.receiver.bind((HERE, PORT))
        self.receiver.settimeout(0.2)

    def send(self, *values: int) -> None:
        for value in values:
            self.sender.sendto(bytes([value]), (HERE, PORT))

    def received(self) -> list[int]:
        found = []
        while select.select([self.receiver], [], [], 0.2)[0]:
            found.append(self.receiver.recv(100)[0])
        return found


@pytest.fixture
def ends() -> Iterator[Ends]:
    with private_network():
        run(f"ip address add {HERE}/32 dev lo")
        run(f"iptables -A OUTPUT -p udp -j NFQUEUE --queue-num {NUMBER}")
        made = Ends()
        with made.receiver, made.sender:
            yield made


def queue(handle: Seen, adopted: socket.socket | None = None, **options: int) -> NfqueueQueue:
    return NfqueueQueue(handle, lambda: 0, number=NUMBER, adopted=adopted, **options)  # type: ignore[arg-type]


def left(former: NfqueueQueue) -> socket.socket:
    """The socket of a queue whose process has ended, as systemd stores it."""
    stored = socket.socket(fileno=os.dup(former.fileno()))
    former.kept = True
    former.close()
    del former.nfq
    return stored


def rows() -> list[tuple[int, int]]:
    return [(row.number, row.waiting) for row in queue_rows(QUEUES)]


def test_what_waits_is_handled_once_and_in_order(ends: Ends) -> None:
    stored = left(queue(Seen()))
    ends.send(1, 2, 3)
    assert rows() == [(NUMBER, 3)]
    seen = Seen()
    successor = queue(seen, stored)
    assert successor.repeated == 3
    ends.send(4)
    while successor.drain(MOST):
        pass
    assert seen.last == [1, 2, 3, 4]
    assert ends.received() == [1, 2, 3, 4]
    assert rows() == [(NUMBER, 0)]
    successor.close()
    assert rows() == []


@pytest.mark.parametrize("waiting", [[], [3, 4]], ids=["none waits", "others wait"])
def test_what_was_read_without_a_verdict_is_dropped(ends: Ends, waiting: list[int]) -> None:
    former = queue(Seen())
    ends.send(1, 2)
    assert len(former.received.receive(former.sock, MOST)) == 2
    stored = left(former)
    ends.send(*waiting)
    seen = Seen()
    successor = queue(seen, stored)
    while successor.drain(MOST):
        pass
    assert seen.last == waiting
    assert ends.received() == waiting
    assert rows() == [(NUMBER, 0)]
    successor.close()


def test_a_chain_that_is_added_meanwhile_does_not_move_what_waits(ends: Ends) -> None:
    """A verdict would send the packet to the chain whose number its own had: it would be queued twice."""
    stored = left(queue(Seen()))
    ends.send(1)
    run("nft add table ip before")
    run("nft add chain ip before first { type filter hook output priority -310 ; }")
    run("nft add chain ip before second { type filter hook output priority -309 ; }")
    seen = Seen()
    successor = queue(seen, stored)
    while successor.drain(MOST):
        pass
    assert seen.last == [1]
    assert ends.received() == [1]
    successor.close()


def test_changed_settings_are_applied(ends: Ends) -> None:
    stored = left(queue(Seen(), max_length=100))
    seen = Seen()
    successor = queue(seen, stored, max_length=2, copied=40)
    ends.send(1, 2, 3)
    assert rows() == [(NUMBER, 2)]
    while successor.drain(MOST):
        pass
    assert successor.counters.truncated == 0
    successor.close()


def test_a_full_socket_is_taken_over(ends: Ends) -> None:
    stored = left(queue(Seen(), max_length=5000, socket_buffer=4096))
    for _ in range(100):
        ends.send(*range(10))
    seen = Seen()
    successor = queue(seen, stored, max_length=5000)
    repeated = successor.repeated
    assert 0 < repeated < 1000
    while successor.drain(MOST):
        pass
    assert len(seen.last) == repeated
    ends.send(77)
    while successor.drain(MOST):
        pass
    assert seen.last[-1] == 77
    successor.close()


def test_the_socket_of_another_queue_is_refused(ends: Ends) -> None:
    other = NfqueueQueue(Seen(), lambda: 0, number=NUMBER + 1)
    stored = left(other)
    with pytest.raises(QueueError, match="cannot configure packet queue 3"):
        queue(Seen(), stored)
    assert stored.fileno() == -1


def test_a_socket_without_a_queue_is_refused(ends: Ends) -> None:
    owner = queue(Seen())
    plain = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
    plain.bind((0, 0))
    with pytest.raises(QueueError, match="Operation not permitted"):
        queue(Seen(), plain)
    assert rows() == [(NUMBER, 0)], "its owner keeps the queue"
    owner.close()
