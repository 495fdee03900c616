"""recvmmsg on a real socket. Real packets: tests/e2e/test_nfqueue.py."""

import socket
from collections.abc import Iterator

import pytest

from conntrackd_py.kernel.queues.batch import HEAD
from conntrackd_py.kernel.queues.mmsg import MOST, Messages

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with kernel, ours:
        kernel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        yield kernel, ours


def received(ours: socket.socket, messages: Messages, limit: int) -> list[bytes]:
    lengths = messages.receive(ours, limit)
    heads = messages.heads(len(lengths))
    assert len(heads) == len(lengths) * HEAD
    return [
        heads[at * HEAD : at * HEAD + min(length, HEAD)] + bytes(messages.tails[at][: max(length - HEAD, 0)])
        for at, length in enumerate(lengths)
    ]


def test_messages_of_every_size_arrive_whole_and_in_order(ends: Ends) -> None:
    kernel, ours = ends
    sent = [bytes([size & 0xFF]) * size for size in (1, HEAD - 1, HEAD, HEAD + 1, 5000, 65535 + 200, 3)]
    for each in sent:
        kernel.send(each)
    messages = Messages()
    assert received(ours, messages, MOST) == sent
    kernel.send(b"again")
    assert received(ours, messages, MOST) == [b"again"]


def test_it_takes_at_most_so_many(ends: Ends) -> None:
    kernel, ours = ends
    for number in range(MOST + 10):
        kernel.send(bytes([number]))
    messages = Messages()
    assert received(ours, messages, 3) == [b"\0", b"\1", b"\2"]
    assert len(received(ours, messages, 1000)) == MOST
    assert len(received(ours, messages, 1000)) == 7


def test_it_never_waits(ends: Ends) -> None:
    assert Messages().receive(ends[1], MOST) == []


def test_a_broken_socket_is_an_error() -> None:
    with socket.socket() as unconnected, pytest.raises(OSError, match="not connected"):
        Messages().receive(unconnected, MOST)
