"""The kernel's packet queues, as /proc tells of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

QUEUES: Final = Path("/proc/net/netfilter/nfnetlink_queue")
QUEUE_FIELDS: Final = 8  # number, portid, waiting, copy mode, copy range, dropped, user dropped, id


def queue_lines(path: Path) -> list[list[str]]:
    """The fields of each packet queue; none where the kernel has no such file."""
    try:
        text = path.read_text()
    except (FileNotFoundError, PermissionError):
        return []
    return [fields for line in text.splitlines() if len(fields := line.split()) >= QUEUE_FIELDS]


def queue_rows(path: Path, numbers: Sequence[int]) -> list[dict[str, int]]:
    """Of these queues: queue, waiting, dropped (the queue was full), user_dropped (our socket was full)."""
    return [
        {
            "queue": int(fields[0]),
            "waiting": int(fields[2]),
            "dropped": int(fields[5]),
            "user_dropped": int(fields[6]),
        }
        for fields in queue_lines(path)
        if int(fields[0]) in numbers
    ]
