"""A service manager in the test: it stores the descriptors that a daemon sends, and passes them to the next one.

As systemd 252 does it: a descriptor that is the same as a stored one is not stored twice, FDSTOREREMOVE closes all of a
name, and the descriptors begin at 3. tests/systemd has the real one.
"""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path
from typing import Final

from conntrackd_py.lab.router import DAEMON, READY, Router
from tests.support.waiting import wait_until

MOST: Final = 16
HIGH: Final = 100  # above what START moves
# Puts the descriptors named in $STORED at 3 and up; the shell's process becomes the daemon.
START: Final = 'LISTEN_PID=$$; export LISTEN_PID; eval "exec $STORED"; exec "$@"'


class Manager:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify.sock"
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(str(self.path))
        self.sock.settimeout(0.2)
        self.stored: list[tuple[str, int]] = []
        self.said: list[str] = []

    def close(self) -> None:
        self.forget()
        self.sock.close()

    def forget(self) -> None:
        """As at a stop."""
        for _, descriptor in self.stored:
            os.close(descriptor)
        self.stored = []

    def read(self) -> None:
        """What the daemon has sent so far."""
        while True:
            try:
                data, descriptors, _, _ = socket.recv_fds(self.sock, 4096, MOST)
            except TimeoutError:
                return
            text = data.decode()
            self.said.append(text)
            fields = dict(line.split("=", 1) for line in text.splitlines())
            name = fields.get("FDNAME", "stored")
            if "FDSTOREREMOVE" in fields:
                for one in [one for one in self.stored if one[0] == name]:
                    os.close(one[1])
                    self.stored.remove(one)
            for descriptor in descriptors:
                self.store(name, descriptor)

    def store(self, name: str, descriptor: int) -> None:
        inodes = {os.fstat(stored).st_ino for _, stored in self.stored}
        if os.fstat(descriptor).st_ino in inodes:
            os.close(descriptor)
        else:
            self.stored.append((name, fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, HIGH)))
            os.close(descriptor)

    def start(self, router: Router) -> str:
        """Start the router's daemon with what is stored; returns what it logged until it was ready."""
        moves = [f"{3 + at}<&{descriptor} {descriptor}<&-" for at, (_, descriptor) in enumerate(self.stored)]
        variables = {
            "NOTIFY_SOCKET": str(self.path),
            "LISTEN_FDS": str(len(self.stored)),
            "LISTEN_FDNAMES": ":".join(name for name, _ in self.stored),
            "STORED": " ".join(moves),
        }
        before = len(router.said())
        with router.log.open("a") as log:
            words = ("bash", "-c", START, "bash", *DAEMON, "run", "-c", str(router.config))
            inherited = [descriptor for _, descriptor in self.stored]
            router.process = router.net.router.start(*words, stderr=log, stdout=log, env=variables, pass_fds=inherited)
        wait_until(lambda: READY in router.said()[before:] or not router.running, lambda: router.said()[before:], 30)
        self.read()
        return router.said()[before:]
