"""sd_notify(3): tells systemd how the daemon is doing. Without NOTIFY_SOCKET, nothing happens.

Our own dozen lines rather than a dependency: the packages for it hide errors, and this is the whole protocol.
"""

import os
import socket
from collections.abc import Mapping
from typing import final

import structlog

log = structlog.get_logger()


@final
class Notify:
    """`watchdog` is the interval in seconds in which systemd wants to hear WATCHDOG=1, or 0."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        self.path = "\0" + path[1:] if path.startswith("@") else path
        ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.failed = False
        self.watchdog = int(environ.get("WATCHDOG_USEC", "0")) / 1_000_000 if ours else 0.0

    def send(self, *assignments: str) -> None:
        """Such as "READY=1", all in one datagram."""
        if not self.path:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)  # a systemd that does not read must not stop the packets
                sock.sendto("\n".join(assignments).encode(), self.path)
            self.failed = False
        except OSError as error:
            if not self.failed:  # once, not at every status
                log.warning("notify_failed", error=str(error))
            self.failed = True
