"""The inlet between the queue's socket and NetfilterQueue. Real packets: tests/e2e/test_nfqueue.py."""

import socket
from collections.abc import Iterator

import pytest

from conntrackd_py.kernel.nfqueue import _Inlet
from conntrackd_py.kernel.queue import QueueCounters

Ends = tuple[socket.socket, _Inlet]


@pytest.fixture
def ends() -> Iterator[Ends]:
    kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with kernel, ours:
        yield kernel, _Inlet(ours, QueueCounters())


def test_a_message_arrives_whole_whatever_size_is_asked_for(ends: Ends) -> None:
    kernel, inlet = ends
    kernel.send(b"x" * 65000)
    inlet.left = 1
    assert inlet.recv(4096) == b"x" * 65000


def test_it_stops_after_as_many_as_allowed(ends: Ends) -> None:
    kernel, inlet = ends
    for number in range(3):
        kernel.send(bytes([number]))
    inlet.left = 2
    assert [inlet.recv(4096), inlet.recv(4096)] == [b"\0", b"\1"]
    with pytest.raises(BlockingIOError):
        inlet.recv(4096)
    inlet.left = 1
    assert inlet.recv(4096) == b"\2"


def test_it_never_waits(ends: Ends) -> None:
    _, inlet = ends
    inlet.left = 1
    with pytest.raises(BlockingIOError):
        inlet.recv(4096)
    assert inlet.left == 1


def test_what_came_during_the_set_up_comes_first(ends: Ends) -> None:
    kernel, inlet = ends
    inlet.early.append(b"early")
    kernel.send(b"late")
    inlet.left = 2
    assert [inlet.recv(4096), inlet.recv(4096)] == [b"early", b"late"]


def test_it_can_be_emptied(ends: Ends) -> None:
    kernel, inlet = ends
    kernel.send(b"a")
    kernel.send(b"b")
    inlet.discard()
    inlet.left = 1
    with pytest.raises(BlockingIOError):
        inlet.recv(4096)
