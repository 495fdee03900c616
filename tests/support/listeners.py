"""How many programs have subscribed to connection events, of the kernel's table and of the daemon's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from conntrackd_py.control.client import Client
from conntrackd_py.control.protocol.requests import DaemonStatus
from tests.support.waiting import wait_until

NETLINK_NETFILTER: Final = "12"


def of_kernel(run: Callable[..., str]) -> int:
    """run: runs a command in the namespace and returns what it prints."""
    rows = [line.split() for line in run("cat", "/proc/net/netlink").splitlines()[1:]]
    return sum(protocol == NETLINK_NETFILTER and int(groups, 16) != 0 for _, protocol, _, groups, *_ in rows)


def of_daemon(socket: Path) -> int:
    with Client(str(socket)) as client:
        return int(next(client.ask(DaemonStatus()))["status"]["subscribers"])


def wait_for_kernel(run: Callable[..., str], count: int = 1) -> None:
    wait_until(lambda: of_kernel(run) >= count, "nothing listens to the kernel")


def wait_for_daemon(socket: Path, count: int = 1) -> None:
    wait_until(lambda: of_daemon(socket) >= count, "nothing listens to the daemon")
