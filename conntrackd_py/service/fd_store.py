"""systemd's file descriptor store: the sockets of the packet queues outlive the process, and packets wait in them.
So does the socket of the kernel's maps: the kernel goes on forwarding offloaded connections.

The service manager keeps a duplicate of each socket while the unit is restarted, also after a crash or SIGKILL, and
passes them to the next process (sd_listen_fds(3)). It closes them when the unit stops or has failed for good. It must
not watch them (FDPOLL=0): a socket with a lost message counts as broken, and the manager would close it.

Only these sockets are stored and taken over, under the names queue-0, queue-1 and so on, and maps. All others are
closed and named in the log.
"""

import contextlib
import os
import socket
from collections.abc import Collection, Iterable, MutableMapping
from typing import Final, final

import structlog

from conntrackd_py.kernel import netlink
from conntrackd_py.kernel.queues.nfqueue import NfqueueQueue
from conntrackd_py.kernel.queues.takeover import is_packet_queue
from conntrackd_py.service.notify import Notify

log = structlog.get_logger()

FIRST: Final = 3  # SD_LISTEN_FDS_START
NAME: Final = "queue-{}"
MAPS: Final = "maps"
HIGHEST: Final = 0xFFFF  # number of a packet queue


def inherited(environ: MutableMapping[str, str]) -> list[tuple[str, int]]:
    """The name and the number of each descriptor that systemd passed to this process. The variables are removed."""
    values = [environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")]
    if values[0] != str(os.getpid()) or not values[1].isdigit():
        return []
    names = values[2].split(":") + [""] * int(values[1])
    return [(names[at], FIRST + at) for at in range(int(values[1]))]


@final
class FdStore:
    """The sockets that a former process stored. Without systemd it is empty and keeps nothing."""

    def __init__(self, notify: Notify, environ: MutableMapping[str, str] = os.environ) -> None:
        self.notify = notify
        self.sockets: list[tuple[str, socket.socket]] = []  # not taken over yet
        self.closed: set[str] = set()  # names of which the store still has a closed one
        self.kept = False  # queues outlive this process
        self.adopted = 0  # queues of a former process
        self.queues: list[NfqueueQueue] = []  # that may outlive this process
        self.maps_kept = False  # the next process shall get the maps
        self.maps_stored = False  # the store has the socket of the maps, of this process or a former one
        self.receive(inherited(environ))

    def receive(self, descriptors: list[tuple[str, int]]) -> None:
        """Take the sockets among these; the others are closed."""
        for name, descriptor in descriptors:
            self._inherit(name, descriptor)

    def _inherit(self, name: str, descriptor: int) -> None:
        try:
            os.set_inheritable(descriptor, False)
            sock = socket.socket(fileno=descriptor)
        except OSError:
            self._note_closed(name, "not a socket")
            with contextlib.suppress(OSError):
                os.close(descriptor)
            return
        self.sockets.append((name, sock))

    def take(self, name: str) -> socket.socket | None:
        """A socket that may be the one of this name; the next call returns another. None: there is none left."""
        for one in self.sockets:
            if one[0] == name and is_packet_queue(one[1]):
                self.sockets.remove(one)
                self.maps_stored = self.maps_stored or name == MAPS
                return one[1]
        return None

    def keep_maps(self, sock: socket.socket | None) -> None:
        """Store this socket, if it is not there yet; None: remove it."""
        self.maps_kept = sock is not None
        if sock is not None and not self.maps_stored:
            self.maps_stored = self.notify.send("FDSTORE=1", "FDPOLL=0", f"FDNAME={MAPS}", descriptors=[sock.fileno()])
        elif sock is None and self.maps_stored:
            self.maps_stored = False
            self.notify.send("FDSTOREREMOVE=1", f"FDNAME={MAPS}")

    def refused(self, number: int, why: str) -> None:
        """A socket that was taken is closed: it does not own the queue."""
        self._note_closed(NAME.format(number), why)

    def close_others(self, bound: Collection[int] = ()) -> None:
        """Close the sockets that were not taken over.

        A queue that such a socket owns ends, so that its number is free, unless the number is in `bound`.
        """
        for name, sock in self.sockets:
            number = name.removeprefix(NAME.format(""))
            if is_packet_queue(sock) and number.isdigit() and int(number) <= HIGHEST and int(number) not in bound:
                _unbind(sock, int(number))
            self._note_closed(name, "not wanted" if is_packet_queue(sock) else "not a packet queue")
            sock.close()
        self.sockets = []

    def keep(self, queues: Iterable[NfqueueQueue]) -> None:
        """Store the sockets of these queues; the others leave the store."""
        for name in sorted(self.closed):
            self.notify.send("FDSTOREREMOVE=1", f"FDNAME={name}")
        self.maps_stored = self.maps_stored and MAPS not in self.closed
        self.queues = list(queues)
        self.adopted = sum(queue.adopted for queue in self.queues)
        for queue in self.queues if self.notify.path else ():
            name = NAME.format(queue.number)
            stored = queue.adopted and name not in self.closed
            queue.kept = stored or self.notify.send(
                "FDSTORE=1", "FDPOLL=0", f"FDNAME={name}", descriptors=[queue.fileno()]
            )
            self.kept = self.kept or queue.kept
        self.closed = set()

    def _note_closed(self, name: str, why: str) -> None:
        log.warning("descriptor_closed", name=name, reason=why)
        self.closed.add(name)


def _unbind(sock: socket.socket, number: int) -> None:
    """Nothing happens if the queue belongs to another socket."""
    sock.setblocking(False)
    try:
        sock.send(netlink.queue_config(number, 0, netlink.unbind()))
    except OSError as error:
        log.warning("queue_not_unbound", queue=number, error=error.strerror)
