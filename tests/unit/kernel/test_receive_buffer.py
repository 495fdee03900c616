from __future__ import annotations

import socket

from conntrackd_py.kernel.netlink import NETLINK_NETFILTER
from conntrackd_py.kernel.receive_buffer import grow_buffer


def test_the_receive_buffer_grows() -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as sock:
        before = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, before // 4)
        grow_buffer(sock, before // 2)  # the kernel doubles it
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == before // 2 * 2
