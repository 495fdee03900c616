"""Logs on standard error: JSON for machines, readable lines for a terminal. Never a line per packet.

Under journald the lines carry no time of their own, it has a better one. Whatever a value holds, one event is one line
and cannot command the terminal: JSON escapes by itself, readable lines are escaped here. A traceback has its lines.
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
    # asyncio and pyroute2 speak through logging; only what is wrong is worth a line.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(EscapingFormatter("%(name)s: %(message)s"))
    logging.basicConfig(level=max(LEVELS[level], logging.WARNING), handlers=[handler])


def escape_values(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """structlog writes a str as it is and everything else by its repr, which escapes."""
    return {key: escaped(value) if isinstance(value, str) else value for key, value in event.items()}


def write_traceback(out: TextIO, error: ExcInfo) -> None:
    """Not rich's: that prints local variables, and those hold what people send each other."""
    plain = io.StringIO()
    structlog.dev.plain_traceback(plain, error)
    out.write(escaped_lines(plain.getvalue()))


class StandardError(io.TextIOBase):
    """What cannot be written is dropped: a full disk or a closed pipe is no reason to stop a router."""

    def __init__(self) -> None:
        if sys.stderr is None:  # it was closed, and descriptor 2 would become some socket's
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
