"""Reads all elements of a map or set from the kernel.

A list is used only if nobody changed the ruleset meanwhile: an element that is not in it would never be deleted.
"""

import errno
import os
import select
import socket
import struct
from collections.abc import Callable
from typing import Final

from conntrackd_py.engine.mark_maps import Element
from conntrackd_py.kernel.maps.elements import elements, listing
from conntrackd_py.kernel.netlink import NLMSG_DONE, NLMSG_ERROR, interrupted, messages

TRIES: Final = 5
ANSWER_WITHIN: Final = 1.0  # seconds; the kernel answers before send returns
ROOM: Final = 65536
NFGENMSG: Final = 4  # bytes
CODE: Final = struct.Struct("=i")


def listed(sock: socket.socket, table: str, family: int, name: str, sequence: Callable[[], int]) -> set[Element]:
    """sequence: returns the next sequence number of the socket. Raises OSError."""
    for _ in range(TRIES):
        number = sequence()
        sock.send(listing(table, family, name, number))
        found: set[Element] = set()
        if _read(sock, number, family, name, found):
            return found
    raise OSError(errno.EINTR, "the ruleset changed again and again")


def _read(sock: socket.socket, number: int, family: int, name: str, found: set[Element]) -> bool:
    """Add the elements to `found`; whether nobody changed the ruleset meanwhile. Raises OSError."""
    whole = True
    while select.select([sock], [], [], ANSWER_WITHIN)[0]:
        data = sock.recv(ROOM)
        whole = whole and not interrupted(data)
        for kind, sequence, body in messages(data):
            if sequence != number:
                continue
            if kind == NLMSG_ERROR:
                raise_error(body)
            if kind in (NLMSG_DONE, NLMSG_ERROR):
                return whole
            found.update(elements(family, name, body[NFGENMSG:]))
    raise TimeoutError(errno.ETIMEDOUT, "the kernel did not answer")


def raise_error(body: bytes) -> None:
    """Raises the OSError in an acknowledgement, if there is one."""
    (code,) = CODE.unpack_from(body)
    if code:
        raise OSError(-code, os.strerror(-code))
