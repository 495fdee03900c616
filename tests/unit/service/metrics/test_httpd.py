"""The HTTP server as clients meet it that are slow, rude or many; what it serves is in test_exporter.py."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Iterator
from http import HTTPStatus

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conntrackd_py.service.metrics.httpd import HEAD_BYTES, MOST, Answer, Httpd, RefusedRequestError, Request, parsed
from tests.support.examples import examples
from tests.support.loop import running

GOOD = b"GET /page?x=1 HTTP/1.1\r\nHost: a\r\n\r\n"


async def page(request: Request) -> Answer:
    return Answer(HTTPStatus.OK, {"Content-Type": "text/plain"}, f"{request.method} {request.query}".encode())


async def broken(request: Request) -> Answer:
    raise ZeroDivisionError(request.path)


class Server:
    def __init__(self, seconds: float = 30.0) -> None:
        self.http = Httpd("test", {"/page": page, "/broken": broken}, request=seconds)
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address: tuple[str, int] = self.listening.getsockname()

    def start(self) -> None:
        self.listening.setblocking(False)
        self.http.acceptor.start(self.listening)

    async def stop(self) -> None:
        await self.http.acceptor.stop()

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=10)

    def ask(self, data: bytes) -> bytes:
        """The whole answer; what the server sent before it reset the connection, if it did."""
        answer = b""
        with self.connect() as client:
            try:
                client.sendall(data)
                while received := client.recv(65536):
                    answer += received
            except ConnectionError:
                assert answer
        return answer

    def status(self, data: bytes) -> int:
        return int(self.ask(data).split(b" ", 2)[1])


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    with running(server):
        yield server


def test_a_page_and_then_the_end(server: Server) -> None:
    head, _, body = server.ask(GOOD).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nConnection: close" in head
    assert b"\r\nContent-Length: 7" in head
    assert body == b"GET x=1"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET http://a.example/page HTTP/1.1\r\n\r\n", 200),
        (b"GET /page HTTP/1.0\n\n", 200),
        (b"HEAD /page HTTP/1.1\r\n\r\n", 200),
        (b"GET /page\r\n\r\n", 400),
        (b"GET /page HTTP/2\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"GET /page HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /page HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", 400),
        (b"GET /page HTTP/1.1\r\nA: b\rC: d\r\n\r\n", 400),
        (b"GET http://[ HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\n\n", 400),
        (b"GET /other HTTP/1.1\r\n\r\n", 404),
        (b"DELETE /page HTTP/1.1\r\n\r\n", 405),
        (b"GET /page HTTP/1.1\r\nA: " + b"x" * HEAD_BYTES + b"\r\n\r\n", 431),
        (b"GET /page HTTP/1.1\r\n" + b"A: b\r\n" * 2000 + b"\r\n", 431),
        (b"GET /broken HTTP/1.1\r\n\r\n", 500),
    ],
)
def test_the_status_says_what_is_wrong(server: Server, request_bytes: bytes, status: int) -> None:
    assert server.status(request_bytes) == status
    assert server.status(GOOD) == 200


def test_answers_are_counted(server: Server) -> None:
    server.ask(GOOD)
    server.ask(b"GET /other HTTP/1.1\r\n\r\n")
    server.ask(b"GET /broken HTTP/1.1\r\n\r\n")
    assert server.http.answered == {200: 1, 404: 1}
    assert server.http.acceptor.errors == 1


def test_headers_of_60_kilobytes_are_refused_and_the_client_reads_why(server: Server) -> None:
    for _ in range(50):
        assert server.status(b"GET /page HTTP/1.1\r\nA: " + b"x" * 60_000 + b"\r\n\r\n") == 431
    assert server.status(GOOD) == 200


def test_a_request_that_does_not_end_is_given_up() -> None:
    server = Server(seconds=0.05)
    with running(server):
        assert server.status(b"GET /page HTTP/1.1\r\nA: b\r\n") == 408
        assert server.http.answered == {408: 1}


def test_a_client_that_trickles_gains_no_time() -> None:
    """The limit is that of the whole request, however often a byte comes."""
    server = Server(seconds=0.2)
    with running(server), server.connect() as client:
        for _ in range(1000):
            client.send(b"A")
            if select.select([client], [], [], 0.01)[0]:
                break
        assert client.recv(100).startswith(b"HTTP/1.1 408 ")


def test_idle_connections_keep_no_client_out(server: Server) -> None:
    idle = [server.connect() for _ in range(10 * MOST)]
    assert server.status(GOOD) == 200
    assert server.http.acceptor.sessions <= MOST
    assert server.http.acceptor.refused["connections"] > 8 * MOST
    for client in idle:
        client.close()


def test_closing_without_a_request_is_no_error(server: Server) -> None:
    server.connect().close()
    assert server.status(GOOD) == 200
    assert server.http.answered == {200: 1}
    assert server.http.acceptor.errors == 0


@settings(max_examples=examples(500), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.text(st.characters(max_codepoint=255), max_size=60), max_size=5))
def test_any_lines_are_a_request_or_refused(lines: list[str]) -> None:
    for begin in ([], ["GET /page HTTP/1.1"]):
        with contextlib.suppress(RefusedRequestError):
            assert isinstance(parsed([*begin, *lines]), Request)
