"""FTP: PORT and EPRT of the client, 227 and 229 of the server (RFC 959, RFC 2428).

A command counts only at the beginning of a segment that begins a line: two line ends of each direction are remembered.
The address must be the sender's own; with nf_conntrack_ftp_loose another one is expected too, untranslated. A command
that is cut off is dropped: the client repeats it, with the rest. After a restart the first segment of each direction
counts as one that begins a line (NF_CT_FTP_SEQ_PICKUP).
Source: nf_conntrack_ftp.c, nf_nat_ftp.c.
"""

from typing import Final, cast, final

from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import IPPROTO_TCP, ORIGINAL
from conntrackd_py.helpers.helper import PARTIAL, PASS, REFUSED, ControlPacket, Helper, State
from conntrackd_py.helpers.text import address_of, full, number_at

REMEMBERED: Final = 2  # line ends of each direction
NOT_FOUND: Final = -1
M32: Final = 0xFFFFFFFF

PORT: Final = 0
EPRT: Final = 1
PASV: Final = 2
EPSV: Final = 3


@final
class Lines(State):
    """By direction: sequence numbers behind line ends. unknown: they are; the next segment begins a line."""

    def __init__(self, *, unknown: bool = False) -> None:
        self.ends: tuple[list[int], list[int]] = ([], [])
        self.unknown = [unknown, unknown]

    def begins(self, direction: int, seq: int) -> bool:
        if self.unknown[direction]:
            self.unknown[direction] = False
            self.ended(direction, seq)
        return seq in self.ends[direction]

    def ended(self, direction: int, seq: int) -> None:
        """A line ends before seq. The earliest is forgotten."""
        ends = self.ends[direction]
        if seq in ends:
            return
        if len(ends) < REMEMBERED:
            ends.append(seq)
            return
        oldest = 0 if (ends[0] - ends[1]) & 0x80000000 else 1
        if 0 < (seq - ends[oldest]) & M32 < 0x80000000:
            ends[oldest] = seq


@final
class Command:
    """at, length: of the part of the payload that names address and port. address: empty for the sender's own."""

    def __init__(self, kind: int, at: int, length: int, address: bytes, port: int) -> None:
        self.kind = kind
        self.at = at
        self.length = length
        self.address = address
        self.port = port


@final
class Ftp(Helper):
    name = "ftp"
    protonum = IPPROTO_TCP

    def tune(self, tunables: Tunables) -> None:
        self.loose = tunables.nf_conntrack_ftp_loose

    def state(self) -> State | None:
        return Lines()

    def resumed(self) -> State | None:
        return Lines(unknown=True)

    def help(self, packet: ControlPacket) -> int:
        lines = cast(Lines, packet.state)
        outcome = PASS
        if lines.begins(packet.direction, packet.seq):
            outcome = self._line(packet)
        if outcome == PASS and packet.payload.endswith(b"\n"):
            lines.ended(packet.direction, (packet.seq + len(packet.payload)) & M32)
        return outcome

    def _line(self, packet: ControlPacket) -> int:
        command = _command(packet.payload, packet.direction, len(packet.sender))
        if command is None:
            return PARTIAL
        if command.length == 0:
            return PASS
        address = command.address or packet.sender
        if address != packet.sender and not self.loose:
            return PASS  # the bounce attack: never a connection to a third host
        announced = packet.expect(address, command.port)
        if announced is None:
            return REFUSED
        if packet.translated and address == packet.sender:
            packet.replace(command.at, command.length, _written(command.kind, announced.address, announced.port))
        return PASS


NOTHING: Final = Command(PORT, 0, 0, b"", 0)


def _command(payload: bytes, direction: int, size: int) -> Command | None:
    """The command with which the payload begins, NOTHING for another one; None if it is cut off or cannot be read.

    size: of an address.
    """
    if direction == ORIGINAL:
        kinds = ((PORT, b"PORT", b" "), (EPRT, b"EPRT", b" "))
    else:
        kinds = ((PASV, b"227 ", b""), (EPSV, b"229 ", b"("))
    for kind, pattern, skipped in kinds:
        head = payload[: len(pattern)].upper()
        if head != pattern[: len(head)]:
            continue
        if len(payload) <= len(pattern):
            return None
        at = len(pattern)
        if skipped:
            at = payload.find(skipped, at) + 1
            if not at:
                return None
        return _parsed(kind, payload, at, size)
    return NOTHING


def _parsed(kind: int, payload: bytes, at: int, size: int) -> Command | None:
    if kind == EPSV:
        return _extended(EPSV, payload, at, b"")
    if kind == EPRT:
        return _with_family(payload, at, size)
    end = len(payload)
    if kind == PASV:
        while at < end and not 48 <= payload[at] <= 57:
            at += 1
    return _numbers(kind, payload, at, size)


def _numbers(kind: int, payload: bytes, at: int, size: int) -> Command | None:
    """`192,0,2,1,4,1`. A PORT must end with the line."""
    values = []
    place = at
    for n in range(6):
        value, place = number_at(payload, place, 255)
        if value < 0 or place >= len(payload):
            return None
        values.append(value)
        if n < 5:
            if payload[place] != 44:  # a comma
                return None
            place += 1
    if kind == PORT and payload[place] != 13:
        return None
    port = values[4] << 8 | values[5]
    if size != 4 or not port:
        return NOTHING
    return Command(kind, at, place - at, bytes(values[:4]), port)


def _with_family(payload: bytes, at: int, size: int) -> Command | None:
    """`|1|192.0.2.1|1025|`"""
    if len(payload) - at < 4 or not _delimits(payload[at]) or payload[at + 2] != payload[at]:
        return None
    if payload[at + 1] != (49 if size == 4 else 50):
        return NOTHING  # the other family
    delimiter = payload[at : at + 1]
    end = payload.find(delimiter, at + 3)
    if end < 0:
        return None
    address = address_of(payload[at + 3 : end])
    if len(address) != size:
        return None
    return _port(EPRT, payload, at, end, address)


def _extended(kind: int, payload: bytes, at: int, address: bytes) -> Command | None:
    """`|||1025|`"""
    if len(payload) - at <= 3 or not _delimits(payload[at]) or payload[at : at + 3] != payload[at : at + 1] * 3:
        return None
    return _port(kind, payload, at, at + 2, address)


def _port(kind: int, payload: bytes, at: int, delimiter_at: int, address: bytes) -> Command | None:
    """The number between two delimiters."""
    port, place = number_at(payload, delimiter_at + 1, 65535)
    if port <= 0 or place >= len(payload) or payload[place] != payload[delimiter_at]:
        return None
    return Command(kind, at, place + 1 - at, address, port)


def _delimits(character: int) -> bool:
    """RFC 2428: a printable character, here none of a number."""
    return 33 <= character <= 126 and not 48 <= character <= 57


def _written(kind: int, address: bytes, port: int) -> bytes:
    if kind in (PORT, PASV):
        return ",".join([str(n) for n in (*address, port >> 8, port & 0xFF)]).encode()
    if kind == EPSV:
        return f"|||{port}|".encode()
    return f"|{1 if len(address) == 4 else 2}|{full(address)}|{port}|".encode()
