"""The file of a journal: locked, mapped, its header, and how a file from elsewhere is recognised.

    magic, version, record size, side records, seed, mode, boot id | crc         the same again at COPY_AT
    at PULSE_AT: time, wall time, lag, size, clean | crc                         rewritten each turn

A damaged header alone loses nothing: there are two. What is not believed is renamed, never deleted.
SIGBUS: the file must not be truncated while it is mapped. Its room is allocated before it is used, so a full file
system only stops the growth.
"""

import fcntl
import os
import secrets
from mmap import mmap
from pathlib import Path
from struct import Struct, error
from typing import Any, Final, NamedTuple, final
from zlib import crc32

from conntrackd_py.conntrack.journal import HEADER_SIZE, PULSE_AT, RECORD, Journal, Room
from conntrackd_py.conntrack.records.record import VERSION

MAGIC: Final = b"ctpyjrnl"
HEADER: Final = Struct("<8sHHII8s36s")
PULSE: Final = Struct("<qqqqB")
CRC: Final = Struct("<I")
COPY_AT: Final = 1024
SETTLED: Final = (0, COPY_AT)  # where the header stands
STEP: Final = 1024 * RECORD  # bytes by which the file grows
LARGEST: Final = 1 << 32  # bytes
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
ASIDE: Final = ".damaged"
RETRY: Final = 4096  # requests for room that are refused without asking the kernel after it had none

FOREIGN: Final = "it is no journal, or its header is damaged"
NEWER: Final = "it is of version {}, this program reads version {}"
OTHER_MODE: Final = "it was written in mode {}"


class Header(NamedTuple):
    side: int
    seed: int
    mode: str
    boot: str


class Pulse(NamedTuple):
    """at: ms of the engine's clock. wall: ms since 1970. lag: ms that a record may be late. size: bytes of the file.

    clean: a complete stop.
    """

    at: int
    wall: int
    lag: int
    size: int
    clean: bool


class NotBelievedError(Exception):
    """The file is not a journal that this process can read; the text says why."""


@final
class JournalFile(Room):
    """An open, locked and mapped journal. OSError if it cannot be opened; BlockingIOError if another daemon has it."""

    def __init__(self, path: Path, flags: int = 0) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600)
        self.refusals = 0
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if flags:
                os.posix_fallocate(self.fd, 0, HEADER_SIZE)
            self.buffer = mmap(self.fd, 0)
        except (OSError, ValueError) as problem:
            os.close(self.fd)
            raise problem if isinstance(problem, OSError) else NotBelievedError(FOREIGN) from problem

    def reserve(self, size: int) -> bool:
        """Grow the file in steps. Without room in the file system it asks again only now and then."""
        if self.refusals:
            self.refusals -= 1
            return False
        have = len(self.buffer)
        wanted = -(-(size - HEADER_SIZE) // STEP) * STEP + HEADER_SIZE
        if wanted <= have:
            return True
        try:
            os.posix_fallocate(self.fd, have, wanted - have)
            self.buffer.resize(wanted)
        except OSError:
            os.ftruncate(self.fd, have)
            self.refusals = RETRY
            return False
        return True

    def write_header(self, header: Header) -> None:
        fields = HEADER.pack(
            MAGIC, VERSION, RECORD, header.side, header.seed, header.mode.encode(), header.boot.encode()
        )
        for at in SETTLED:
            self._put(at, fields)

    def header(self) -> Header:
        """Raises NotBelievedError."""
        for at in SETTLED:
            fields = self._get(at, HEADER)
            if fields and fields[0] == MAGIC:
                if fields[1:3] != (VERSION, RECORD):
                    raise NotBelievedError(NEWER.format(fields[1], VERSION))
                return Header(fields[3], fields[4], _text(fields[5]), _text(fields[6]))
        raise NotBelievedError(FOREIGN)

    def write_pulse(self, pulse: Pulse) -> None:
        self._put(PULSE_AT, PULSE.pack(*pulse))

    def pulse(self) -> Pulse | None:
        """None if it is damaged."""
        fields = self._get(PULSE_AT, PULSE)
        return Pulse(fields[0], fields[1], fields[2], fields[3], bool(fields[4])) if fields else None

    def _put(self, at: int, data: bytes) -> None:
        framed = data + CRC.pack(crc32(data))
        self.buffer[at : at + len(framed)] = framed

    def _get(self, at: int, layout: Struct) -> tuple[Any, ...]:
        """The fields of a frame; empty if its CRC is wrong."""
        data = self.buffer[at : at + layout.size + CRC.size]
        try:
            right = CRC.unpack_from(data, layout.size)[0] == crc32(data[: layout.size])
        except error:
            return ()
        return layout.unpack(data[: layout.size]) if right else ()

    def close(self) -> None:
        self.buffer.close()
        os.close(self.fd)


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode(errors="replace")


def boot_id() -> str:
    return BOOT_ID.read_text().strip()


def fresh(path: Path, side: int, mode: str) -> tuple[JournalFile, Journal]:
    """A new, empty journal in place of what is there. OSError if it cannot be made."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    file = JournalFile(temporary, os.O_CREAT | os.O_EXCL)
    try:
        if not file.reserve(HEADER_SIZE + side * RECORD):
            raise OSError(28, "no room", str(temporary))
        header = Header(side, secrets.randbits(32), mode, boot_id())
        file.write_header(header)
        return file, journal_of(file, header)
    except OSError:
        file.close()
        temporary.unlink(missing_ok=True)
        raise


def put_in_place(file: JournalFile, path: Path) -> None:
    """Rename a fresh journal to its path."""
    file.path.rename(path)
    file.path = path


def journal_of(file: JournalFile, header: Header) -> Journal:
    return Journal(file.buffer, file, seed=header.seed, side=header.side, most=LARGEST // RECORD)


def set_aside(path: Path) -> Path:
    """Rename a file that is not believed, or not wholly."""
    aside = path.with_name(path.name + ASIDE)
    path.rename(aside)
    return aside
