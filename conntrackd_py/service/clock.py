"""The engine's time: milliseconds of the system's monotonic clock."""

import time


def clock() -> int:
    return time.monotonic_ns() // 1_000_000
