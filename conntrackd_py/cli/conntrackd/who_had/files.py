"""The files of a NAT log, oldest first, and their lines; a line at a time is in memory."""

import bz2
import contextlib
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from conntrackd_py.cli.conntrackd.who_had.records import HEAD, LONGEST

OPENERS: Final[dict[str, Callable[[Path], Any]]] = {
    ".gz": gzip.open,
    ".xz": lzma.open,
    ".bz2": bz2.open,
}
ERRORS: Final = (OSError, EOFError, zlib.error, lzma.LZMAError)
FIRST_LINES: Final = 16  # in which the time of a file must be found


class Line(NamedTuple):
    """number: from 1. text: empty if it is too long."""

    number: int
    text: bytes


def files_of(path: Path) -> list[Path]:
    """The file and its rotated files, compressed or not: FILE.*, FILE-*. Raises OSError."""
    if not path.parent.is_dir():
        return [path]
    rotated = [
        beside
        for beside in path.parent.iterdir()
        if beside.name.startswith((f"{path.name}.", f"{path.name}-")) and beside.is_file()
    ]
    return rotated + ([path] if path.exists() or not rotated else [])


def in_order(paths: list[Path]) -> list[Path]:
    """By the time of their first line; files without one come last."""
    return sorted(dict.fromkeys(paths), key=_first_time)


def _first_time(path: Path) -> bytes:
    with contextlib.suppress(*ERRORS):  # the search reads the file again, and reports the error
        for line in lines(path):
            if found := HEAD.match(line.text):
                return found[1]
            if line.number >= FIRST_LINES:
                break
    return b"~"


def lines(path: Path) -> Iterator[Line]:
    """Raises one of ERRORS, also after some lines."""
    if not path.is_file():
        path.stat()
        raise OSError("is not a regular file")
    with OPENERS.get(path.suffix, _plain)(path) as file:
        number = 0
        while text := file.readline(LONGEST):
            number += 1
            if not text.endswith(b"\n") and len(text) == LONGEST:
                text = _skip(file)
            yield Line(number, text)


def _plain(path: Path) -> IO[bytes]:
    return path.open("rb")


def _skip(file: IO[bytes]) -> bytes:
    """To the end of a line that is too long."""
    while (more := file.readline(LONGEST)) and not more.endswith(b"\n"):
        pass
    return b""
