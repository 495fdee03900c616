"""Sends that fail, on real sockets that are full, or too small for what is sent."""

import socket
import threading
from collections.abc import Iterator
from itertools import count

import pytest
from structlog.testing import capture_logs

from conntrackd_py.const import NF_ACCEPT, NF_DROP
from conntrackd_py.kernel.queues.packet_message import VERDICT_SIZE, VerdictMessages
from conntrackd_py.kernel.queues.queue import QueueCounters
from conntrackd_py.kernel.queues.verdict_sender import VerdictSender, each
from tests.support.queued import Verdict, verdicts_in

MESSAGES = VerdictMessages(3)
Ends = tuple[VerdictSender, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """As a netlink socket: a send is taken whole or refused at once."""
    ours, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, kernel:
        ours.setblocking(False)
        kernel.settimeout(5)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 100_000)
        yield VerdictSender(ours, 3, QueueCounters()), kernel


def number(packet: int) -> bytes:
    return packet.to_bytes(4, "big")


def rewritten(packet: int, payload: bytes) -> list[bytes]:
    padding = bytes(-len(payload) % 4)
    return [MESSAGES.rewritten(number(packet), 9, len(payload)), payload, padding]


def send(sender: VerdictSender, verdicts: list[bytes]) -> None:
    with capture_logs():
        sender.send(verdicts, sum(map(len, verdicts)))


@pytest.mark.parametrize("size", [10, 30_000])
def test_all_verdicts_go_with_one_send(ends: Ends, size: int) -> None:
    sender, kernel = ends
    verdicts = [MESSAGES.plain(number(1), NF_DROP), MESSAGES.marked(number(2), 7), *rewritten(3, b"x" * size)]
    send(sender, verdicts)
    assert verdicts_in(kernel.recv(1 << 20)) == [
        Verdict(1, NF_DROP),
        Verdict(2, NF_ACCEPT, 7),
        Verdict(3, NF_ACCEPT, 9, b"x" * size),
    ]
    assert sender.counters.send_errors == 0


def test_what_is_too_large_together_goes_one_by_one(ends: Ends) -> None:
    sender, kernel = ends
    sender.sock.setblocking(True)  # a netlink socket counts no bytes of earlier sends
    parts = [MESSAGES.plain(number(1), NF_ACCEPT)]
    for packet in range(2, 6):
        parts += rewritten(packet, b"x" * 65531)
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.extend(kernel.recv(1 << 20) for _ in range(5)))
    thread.start()
    send(sender, parts)
    thread.join(10)
    assert [verdicts_in(one) for one in got] == [
        [Verdict(1, NF_ACCEPT)],
        *([Verdict(packet, NF_ACCEPT, 9, b"x" * 65531)] for packet in range(2, 6)),
    ]
    assert sender.counters.send_errors == 1


def test_a_rewritten_packet_that_cannot_be_sent_alone_is_dropped(ends: Ends) -> None:
    sender, kernel = ends
    sender.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 10_000)
    send(sender, [MESSAGES.marked(number(1), 7), *rewritten(2, b"x" * 65531), MESSAGES.plain(number(3), NF_ACCEPT)])
    assert [verdicts_in(kernel.recv(1 << 20)) for _ in range(3)] == [
        [Verdict(1, NF_ACCEPT, 7)],
        [Verdict(2, NF_DROP)],
        [Verdict(3, NF_ACCEPT)],
    ]


def fill(sock: socket.socket) -> int:
    """How many one-byte messages it took."""
    for sent in count():
        try:
            sock.send(b"x")
        except BlockingIOError:
            return sent
    raise AssertionError


def test_a_plain_verdict_is_sent_when_there_is_memory_again(ends: Ends) -> None:
    sender, kernel = ends
    filled = fill(sender.sock)
    got = bytearray()

    def take_all() -> None:
        while len(got) < filled + 2 * VERDICT_SIZE:
            got.extend(kernel.recv(1000))

    thread = threading.Thread(target=take_all)
    thread.start()
    send(sender, [MESSAGES.plain(number(1), NF_ACCEPT), MESSAGES.plain(number(2), NF_DROP)])
    thread.join(10)
    assert verdicts_in(bytes(got[filled:])) == [Verdict(1, NF_ACCEPT), Verdict(2, NF_DROP)]


def test_it_ends_with_an_error_when_memory_stays_short(ends: Ends) -> None:
    sender, _ = ends
    fill(sender.sock)
    with pytest.raises(BlockingIOError):
        send(sender, [MESSAGES.plain(number(1), NF_ACCEPT)])


def test_a_broken_socket_is_an_error_at_once(ends: Ends) -> None:
    sender, kernel = ends
    kernel.close()
    with pytest.raises(BrokenPipeError):
        send(sender, [MESSAGES.plain(number(1), NF_ACCEPT)])
    assert sender.counters.send_errors == 0


def test_verdicts_are_told_apart() -> None:
    parts = [MESSAGES.plain(number(1), NF_ACCEPT), MESSAGES.marked(number(2), 7)]
    odd = rewritten(3, b"odd")
    assert list(each(b"".join([*parts, *odd, *parts]))) == [*parts, b"".join(odd), *parts]
