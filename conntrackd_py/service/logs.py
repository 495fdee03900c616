"""Logs on standard error: JSON for machines, readable lines for a terminal. Never a line per packet.

Under journald lines have no timestamp. One event is one line without control characters: JSON escapes them, and
readable lines are escaped here. Only a traceback has several lines.
"""

import contextlib
import io
import logging
import os
import sys
from collections.abc import MutableMapping
from typing import Any, Final, TextIO, cast

import structlog
from structlog.typing import ExcInfo

from conntrackd_py.control.escape import escaped, escaped_lines

LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(level: str, form: str) -> None:
    """level and form as in the [log] table: debug, info, warning, error; auto, json, console."""
    sys.stderr = cast(TextIO, StandardError())
    terminal = sys.stderr.isatty()
    readable = form == "console" or (form == "auto" and terminal)
    steps: list[Any] = [structlog.processors.add_log_level]
    if "JOURNAL_STREAM" not in os.environ:
        steps.append(structlog.processors.TimeStamper(fmt="%H:%M:%S" if readable else "iso", utc=not readable))
    if readable:
        steps += [escape_values, structlog.dev.ConsoleRenderer(colors=terminal, exception_formatter=write_traceback)]
    else:
        steps += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=steps,
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    # asyncio and pyroute2 use logging; only their warnings and errors are wanted.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(EscapingFormatter("%(name)s: %(message)s"))
    logging.basicConfig(level=max(LEVELS[level], logging.WARNING), handlers=[handler])


def escape_values(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape strings; structlog writes other values by repr, which escapes."""
    return {key: escaped(value) if isinstance(value, str) else value for key, value in event.items()}


def write_traceback(out: TextIO, error: ExcInfo) -> None:
    """Plain, because rich prints local variables, which hold packet contents."""
    plain = io.StringIO()
    structlog.dev.plain_traceback(plain, error)
    out.write(escaped_lines(plain.getvalue()))


class StandardError(io.TextIOBase):
    """Drops output that cannot be written: a full disk or a closed pipe must not stop a router."""

    def __init__(self) -> None:
        if sys.stderr is None:  # closed: keep descriptor 2 from becoming a socket
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

    def write(self, text: str) -> int:
        data = text.encode(errors="backslashreplace")
        with contextlib.suppress(OSError):
            while data:
                data = data[os.write(2, data) :]
        return len(text)

    def isatty(self) -> bool:
        return os.isatty(2)

    def fileno(self) -> int:
        return 2


class EscapingFormatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  the name is logging's
        return escaped(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802  the name is logging's
        return escaped_lines(super().formatException(ei))
