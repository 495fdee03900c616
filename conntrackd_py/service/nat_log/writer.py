"""The thread that writes the NAT log. It never touches the engine, and no packet waits for it.

- It renders the lines of A_TURN events, then writes them: the interpreter is free for packets between two turns.
- `give` takes pieces of at most `limit` lines together. The keeper counts what does not fit.
- A file that cannot be opened or written is tried again every RETRY seconds; the lines wait. A line is written whole
  or again: after a half line in a file that was renamed meanwhile, the new file gets it whole.
- Before each write the file of the path is compared with the open one. A renamed file is closed, and a new one opened.
  While the path names nothing, logrotate may be about to create it: for GRACE seconds the lines go to the former file.
"""

import errno
import os
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, final

from conntrackd_py.explain.nat_log import Connections, Texts

A_TURN: Final = 64  # lines
COLLECT: Final = 0.02  # seconds until lines are written, so that more come
IDLE: Final = 1.0  # seconds between two comparisons of the file without lines
RETRY: Final = 1.0  # seconds
GRACE: Final = 1.0  # seconds
MODE: Final = 0o640
FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY

Piece = bytes | Connections  # bytes: one line


def lines_in(piece: Piece) -> int:
    return 1 if isinstance(piece, bytes) else len(piece.events)


@final
class Writer(threading.Thread):
    """head(now): the first line of a file, now in ms since 1970; called in this thread."""

    def __init__(self, path: str, limit: int, head: Callable[[int], bytes]) -> None:
        super().__init__(name="nat-log", daemon=True)
        self.path = path
        self.limit = limit
        self.head = head
        self.written = 0  # lines
        self.errors = 0  # failures to open or write the file
        self.error = ""  # the present one
        self.reopen = False
        self.given = 0  # lines, by the loop
        self.texts = Texts()
        self._pieces: deque[Piece] = deque()
        self._at = 0  # lines of the first piece that were taken
        self._rest = b""  # rendered, not yet written; begins with a line
        self._rest_done = 0  # bytes of it that are in the file
        self._rest_lines = 0
        self._file = -1
        self._missing_since = 0.0
        self._wake = threading.Event()
        self._ended = threading.Event()

    # --- for the loop ------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Lines that are not in the file yet."""
        return self.given - self.written

    def room(self) -> int:
        return max(self.limit - self.waiting, 0)

    def give(self, piece: Piece) -> None:
        """The caller looks at `room` before."""
        self.given += lines_in(piece)
        self._pieces.append(piece)
        if not self._wake.is_set():
            self._wake.set()

    def end(self) -> None:
        """Write what waits, then end."""
        self._ended.set()
        self._wake.set()

    def finish(self, seconds: float) -> int:
        """The same, at most so long; returns the lines that were not written."""
        self.end()
        self.join(seconds)
        return self.waiting

    # --- the thread --------------------------------------------------------------------------------------

    def run(self) -> None:
        while True:
            self._wake.wait(IDLE)
            self._wake.clear()
            self._ended.wait(COLLECT)
            last = self._ended.is_set()
            try:
                self._turn()
                self.error = ""
            except OSError as error:
                self.errors += 1
                self.error = error.strerror or str(error)
                self._ended.wait(RETRY)
                self._wake.set()
            if last:
                break
        self._close()

    def _turn(self) -> None:
        """Write all that waits. Raises OSError."""
        self._follow()
        while self._rest or self._take():
            self._follow()
            self._write()

    def _take(self) -> bool:
        """Render the next lines; False if there are none."""
        lines = bytearray()
        count = 0
        while self._pieces and count < A_TURN:
            piece = self._pieces[0]
            end = min(self._at + A_TURN - count, lines_in(piece))
            lines += piece if isinstance(piece, bytes) else piece.lines(self._at, end, self.texts)
            count += end - self._at
            self._at = end
            if end >= lines_in(piece):
                self._pieces.popleft()
                self._at = 0
        self._rest, self._rest_done, self._rest_lines = bytes(lines), 0, count
        return count > 0

    def _write(self) -> None:
        while self._rest_done < len(self._rest):
            try:
                self._rest_done += os.write(self._file, self._rest[self._rest_done :])
            except BlockingIOError:  # a pipe whose reader is slow
                if self._ended.wait(COLLECT):
                    raise
        self.written += self._rest_lines
        self._rest = b""

    # --- the file ----------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Open the file if it is not open, or if the path now names another one. Raises OSError."""
        if self._file >= 0 and not self.reopen and self._is_current():
            return
        self._close()
        self.reopen = False
        self._open()

    def _is_current(self) -> bool:
        now, opened = time.monotonic(), os.fstat(self._file)
        try:
            named = Path(self.path).stat()
        except FileNotFoundError:
            self._missing_since = self._missing_since or now
            return now - self._missing_since < GRACE
        self._missing_since = 0.0
        return (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino) and not self._truncated(opened)

    def _truncated(self, opened: os.stat_result) -> bool:
        return stat.S_ISREG(opened.st_mode) and not opened.st_size

    def _open(self) -> None:
        file = os.open(self.path, FLAGS, MODE)
        try:
            seen = os.fstat(file)
            if stat.S_ISDIR(seen.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            begin = self.head(time.time_ns() // 1_000_000) if not seen.st_size else self._line_break(seen)
            # The rest of a half line belongs to the former file.
            self._rest_done = self._rest.rfind(b"\n", 0, self._rest_done) + 1
            if begin and os.write(file, begin) < len(begin):
                if not seen.st_size:
                    os.ftruncate(file, 0)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            os.close(file)
            raise
        self._file, self._missing_since = file, 0.0

    def _line_break(self, seen: os.stat_result) -> bytes:
        """What ends a half line, which a process that was killed may have left."""
        if not stat.S_ISREG(seen.st_mode):
            return b""
        try:
            with Path(self.path).open("rb") as file:
                file.seek(-1, os.SEEK_END)
                return b"" if file.read(1) == b"\n" else b"\n"
        except OSError:
            return b"\n"

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
