"""sd_notify(3): reports the daemon's state to systemd; without NOTIFY_SOCKET it does nothing.

No dependency: the packages for it hide errors.
"""

import os
import socket
from collections.abc import Mapping
from typing import final

import structlog

log = structlog.get_logger()


@final
class Notify:
    """watchdog: seconds within which systemd expects WATCHDOG=1; 0: never."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        self.path = "\0" + path[1:] if path.startswith("@") else path
        for_this_process = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.failed = False
        self.watchdog = int(environ.get("WATCHDOG_USEC", "0")) / 1_000_000 if for_this_process else 0.0

    def send(self, *assignments: str) -> None:
        """Send assignments such as "READY=1" in one datagram."""
        if not self.path:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)  # never wait for systemd
                sock.sendto("\n".join(assignments).encode(), self.path)
            self.failed = False
        except OSError as error:
            if not self.failed:  # log the first of a row of failures
                log.warning("notify_failed", error=str(error))
            self.failed = True
