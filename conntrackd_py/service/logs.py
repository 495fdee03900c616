"""Logs on standard error: JSON for machines, readable lines for a terminal. Never a line per packet.

Under journald the lines carry no time of their own, it has a better one.
"""

import logging
import os
import sys
from typing import Any, Final

import structlog

LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(level: str, form: str) -> None:
    """level and form as in the [log] table: debug, info, warning, error; auto, json, console."""
    terminal = sys.stderr.isatty()
    readable = form == "console" or (form == "auto" and terminal)
    steps: list[Any] = [structlog.processors.add_log_level]
    if "JOURNAL_STREAM" not in os.environ:
        steps.append(structlog.processors.TimeStamper(fmt="%H:%M:%S" if readable else "iso", utc=not readable))
    if readable:
        # Not rich's tracebacks: they print local variables, and those hold what people send each other.
        plain = structlog.dev.plain_traceback
        steps.append(structlog.dev.ConsoleRenderer(colors=terminal, exception_formatter=plain))
    else:
        steps += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=steps,
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    # asyncio and pyroute2 speak through logging; only what is wrong is worth a line.
    logging.basicConfig(level=max(LEVELS[level], logging.WARNING), stream=sys.stderr, format="%(name)s: %(message)s")
