"""A small HTTP server in the daemon's loop: GET and HEAD of a few pages, one request a connection.

Bounds: connections (acceptor), HEAD_BYTES of request line and headers, REQUEST seconds to receive the request, as many
to send the answer. One page is made at a time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple, final
from urllib.parse import urlsplit

from conntrackd_py.kernel.acceptor import Acceptor, close

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from ssl import SSLContext

MOST: Final = 16  # connections
HEAD_BYTES: Final = 8192
REQUEST: Final = 5.0  # seconds
METHODS: Final = ("GET", "HEAD")
TEXT: Final = "text/plain; charset=utf-8"


class Request(NamedTuple):
    """headers: by lower-case name; repeated ones are joined by commas."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]


class Answer(NamedTuple):
    status: HTTPStatus
    headers: Mapping[str, str]
    body: bytes


Page = Callable[[Request], Awaitable[Answer]]


class RefusedRequestError(Exception):
    """args: the HTTP status."""


@final
class Httpd:
    """pages: by path. `answered` counts answers by status."""

    def __init__(
        self,
        name: str,
        pages: Mapping[str, Page],
        *,
        most: int = MOST,
        request: float = REQUEST,
        tls: "SSLContext | None" = None,
    ) -> None:
        self.pages = pages
        self.request = request
        self.answered: dict[int, int] = {}
        apology = rendered(refusal(HTTPStatus.INTERNAL_SERVER_ERROR))
        self.acceptor = Acceptor(name, self._serve, most=most, limit=HEAD_BYTES, evict=True, apology=apology, tls=tls)
        self._turn = asyncio.Lock()

    async def _serve(self, reader: "StreamReader", writer: "StreamWriter") -> None:
        body = True
        try:
            async with asyncio.timeout(self.request):
                request = parsed(await head(reader))
            body = request.method != "HEAD"
            answer = await self._answer(request)
        except asyncio.IncompleteReadError:
            return  # the client closed without a request
        except TimeoutError:
            answer = refusal(HTTPStatus.REQUEST_TIMEOUT)
        except RefusedRequestError as refused:
            answer = refusal(refused.args[0])
        self.answered[answer.status] = self.answered.get(answer.status, 0) + 1
        writer.write(rendered(answer, body))
        if answer.status != HTTPStatus.OK:
            await close(reader, writer)
            return
        async with asyncio.timeout(self.request):
            writer.close()
            await writer.wait_closed()

    async def _answer(self, request: Request) -> Answer:
        page = self.pages.get(request.path)
        if page is None:
            raise RefusedRequestError(HTTPStatus.NOT_FOUND)
        if request.method not in METHODS:
            raise RefusedRequestError(HTTPStatus.METHOD_NOT_ALLOWED)
        async with self._turn:
            answer = await page(request)
            await asyncio.sleep(0)
        return answer


async def head(reader: "StreamReader") -> list[str]:
    """The lines before the empty one. Raises RefusedRequestError beyond HEAD_BYTES, IncompleteReadError at the end."""
    lines: list[str] = []
    size = 0
    while True:
        try:
            line = await reader.readuntil(b"\n")
        except asyncio.LimitOverrunError as error:
            raise RefusedRequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE) from error
        size += len(line)
        if size > HEAD_BYTES:
            raise RefusedRequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        text = line.decode("latin-1").rstrip("\r\n")
        if not text:
            return lines
        lines.append(text)


def parsed(lines: list[str]) -> Request:
    """Raises RefusedRequestError for a request that is not HTTP/1 (RFC 9112)."""
    if any(char in line for line in lines for char in "\r\0"):
        raise RefusedRequestError(HTTPStatus.BAD_REQUEST)
    try:
        method, target, version = lines[0].split(" ")
        url = urlsplit(target)
    except (IndexError, ValueError) as error:
        raise RefusedRequestError(HTTPStatus.BAD_REQUEST) from error
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise RefusedRequestError(HTTPStatus.BAD_REQUEST)
        key = name.lower()
        headers[key] = f"{headers[key]}, {value.strip()}" if key in headers else value.strip()
    if not version.startswith("HTTP/1."):
        raise RefusedRequestError(HTTPStatus.BAD_REQUEST)
    return Request(method, url.path, url.query, headers)


def refusal(status: HTTPStatus) -> Answer:
    headers = {"Content-Type": TEXT}
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(METHODS)
    return Answer(status, headers, f"{status} {status.phrase}\n".encode())


def rendered(answer: Answer, body: bool = True) -> bytes:
    """The bytes of the answer. body: false for HEAD, whose headers are those of GET."""
    headers = {
        "Date": formatdate(usegmt=True),
        **answer.headers,
        "Content-Length": str(len(answer.body)),
        "Connection": "close",
    }
    lines = [f"HTTP/1.1 {answer.status} {answer.status.phrase}", *(f"{key}: {value}" for key, value in headers.items())]
    return "\r\n".join((*lines, "", "")).encode("latin-1") + (answer.body if body else b"")
