"""Reads which ports the TCP and UDP sockets of this machine hold (sock_diag), of both families.

Numbers: linux/sock_diag.h, linux/inet_diag.h, net/tcp_states.h. A dump is read piece by piece; packets pass in between.
Other protocols are not asked for: the kernel would load their modules for the answer.
"""

import asyncio
import socket
import struct
from typing import Final

from conntrackd_py.const import IPPROTO_TCP, IPPROTO_UDP
from conntrackd_py.kernel.netlink import NLM_F_REQUEST, NLMSG_ERROR, messages
from conntrackd_py.nat.usage.bound_ports import bound_key

NETLINK_SOCK_DIAG: Final = 4
SOCK_DIAG_BY_FAMILY: Final = 20
NLM_F_DUMP: Final = 0x300
NLMSG_DONE: Final = 3
TIME_WAIT, NEW_SYN_RECV = 6, 12
STATES: Final = 0xFFFFFFFF & ~(1 << TIME_WAIT | 1 << NEW_SYN_RECV)
MAPPED: Final = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96
PIECE: Final = 8192  # bytes: about 90 sockets
MOST: Final = 65536  # sockets that are read

_HEADER: Final = struct.Struct("=IHHII")
_REQUEST: Final = struct.Struct("=BBBxI48x")
_SOCKET: Final = struct.Struct(">BBxxHxx16s")  # family, state, local port, local address


async def read() -> tuple[dict[bytes, None], bool]:
    """The keys for nat.bound_ports, and whether there are more than MOST. OSError."""
    found: dict[bytes, None] = {}
    loop = asyncio.get_running_loop()
    for family in (socket.AF_INET, socket.AF_INET6):
        for protonum in (IPPROTO_TCP, IPPROTO_UDP):
            with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK_SOCK_DIAG) as sock:
                sock.send(request(family, protonum))
                while add(found, protonum, await loop.sock_recv(sock, PIECE)):
                    if len(found) > MOST:
                        return found, True
    return found, False


def request(family: int, protonum: int) -> bytes:
    body = _REQUEST.pack(family, protonum, 0, STATES)
    flags = NLM_F_REQUEST | NLM_F_DUMP
    return _HEADER.pack(_HEADER.size + len(body), SOCK_DIAG_BY_FAMILY, flags, 1, 0) + body


def add(found: dict[bytes, None], protonum: int, data: bytes) -> bool:
    """Add the sockets of one piece; False after the last. An error ends it: the kernel lacks the protocol."""
    for kind, _, body in messages(data):
        if kind in (NLMSG_DONE, NLMSG_ERROR):
            return False
        family, _, port, address = _SOCKET.unpack_from(body)
        if family == socket.AF_INET:
            address = address[:4]
        elif address.startswith(MAPPED):
            address = address[12:]
        if port:
            found[bound_key(protonum, address if any(address) else b"", port)] = None
    return bool(data)
