"""Hands the queues over to a successor that is ready to serve: packets wait for milliseconds.

    this process                              successor: the same command, perhaps of a newer version
    start it, with one end of a socket ─►     imports, configuration, engine, comparison of the steering rules
                                      ◄─────  prepared; its process id; what it needs: mode, packet mark, queues
    last verdicts, journal
    the sockets of queues and maps ───────►   takes them over, reads the journal, handles packets
    end

Until then this process goes on, and an error of the successor changes nothing. Neither does a configuration that needs
other queues: the steering rules are still those of this process. A successor whose socket is closed ends. Once the
sockets are sent, an error of the successor is a crash: systemd has been told of the new main process and starts the
service again.
"""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import MutableMapping, Sequence
from typing import Final, final

from conntrackd_py.control.status import UpgradeError
from conntrackd_py.kernel.queues.nfqueue import NfqueueQueue
from conntrackd_py.kernel.queues.queue import QueueError
from conntrackd_py.kernel.steering.plan import plan
from conntrackd_py.service.fd_store import MAPS, NAME
from conntrackd_py.settings.schema import Settings

VARIABLE: Final = "CONNTRACKD_PY_SUCCEEDS"  # in the successor: its end of the socket
NOT_INHERITED: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID")  # of this process only
# The successor must be a child of the service manager: systemd does not wait for the end of a main process that is the
# child of another one. It would kill it at once when the service is stopped.
LAUNCHER: Final = ("setsid", "--fork")
PREPARED_WITHIN: Final = 30.0  # seconds
MOST: Final = 16  # descriptors
ROOM: Final = 4096


@final
class Handover:
    """This process's side."""

    def __init__(self) -> None:
        self.sock: socket.socket | None = None
        self.pid = 0  # of the successor, once it is prepared
        self.agreed = False  # the successor is ready, and gets the queues
        self.names: list[str] = []
        self.descriptors: list[int] = []

    async def prepare(self, needed: bytes) -> int:
        """Start a successor and wait until it is ready; returns its process id. Raises UpgradeError.

        needed: what the successor must need too.
        """
        if self.sock is not None:
            raise UpgradeError("an upgrade is under way")
        self.sock, theirs = socket.socketpair()
        environ = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
        environ[VARIABLE] = str(theirs.fileno())
        words = [*LAUNCHER, sys.executable, *sys.orig_argv[1:]]
        try:
            with theirs:
                subprocess.run(words, env=environ, pass_fds=[theirs.fileno()], check=True)
            self.sock.setblocking(False)
            said = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.sock, ROOM), PREPARED_WITHIN)
        except (OSError, subprocess.CalledProcessError) as error:  # TimeoutError too
            said, why = b"", str(error) or "it was not ready in time"
        except asyncio.CancelledError:  # the client is gone
            self.abandon()
            raise
        else:
            why = "it ended"
        pid, _, needs = said.partition(b" ")
        if needs != needed:
            self.abandon()
            if said:
                raise UpgradeError("mode, queues or packet mark have changed in the configuration; restart the service")
            raise UpgradeError(f"the new process did not start ({why}); its messages are in the log")
        self.pid = int(pid)
        return self.pid

    def abandon(self) -> None:
        """The successor gets nothing, and ends."""
        if self.sock is not None:
            self.sock.close()
        self.sock, self.pid = None, 0

    def take(self, queues: Sequence[NfqueueQueue], maps: socket.socket | None) -> None:
        """Duplicate the sockets of these queues and of the kernel's maps for the successor; they stay bound."""
        for queue in queues:
            queue.kept = True
            self.names.append(NAME.format(queue.number))
            self.descriptors.append(os.dup(queue.fileno()))
        if maps is not None:
            self.names.append(MAPS)
            self.descriptors.append(os.dup(maps.fileno()))

    def complete(self) -> None:
        """Send the sockets; nothing happens without a successor. The successor handles packets from now on."""
        if self.sock is None:
            return
        with self.sock:
            self.sock.setblocking(True)
            socket.send_fds(self.sock, [":".join(self.names).encode()], self.descriptors)


@final
class Succession:
    """The successor's side."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self.sock = socket.socket(fileno=descriptor)

    def wait(self, needed: bytes) -> list[tuple[str, int]]:
        """Report that this process is prepared, its id and what it needs; returns the names and sockets.

        QueueError if the other process ended or goes on.
        """
        with self.sock:
            try:
                self.sock.send(b"%d %s" % (os.getpid(), needed))
                data, descriptors, _, _ = socket.recv_fds(self.sock, ROOM, MOST)
            except OSError:
                data, descriptors = b"", []
        if not data:
            raise QueueError("the process that was to hand over its queues ended, or goes on")
        return list(zip(data.decode().split(":"), descriptors, strict=True))


def needs(settings: Settings) -> bytes:
    """What the steering rules and the journal depend on."""
    return f"{settings.mode} {settings.steering.mark_mask:#x} {settings.queue.first} {plan(settings).queues}".encode()


def succession(environ: MutableMapping[str, str] = os.environ) -> Succession | None:
    """The succession to which this process was started; None if it was not."""
    descriptor = environ.pop(VARIABLE, "")
    return Succession(int(descriptor)) if descriptor.isdigit() else None
