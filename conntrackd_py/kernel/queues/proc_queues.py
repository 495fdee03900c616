"""The packet queues in /proc/net/netfilter/nfnetlink_queue."""

from pathlib import Path
from typing import Final, NamedTuple

QUEUES: Final = Path("/proc/net/netfilter/nfnetlink_queue")
QUEUE_FIELDS: Final = 8  # number, portid, waiting, copy mode, copy range, dropped, user dropped, id


class QueueRow(NamedTuple):
    """dropped: packets, the queue was full. user_dropped: packets, the program's socket was full."""

    number: int
    portid: int
    waiting: int
    dropped: int
    user_dropped: int


def queue_rows(path: Path) -> list[QueueRow]:
    """Every packet queue; none if the file is missing or not readable."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except (FileNotFoundError, PermissionError):
        return []
    return [QueueRow(*(int(fields[at]) for at in (0, 1, 2, 5, 6))) for fields in lines if len(fields) >= QUEUE_FIELDS]
