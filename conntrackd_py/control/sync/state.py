"""What the daemon knows of its hot standby, and the requests about it. service/sync fills it."""

from collections.abc import Awaitable, Callable
from typing import Final, final

from conntrackd_py.control.protocol.answers import encode
from conntrackd_py.control.protocol.requests import RequestError, Sync

OFF: Final = "off"
ACTIVE: Final = "active"
STANDBY: Final = "standby"


@final
class SyncState:
    """role: OFF without [sync]. error: of the connection to the server, or why nothing can be published.

    epoch: own, or of the active router that is followed; 0: none. synced: a standby has every connection.
    lag: ms from a change on the active router to here. pending: changes to publish, or frames to apply.
    gaps: times that frames were missing. lost: changes that did not fit the buffer. snapshots: complete ones.
    older, foreign: frames of an earlier epoch, and of another version or mode. refused: records, by reason.
    heard: ms, of the last frame; -1: none.
    """

    def __init__(self) -> None:
        self.role = OFF
        self.connected = False
        self.error = ""
        self.epoch = 0
        self.synced = False
        self.lag = 0
        self.pending = 0
        self.heard = -1
        self.frames = 0  # published or applied
        self.records = 0
        self.gaps = 0
        self.lost = 0
        self.snapshots = 0
        self.older = 0
        self.foreign = 0
        self.stepped_down = 0
        self.takeovers = 0
        self.refused: dict[str, int] = {}
        self.clock: Callable[[], int] | None = None
        self.take_over: Callable[[bool], Awaitable[None]] | None = None  # raises RefusedError
        self.stand_by: Callable[[], None] | None = None

    @property
    def age(self) -> float:
        """Seconds since the last frame; -1: none yet."""
        return -1.0 if self.heard < 0 or self.clock is None else max(self.clock() - self.heard, 0) / 1000

    def report(self) -> dict[str, object]:
        """For the answers to `status` and `sync`."""
        if self.role == OFF:
            return {"role": OFF}
        return {
            "role": self.role,
            "connected": self.connected,
            "error": self.error,
            "epoch": self.epoch,
            "synced": self.synced,
            "lag": self.lag / 1000,
            "age": self.age,
            "pending": self.pending,
            "frames": self.frames,
            "records": self.records,
            "gaps": self.gaps,
            "lost": self.lost,
            "snapshots": self.snapshots,
            "older": self.older,
            "foreign": self.foreign,
            "stepped_down": self.stepped_down,
            "takeovers": self.takeovers,
            "refused": {reason: count for reason, count in self.refused.items() if count},
        }


async def command(request: Sync, state: SyncState) -> bytes:
    """The answer to a `sync`. Raises RequestError and RefusedError."""
    if state.take_over is None or state.stand_by is None:
        raise RequestError("this daemon has no [sync] in its configuration")
    if request.step == "takeover":
        await state.take_over(request.stale)
    elif request.step == "standby":
        state.stand_by()
    return encode({"sync": state.report()})
