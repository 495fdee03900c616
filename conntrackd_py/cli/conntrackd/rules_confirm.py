"""`rules install --for SECONDS`: the former rules come back unless the new ones are confirmed (as iptables-apply(8)).

Enter confirms, or `rules confirm` from another session: it connects to an abstract unix socket, which belongs to the
network namespace, as the rules do. A lost terminal (SIGHUP, end of standard input) does not confirm.
"""

import os
import select
import signal
import socket
import struct
import sys
import time
from typing import Final, TextIO

ADDRESS: Final = "\0conntrackd-py rules install"
TAKEN: Final = "another `rules install --for` is waiting for its confirmation"
NONE_WAITS: Final = "no `rules install --for` is waiting for a confirmation"
PATIENCE: Final = 5.0  # seconds
PEER: Final = struct.Struct("=iii")  # struct ucred: process, user, group


def pending() -> socket.socket:
    """The socket of the installation that waits. Raises OSError if another one waits."""
    listening = socket.socket(socket.AF_UNIX)
    try:
        listening.bind(ADDRESS)
        listening.listen()
    except OSError:
        listening.close()
        raise
    return listening


def survive() -> None:
    """A lost terminal does not end this process. SIGTERM ends it as an exception, so that the rules are restored."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def confirmed(listening: socket.socket, keyboard: TextIO, seconds: float) -> bool:
    """Wait for a confirmation; False after so many seconds without one."""
    deadline = time.monotonic() + seconds
    sources: list[socket.socket | TextIO] = [listening, keyboard]
    while (left := deadline - time.monotonic()) > 0:
        for source in select.select(sources, [], [], left)[0]:
            if source is listening:
                if _accepted(listening):
                    return True
            elif keyboard.readline():
                return True
            else:
                sources.remove(keyboard)
    return False


def _accepted(listening: socket.socket) -> bool:
    """Accept a client; whether it may confirm."""
    client, _ = listening.accept()
    with client:
        user = PEER.unpack(client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size))[1]
        if not _may_confirm(user):
            return False
        client.send(b"1")
        return True


def _may_confirm(user: int) -> bool:
    """Root, or the user of this process."""
    return user in (0, os.getuid())


def confirm() -> bool:
    """Confirm the installation that waits; False if none does, or if it refuses."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        try:
            client.connect(ADDRESS)
            return client.recv(1) == b"1"
        except OSError:
            return False
