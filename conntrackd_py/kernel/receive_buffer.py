"""The receive buffer of a netlink socket."""

import socket

import structlog

log = structlog.get_logger()


def grow_buffer(sock: socket.socket, size: int) -> None:
    """Set the receive buffer of a netlink socket; logs a smaller one."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_RCVBUFFORCE", 33), size)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        granted = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
        if granted < size:
            log.warning("socket_buffer_small", wanted=size, granted=granted, help="raise net.core.rmem_max")
