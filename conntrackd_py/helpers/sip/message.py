"""A SIP message: its first line, headers and session description, by their offsets in the payload (RFC 3261, RFC 4566).

Nothing is looked up: a host counts only if it is an address. Everything is read once; the number of headers, and of
addresses in one header, is bounded.
"""

from typing import Final, final

from conntrackd_py.helpers.text import address_of, number_at
from conntrackd_py.match.address import address_text

MOST_HEADERS: Final = 128
MOST_LINES: Final = 1024  # of a description
MOST_URIS: Final = 16  # read in all headers of one name
PORT: Final = 5060  # without one in the text
LOWEST_PORT: Final = 1024
HIGHEST_PORT: Final = 65535
M32: Final = 0xFFFFFFFF
COMPACT: Final = {b"m": b"contact", b"f": b"from", b"t": b"to", b"v": b"via", b"l": b"content-length"}


@final
class Place:
    """A part of the payload: [at, end). address, port: what it says."""

    def __init__(self, at: int, end: int, address: bytes = b"", port: int = 0) -> None:
        self.at = at
        self.end = end
        self.address = address
        self.port = port


@final
class Message:
    """payload[start:end] is the message; its body begins at `body`."""

    def __init__(self, payload: bytes, start: int, end: int) -> None:
        self.payload = payload
        self.start = start
        self.end = end
        self.line = _line_end(payload, start, end)  # of the first line
        self.body = end
        self.headers: list[tuple[bytes, Place]] = []  # name in lower case, value
        self._read()

    def _read(self) -> None:
        payload, at = self.payload, _next_line(self.payload, self.line, self.end)
        while at < self.end:
            stop = _line_end(payload, at, self.end)
            following = _next_line(payload, stop, self.end)
            if stop == at:
                self.body = following
                return
            if payload[at] in b" \t":
                if self.headers:
                    self.headers[-1][1].end = stop  # the value goes on
            elif len(self.headers) < MOST_HEADERS:
                colon = payload.find(b":", at, stop)
                if colon > at:
                    name = payload[at:colon].strip().lower()
                    self.headers.append((COMPACT.get(name, name), Place(_skip_blanks(payload, colon + 1, stop), stop)))
            at = following

    @property
    def is_response(self) -> bool:
        return self.payload[self.start : self.start + 8].upper() == b"SIP/2.0 "

    def values(self, name: bytes) -> list[Place]:
        return [place for header, place in self.headers if header == name]

    def number(self, name: bytes) -> int:
        """The number with which the first header of this name begins; -1 without one."""
        for place in self.values(name):
            return number_at(self.payload, place.at, M32)[0]
        return -1

    def request_uri(self) -> Place | None:
        return self._uri(self.start, self.line)

    def uris(self, name: bytes) -> list[Place]:
        """The addresses in all headers of this name, in a row."""
        found: list[Place] = []
        read = 0
        for value in self.values(name):
            at = value.at
            while at < value.end and read < MOST_URIS:
                read += 1
                uri = self._uri(at, value.end)
                if uri is not None:
                    found.append(uri)
                at = self.payload.find(b",", at if uri is None else uri.end, value.end) + 1 or value.end
        return found

    def _uri(self, at: int, stop: int) -> Place | None:
        """The host and port of the first sip: address."""
        begin = find_any_case(self.payload, b"sip:", at, stop)
        if begin < 0:
            return None
        begin += 4
        behind = _first_of(self.payload, b">,;? \t\r\n", begin, stop)
        user = self.payload.find(b"@", begin, stop)
        if user >= 0 and self.payload.find(b"\n", begin, user) < 0:
            begin = user + 1
            behind = _first_of(self.payload, b">,;? \t\r\n", begin, stop)
        return host_port(self.payload, begin, behind)

    def via(self, transport: bytes) -> tuple[Place, Place] | None:
        """The host and port of the topmost Via of this transport, and the place of its parameters."""
        for value in self.values(b"via"):
            at = find_any_case(self.payload, transport + b" ", value.at, value.end)
            if at < 0:
                continue
            at = _skip_blanks(self.payload, at + len(transport), value.end)
            comma = self.payload.find(b",", at, value.end)
            stop = value.end if comma < 0 else comma
            found = host_port(self.payload, at, _first_of(self.payload, b"; ,\t", at, stop))
            return None if found is None else (found, Place(found.end, stop))
        return None

    def parameter(self, name: bytes, within: Place) -> Place:
        """The value of a parameter, which ends at the next separator; empty without one."""
        at = find_any_case(self.payload, name + b"=", within.at, within.end)
        if at < 0:
            return Place(within.end, within.end)
        at += len(name) + 1
        return Place(at, _first_of(self.payload, b";,> \t\r\n", at, within.end))

    def parameters_of(self, uri: Place) -> Place:
        """Behind an address in a Contact header, to the next address."""
        line = _line_end(self.payload, uri.end, self.end)
        comma = self.payload.find(b",", uri.end, line)
        return Place(uri.end, line if comma < 0 else comma)

    def text(self, place: Place) -> bytes:
        return self.payload[place.at : place.end]


def host_port(payload: bytes, at: int, end: int) -> Place | None:
    """`192.0.2.1:5060` or `[2001:db8::1]:5060`; None if it is no address, or has another port than 1024 to 65535."""
    if payload[at : at + 1] == b"[":
        close = payload.find(b"]", at, end)
        host_end = close + 1
        address = address_of(payload[at + 1 : close]) if close > 0 else b""
    else:
        colon = payload.find(b":", at, end)
        host_end = end if colon < 0 else colon
        address = address_of(payload[at:host_end])
    if not address:
        return None
    if payload[host_end : host_end + 1] != b":" or host_end >= end:
        return Place(at, host_end, address, PORT)
    port, stop = number_at(payload, host_end + 1, HIGHEST_PORT)
    return Place(at, stop, address, port) if port >= LOWEST_PORT else None


def written(address: bytes, port: int) -> bytes:
    """An address and port as in a header."""
    text = address_text(address)
    return (f"{text}:{port}" if len(address) == 4 else f"[{text}]:{port}").encode()


def find_any_case(payload: bytes, wanted: bytes, at: int, end: int) -> int:
    found = payload[at:end].lower().find(wanted.lower())
    return found if found < 0 else at + found


def _first_of(payload: bytes, characters: bytes, at: int, end: int) -> int:
    """The offset of the first of these characters; `end` without one."""
    while at < end and payload[at] not in characters:
        at += 1
    return at


def _line_end(payload: bytes, at: int, end: int) -> int:
    return _first_of(payload, b"\r\n", at, end)


def _next_line(payload: bytes, line_end: int, end: int) -> int:
    """Behind the line end."""
    return min(line_end + (2 if payload[line_end : line_end + 2] == b"\r\n" else 1), end)


def _skip_blanks(payload: bytes, at: int, end: int) -> int:
    while at < end and payload[at] in b" \t":
        at += 1
    return at


def lines(payload: bytes, at: int, end: int) -> list[Place]:
    """The lines of a body, not more than MOST_LINES."""
    found: list[Place] = []
    while at < end and len(found) < MOST_LINES:
        stop = _line_end(payload, at, end)
        found.append(Place(at, stop))
        at = _next_line(payload, stop, end)
    return found
