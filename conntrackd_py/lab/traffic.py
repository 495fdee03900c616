"""Small servers and clients for the lab and the tests: `python -m conntrackd_py.lab.traffic COMMAND ...`.

    udp-echo HOST PORT            sends every datagram back
    udp-send HOST PORT SIZE...    sends datagrams and compares each answer byte for byte
    http HOST PORT NAME           answers a GET with NAME and the address of the client
    exchange-server HOST PORT     the server of `exchange` and `many`
    exchange HOST PORT BYTES      sends random bytes in both directions at once and compares SHA-256 sums
    many HOST PORT COUNT          opens connections at once, uses each, closes all

Servers print `ready` and run until they are killed. Clients print the result as one line and exit 0 on success.
"""

import asyncio
import contextlib
import hashlib
import os
import socket
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final

PIECE: Final = 65536
ANSWER_TIMEOUT: Final = 5.0  # seconds
LARGEST_DATAGRAM: Final = 65535


def udp_socket(host: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, 1 << 20)
    return sock


def udp_echo(host: str, port: str) -> int:
    with udp_socket(host) as sock:
        sock.bind((host, int(port)))
        print("ready", flush=True)
        while True:
            data, peer = sock.recvfrom(LARGEST_DATAGRAM)
            sock.sendto(data, peer)


def udp_send(host: str, port: str, *sizes: str) -> int:
    with udp_socket(host) as sock:
        sock.settimeout(ANSWER_TIMEOUT)
        sock.connect((host, int(port)))
        for size in map(int, sizes):
            data = os.urandom(size)
            sock.send(data)
            if (answer := sock.recv(LARGEST_DATAGRAM)) != data:
                print(f"sent {size} bytes, received {len(answer)} bytes or other content")
                return 1
    print(f"{len(sizes)} datagrams echoed byte for byte")
    return 0


async def http(host: str, port: str, name: str) -> int:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            await reader.readuntil(b"\r\n\r\n")
            peer, *_ = writer.get_extra_info("peername")
            body = f"This is {name}. You are {peer}.\n".encode()
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
        writer.close()

    return await serve(answer, host, port)


async def serve(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]], host: str, port: str
) -> int:
    server = await asyncio.start_server(answer, host, int(port), backlog=1024)
    print("ready", flush=True)
    await server.serve_forever()
    return 0


async def exchange_server(host: str, port: str) -> int:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            amount = int(await reader.readline())
            await swap(reader, writer, amount)
        writer.close()

    return await serve(answer, host, port)


async def swap(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, amount: int) -> bool:
    """Send `amount` random bytes and their digest while receiving as many; whether the received digest is right."""
    good, _ = await asyncio.gather(receive(reader, amount), send(writer, amount))
    return good


async def send(writer: asyncio.StreamWriter, amount: int) -> None:
    digest = hashlib.sha256()
    while amount:
        piece = os.urandom(min(amount, PIECE))
        amount -= len(piece)
        digest.update(piece)
        writer.write(piece)
        await writer.drain()
    writer.write(digest.digest())
    await writer.drain()


async def receive(reader: asyncio.StreamReader, amount: int) -> bool:
    digest = hashlib.sha256()
    while amount:
        piece = await reader.read(min(amount, PIECE))
        if not piece:
            return False
        amount -= len(piece)
        digest.update(piece)
    return await reader.readexactly(digest.digest_size) == digest.digest()


async def exchange(host: str, port: str, amount: str) -> int:
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{amount}\n".encode())
    good = await swap(reader, writer, int(amount))
    writer.close()
    await writer.wait_closed()
    print(f"{amount} bytes each way, SHA-256 {'equal' if good else 'DIFFERENT'}")
    return 0 if good else 1


async def many(host: str, port: str, count: str) -> int:
    together = await asyncio.gather(
        *(asyncio.open_connection(host, int(port)) for _ in range(int(count))), return_exceptions=True
    )
    opened = [pair for pair in together if not isinstance(pair, BaseException)]
    good = 0
    for reader, writer in opened:
        writer.write(b"1000\n")
        good += await swap(reader, writer, 1000)
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for _, writer in opened), return_exceptions=True)
    print(f"{good} of {count} connections good")
    return 0 if good == int(count) else 1


COMMANDS: Final[dict[str, Callable[..., int | Coroutine[Any, Any, int]]]] = {
    "udp-echo": udp_echo,
    "udp-send": udp_send,
    "http": http,
    "exchange-server": exchange_server,
    "exchange": exchange,
    "many": many,
}


def main() -> int:
    try:
        result = COMMANDS[sys.argv[1]](*sys.argv[2:])
        return result if isinstance(result, int) else asyncio.run(result)
    except OSError as error:
        print(error)
        return 1


if __name__ == "__main__":
    sys.exit(main())
