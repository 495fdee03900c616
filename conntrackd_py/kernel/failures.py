"""Logs exceptions of the daemon's own code, once for each place in the code. The caller counts them."""

import traceback
from typing import Final, final

import structlog

log = structlog.get_logger()

PLACES_LOGGED: Final = 100


@final
class FailureLog:
    """event: of the log lines."""

    def __init__(self, event: str) -> None:
        self.event = event
        self.logged: set[str] = set()

    def note(self, error: Exception, **fields: object) -> None:
        """Log the exception with its traceback, unless an exception of the same line of code was logged before."""
        place = place_of(error)
        if place not in self.logged and len(self.logged) < PLACES_LOGGED:
            self.logged.add(place)
            log.error(self.event, place=place, **fields, exc_info=error)


def place_of(error: Exception) -> str:
    """`file:line` that raised it; its type without a traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else type(error).__name__
