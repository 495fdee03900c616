"""How the last reload of the configuration went, for the metrics."""

from typing import final


@final
class Reloads:
    """successful: whether the last reload was. The start counts as one.

    at: when the last successful one was, in seconds since the epoch.
    stale: living connections that the rules would treat otherwise if they began now.
    """

    def __init__(self, at: float) -> None:
        self.successful = True
        self.at = at
        self.stale = 0
