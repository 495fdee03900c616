"""What became of the configuration: whether the last reload was taken over, when, and what outlived its rules."""

from typing import final


class ReloadError(Exception):
    """The new configuration cannot be taken over; the text is for the operator. Nothing has changed."""


@final
class Reloads:
    """The start counts as the first load.

    successful: of the last attempt. error: of the last attempt, empty after a good one.
    count: reloads that were taken over. at: of the last one, or of the start, in seconds since the epoch.
    restart: keys that changed and wait for a restart.
    stale: connections that the rules of the last reload would not make, as counted then.
    """

    def __init__(self, at: float) -> None:
        self.successful = True
        self.count = 0
        self.at = at
        self.error = ""
        self.restart: tuple[str, ...] = ()
        self.stale = 0
