"""sd_notify(3): reports the daemon's state to systemd; without NOTIFY_SOCKET it does nothing.

No dependency: the packages for it hide errors.
"""

import os
import socket
from collections.abc import Mapping, Sequence
from typing import Final, final

import structlog

log = structlog.get_logger()

PATIENCE: Final = 1.0  # seconds


@final
class Notify:
    """watchdog: seconds within which systemd expects WATCHDOG=1; 0: never."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        self.path = "\0" + path[1:] if path.startswith("@") else path
        for_this_process = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.failed = False
        self.watchdog = int(environ.get("WATCHDOG_USEC", "0")) / 1_000_000 if for_this_process else 0.0

    def send(self, *assignments: str, descriptors: Sequence[int] = ()) -> bool:
        """Send assignments such as "READY=1" in one datagram; whether systemd has it.

        With descriptors it may wait, for at most PATIENCE.
        """
        if not self.path:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.settimeout(PATIENCE if descriptors else 0)  # never wait for systemd while packets are handled
                sock.connect(self.path)
                socket.send_fds(sock, ["\n".join(assignments).encode()], descriptors)
            self.failed = False
        except OSError as error:
            if not self.failed:  # log the first of a row of failures
                log.warning("notify_failed", error=str(error))
            self.failed = True
        return not self.failed
