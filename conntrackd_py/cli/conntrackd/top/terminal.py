"""The terminal in single-key mode without echo; its former state is restored at the end.

SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt. SIGWINCH ends a wait, so that the view is redrawn.
"""

import os
import select
import signal
import sys
import termios
import tty
from types import FrameType, TracebackType
from typing import Any, Final, Self

ENDINGS: Final = (signal.SIGTERM, signal.SIGHUP)
KEYS_READ: Final = 64  # bytes at a time


class Terminal:
    """A context manager. If standard input is no terminal, there are no keys."""

    def __init__(self) -> None:
        self.keys = sys.stdin is not None and sys.stdin.isatty()
        self._saved: list[Any] = []
        self._handlers: dict[int, Any] = {}
        self._pipe = (-1, -1)
        self._wakeup = -1

    def __enter__(self) -> Self:
        self._pipe = os.pipe()
        for end in self._pipe:
            os.set_blocking(end, False)
        self._wakeup = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        self._handlers[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, _nothing)
        for number in ENDINGS:
            self._handlers[number] = signal.signal(number, _interrupt)
        if self.keys:
            self._saved = termios.tcgetattr(sys.stdin)
            tty.setcbreak(sys.stdin, termios.TCSADRAIN)
            self._no_suspension()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._saved:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._saved)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        for end in self._pipe:
            os.close(end)

    def wait(self, seconds: float) -> str:
        """The next keys pressed; empty after this time or when the size has changed."""
        files = [self._pipe[0], *([sys.stdin.fileno()] if self.keys else [])]
        ready = select.select(files, [], [], max(seconds, 0))[0]
        if self._pipe[0] in ready:
            os.read(self._pipe[0], KEYS_READ)
        if not self.keys or sys.stdin.fileno() not in ready:
            return ""
        pressed = os.read(sys.stdin.fileno(), KEYS_READ)
        if not pressed:  # end of file: the terminal was closed
            raise KeyboardInterrupt
        return pressed.decode(errors="replace")

    def _no_suspension(self) -> None:
        """Turn Ctrl-Z off: it would leave the shell on the alternate screen."""
        attributes = termios.tcgetattr(sys.stdin)
        attributes[6][termios.VSUSP] = b"\0"
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, attributes)


def _nothing(_number: int, _frame: FrameType | None) -> None:
    return


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
