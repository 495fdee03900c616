"""The packet queue with real packets: nothing is cut, nothing stays without a verdict, nothing is lost uncounted."""

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import LOCAL_OUT, NF_ACCEPT, NF_DROP
from conntrackd_py.kernel.queues.batch import Handle
from conntrackd_py.kernel.queues.nfqueue import NfqueueQueue
from conntrackd_py.kernel.queues.queue import QueueError
from conntrackd_py.settings.load import LEAST_BUFFER
from tests.support.network import private_network, run

HERE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
PORT = 5000
NUMBER = 3
SO_RCVBUFFORCE = 33
SO_NO_CHECK = 11  # a datagram without checksum may be rewritten without one

Queues = Callable[..., NfqueueQueue]


@pytest.fixture(autouse=True)
def network() -> Iterator[None]:
    with private_network():
        run(f"ip address add {HERE[socket.AF_INET]}/32 dev lo")
        run(f"ip address add {HERE[socket.AF_INET6]}/128 dev lo nodad")
        for family in HERE:
            wait_until_reachable(family)
        for iptables in ("iptables", "ip6tables"):
            run(f"{iptables} -A OUTPUT -p udp -j NFQUEUE --queue-num {NUMBER}")
        yield


@pytest.fixture
def bound() -> Iterator[Queues]:
    queues: list[NfqueueQueue] = []

    def bind(handle: Handle, **options: int) -> NfqueueQueue:
        queues.append(NfqueueQueue(handle, lambda: 0, number=NUMBER, **options))  # type: ignore[arg-type]
        return queues[-1]

    yield bind
    for queue in queues:
        queue.close()


def accept(skb: Skb, hook: int, now: int) -> int:
    return NF_ACCEPT


def socket_pair(family: int = socket.AF_INET) -> tuple[socket.socket, socket.socket]:
    receiver = socket.socket(family, socket.SOCK_DGRAM)
    sender = socket.socket(family, socket.SOCK_DGRAM)
    receiver.bind((HERE[socket.AddressFamily(family)], PORT))
    receiver.settimeout(0.3)
    for each in (receiver, sender):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    if family == socket.AF_INET:
        sender.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
    return sender, receiver


def wait_until_reachable(family: int) -> None:
    """A fresh namespace sometimes answers the first IPv6 packet with "unreachable", queue or no queue."""
    sender, receiver = socket_pair(family)
    with sender, receiver:
        for _ in range(10):
            sender.sendto(b"there?", (HERE[socket.AddressFamily(family)], PORT))
            with contextlib.suppress(TimeoutError):
                assert receiver.recv(100) == b"there?"
                return
    pytest.fail("the loopback delivers nothing")


def through(queue: NfqueueQueue, data: bytes, family: int = socket.AF_INET) -> bytes | None:
    """What arrives of a datagram that makes its way through the queue; None when nothing does."""
    sender, receiver = socket_pair(family)
    with sender, receiver:
        sender.sendto(data, (HERE[socket.AddressFamily(family)], PORT))
        assert select.select([queue], [], [], 2)[0], "nothing came to the queue"
        assert queue.drain(10) == 1
        try:
            return receiver.recv(70000)
        except TimeoutError:
            return None


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("size", [1, 4000, 5000, 60000])
def test_one_queue_takes_packets_of_both_families_whole(bound: Queues, family: int, size: int) -> None:
    seen: list[tuple[int, int]] = []

    def look(skb: Skb, hook: int, now: int) -> int:
        seen.append((hook, len(skb.data)))
        return NF_ACCEPT

    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert through(bound(look), data, family) == data
    assert seen == [(LOCAL_OUT, size + (28 if family == socket.AF_INET else 48))]


def test_the_smallest_queue_that_settings_allow_takes_a_large_packet(bound: Queues) -> None:
    data = b"a" * 60000
    assert through(bound(accept, max_length=1, socket_buffer=LEAST_BUFFER), data) == data


def test_a_large_packet_is_rewritten_whole_and_its_mark_with_it(bound: Queues) -> None:
    def rewrite(skb: Skb, hook: int, now: int) -> int:
        skb.data = skb.data[:-4] + b"NEW!"
        skb.mark = 0xABC00
        return NF_ACCEPT

    run("iptables -t mangle -A POSTROUTING -m mark --mark 0xabc00")
    assert through(bound(rewrite), b"a" * 60000) == b"a" * 59996 + b"NEW!"
    assert " 1    60028 " in run("iptables -t mangle -vnxL POSTROUTING")


def test_a_mark_can_change_alone(bound: Queues) -> None:
    def mark(skb: Skb, hook: int, now: int) -> int:
        skb.mark = 0xABC00
        return NF_ACCEPT

    run("iptables -t mangle -A POSTROUTING -m mark --mark 0xabc00")
    assert through(bound(mark), b"data") == b"data"
    assert " 1       32 " in run("iptables -t mangle -vnxL POSTROUTING")


def test_an_unchanged_mark_stays(bound: Queues) -> None:
    run("iptables -t raw -A OUTPUT -j MARK --set-mark 0x77")
    run("iptables -t mangle -A POSTROUTING -m mark --mark 0x77")
    assert through(bound(accept), b"data") == b"data"
    assert " 1       32 " in run("iptables -t mangle -vnxL POSTROUTING")


def test_a_packet_that_did_not_fit_is_dropped_and_counted(bound: Queues) -> None:
    queue = bound(accept)
    assert through(queue, b"a" * 65507) is None  # 65,535 bytes of packet, 4 more than a message can hold
    assert queue.counters.truncated == 1


@pytest.mark.parametrize(("on_error", "arrives"), [(NF_DROP, None), (NF_ACCEPT, b"data")], ids=["drop", "accept"])
def test_our_own_exception_is_a_verdict_and_is_counted(bound: Queues, on_error: int, arrives: bytes | None) -> None:
    def fail(skb: Skb, hook: int, now: int) -> int:
        skb.data = b"half done"
        raise ValueError("a mistake in the engine")

    queue = bound(fail, on_error=on_error)
    for _ in range(3):
        assert through(queue, b"data") == arrives
    assert queue.counters.verdict_errors == 3
    assert waiting() == 0


def test_an_exception_in_the_middle_of_a_batch_leaves_the_other_packets_alone(bound: Queues) -> None:
    def fail_at_some(skb: Skb, hook: int, now: int) -> int:
        if skb.data[-1] % 3 == 1:
            raise ValueError("a mistake in the engine")
        skb.data = skb.data[:-2] + b"n" + skb.data[-1:]
        return NF_ACCEPT

    queue = bound(fail_at_some)
    sender, receiver = socket_pair()
    with sender, receiver:
        for number in range(30):
            sender.sendto(bytes([0, number]), (HERE[socket.AF_INET], PORT))
        assert queue.drain(64) == 30
        assert waiting() == 0
        assert queue.counters.verdict_errors == 10
        assert [receiver.recv(100) for _ in range(20)] == [b"n" + bytes([n]) for n in range(30) if n % 3 != 1]


@pytest.mark.parametrize(("send_buffer", "arrive", "refused"), [(0, 0, True), (50_000, 20, True), (1 << 20, 20, False)])
def test_verdicts_larger_than_the_send_buffer_are_split(
    bound: Queues, send_buffer: int, arrive: int, refused: bool
) -> None:
    """A packet that no send holds is dropped; none stays without a verdict."""

    def rewrite(skb: Skb, hook: int, now: int) -> int:
        skb.data = skb.data[:-4] + b"NEW!"
        return NF_ACCEPT

    queue = bound(rewrite)
    queue.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    sender, receiver = socket_pair()
    with sender, receiver:
        receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 22)
        for _ in range(20):
            sender.sendto(b"a" * 60000, (HERE[socket.AF_INET], PORT))
        receiver.setblocking(False)
        assert queue.drain(64) == 20
        assert waiting() == 0
        assert [receiver.recv(70000)[-5:] for _ in range(arrive)] == [b"aNEW!"] * arrive
        assert (queue.counters.send_errors > 0) == refused
        with pytest.raises(BlockingIOError):
            receiver.recv(70000)


def test_equal_verdicts_in_a_row_reach_exactly_their_packets(bound: Queues) -> None:
    """Runs of five: accepted, dropped, marked, accepted and so on."""

    def by_run(skb: Skb, hook: int, now: int) -> int:
        turn = skb.data[-1] // 5 % 3
        if turn == 2:
            skb.mark = 0xABC00
        return NF_DROP if turn == 1 else NF_ACCEPT

    run("iptables -t mangle -A POSTROUTING -m mark --mark 0xabc00")
    queue = bound(by_run)
    sender, receiver = socket_pair()
    with sender, receiver:
        for number in range(60):
            sender.sendto(bytes([number]), (HERE[socket.AF_INET], PORT))
        assert [queue.drain(32), queue.drain(32)] == [32, 28]
        assert waiting() == 0
        assert [receiver.recv(100) for _ in range(40)] == [bytes([n]) for n in range(60) if n // 5 % 3 != 1]
    assert " 20      580 " in run("iptables -t mangle -vnxL POSTROUTING")


def column(index: int) -> int:
    """Of our line in the kernel's list of queues."""
    lines = Path("/proc/thread-self/net/netfilter/nfnetlink_queue").read_text().splitlines()
    return next(int(line.split()[index]) for line in lines if int(line.split()[0]) == NUMBER)


def waiting() -> int:
    """Packets without a verdict."""
    return column(2)


def flood(count: int) -> None:
    sender, receiver = socket_pair()
    with sender, receiver:
        for _ in range(count):
            sender.sendto(b"x", (HERE[socket.AF_INET], PORT))


def test_a_drain_handles_at_most_its_budget(bound: Queues) -> None:
    queue = bound(accept)
    flood(25)
    assert [queue.drain(10) for _ in range(4)] == [10, 10, 5, 0]


def test_a_full_socket_buffer_is_counted(bound: Queues) -> None:
    queue = bound(accept, socket_buffer=2048)
    flood(200)
    while queue.drain(100):
        pass
    assert queue.counters.enobufs >= 1


def test_a_full_queue_drops_in_the_kernel(bound: Queues) -> None:
    bound(accept, max_length=10)
    flood(50)
    assert (waiting(), column(5)) == (10, 40)


def test_the_socket_buffer_is_as_large_as_asked(bound: Queues) -> None:
    queue = bound(accept, socket_buffer=16777216)
    assert queue.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * 16777216


def test_a_queue_that_refuses_still_answers_what_waits(bound: Queues) -> None:
    queue = bound(accept)
    flood(5)
    queue.refuse()
    flood(3)
    assert queue.drain(100) == 5
    assert waiting() == 0


def test_a_queue_has_one_owner(bound: Queues) -> None:
    first = bound(accept)
    with pytest.raises(QueueError, match="packet queue 3: another program has it"):
        bound(accept)
    first.close()
    bound(accept)


def test_binding_and_closing_under_load_never_hangs(bound: Queues) -> None:
    sender, receiver = socket_pair()

    def bind_and_close() -> None:
        for _ in range(20):
            queue = bound(accept, socket_buffer=2048)
            for _ in range(100):
                sender.sendto(b"x", (HERE[socket.AF_INET], PORT))
            queue.close()

    thread = threading.Thread(target=bind_and_close, daemon=True)
    with sender, receiver:
        thread.start()
        thread.join(60)
        assert not thread.is_alive(), "it hangs"
