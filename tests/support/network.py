"""A network namespace for the test process itself: what it starts inside lives in there too."""

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def private_network() -> Iterator[None]:
    """An empty network with its loopback up. It is gone when the last socket in it is closed."""
    with open("/proc/thread-self/ns/net") as outside:  # noqa: PTH123  the descriptor itself is what is needed
        _check(LIBC.unshare(CLONE_NEWNET))
        try:
            run("ip link set lo up")
            yield
        finally:
            _check(LIBC.setns(outside.fileno(), CLONE_NEWNET))


def run(command: str) -> str:
    """What it prints; fails when it fails."""
    return subprocess.run(command.split(), check=True, capture_output=True, text=True, timeout=30).stdout


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
