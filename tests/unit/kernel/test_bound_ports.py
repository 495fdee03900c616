"""The sockets of this machine, as the kernel lists them."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from conntrackd_py.kernel import bound_ports
from conntrackd_py.nat.usage.bound_ports import bound_key

TCP, UDP = 6, 17
LOOPBACK, LOOPBACK6 = bytes((127, 0, 0, 1)), bytes(15) + b"\1"
KINDS = {TCP: socket.SOCK_STREAM, UDP: socket.SOCK_DGRAM}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as found:
        yield found


def bound(stack: ExitStack, protonum: int, address: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = stack.enter_context(socket.socket(family, KINDS[protonum]))
    sock.bind((address, 0))
    return sock


def found() -> dict[bytes, None]:
    keys, more = asyncio.run(bound_ports.read())
    assert not more
    return keys


@pytest.mark.parametrize(
    ("address", "packed"),
    [("127.0.0.1", LOOPBACK), ("0.0.0.0", b""), ("::1", LOOPBACK6), ("::", b""), ("::ffff:127.0.0.1", LOOPBACK)],
)
@pytest.mark.parametrize("protonum", [TCP, UDP])
def test_a_silent_socket_is_found_until_it_is_closed(
    stack: ExitStack, protonum: int, address: str, packed: bytes
) -> None:
    sock = bound(stack, protonum, address)
    if protonum == TCP:
        sock.listen()
    key = bound_key(protonum, packed, sock.getsockname()[1])
    assert key in found()
    sock.close()
    assert key not in found()


def test_both_ends_of_a_connection_are_found(stack: ExitStack) -> None:
    server = bound(stack, TCP, "127.0.0.1")
    server.listen()
    client = bound(stack, TCP, "127.0.0.1")
    client.connect(server.getsockname())
    accepted, _ = server.accept()
    stack.enter_context(accepted)
    keys = found()
    assert {bound_key(TCP, LOOPBACK, sock.getsockname()[1]) for sock in (client, server)} <= set(keys)


def test_more_sockets_than_one_piece_holds(stack: ExitStack) -> None:
    ports = [bound(stack, UDP, "127.0.0.1").getsockname()[1] for _ in range(300)]
    assert {bound_key(UDP, LOOPBACK, port) for port in ports} <= set(found())


def test_the_number_is_bounded(stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(200):
        bound(stack, UDP, "127.0.0.1")
    monkeypatch.setattr(bound_ports, "MOST", 50)
    keys, more = asyncio.run(bound_ports.read())
    assert more
    assert len(keys) < 200


def test_an_error_ends_the_answer() -> None:
    keys: dict[bytes, None] = {}
    error = bytes.fromhex("24000000 02000000 01000000 00000000 feffffff".replace(" ", "")) + bytes(16)
    assert not bound_ports.add(keys, TCP, error)
    assert keys == {}
