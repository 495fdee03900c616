"""recvmmsg: many messages of a socket with one call, which Python's socket module lacks.

    heads    | message 0, first HEAD bytes | message 1, first HEAD bytes | ...
    tails    the rest of each message, in memory of its own

Most messages fit their head. So one copy of `heads` takes a whole batch of small packets, and parsing touches little
memory.
"""

import ctypes
import errno
import mmap
import os
import socket
from typing import Final, final

from conntrackd_py.kernel.queues.batch import HEAD

MOST: Final = 64  # messages of one call
LARGEST: Final = 67648  # bytes of a message, more than the largest packet with its other attributes
# LARGEST is an odd multiple of 64: the starts of the tails spread over the sets of the processor's cache.


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Msghdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("iovecs", ctypes.c_void_p),
        ("iovec_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Mmsghdr(ctypes.Structure):
    _fields_ = (("header", _Msghdr), ("length", ctypes.c_uint32))


_recvmmsg = ctypes.CDLL(None, use_errno=True).recvmmsg
_recvmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)
_recvmmsg.restype = ctypes.c_int


@final
class Messages:
    """The buffers of a receiving socket."""

    def __init__(self) -> None:
        self._heads = bytearray(MOST * HEAD)
        self._rest = mmap.mmap(-1, MOST * LARGEST)  # takes memory only as it is used
        view = memoryview(self._rest)
        self.tails = [view[at * LARGEST : (at + 1) * LARGEST] for at in range(MOST)]
        self._iovecs = (_Iovec * (2 * MOST))()
        iovecs = ctypes.addressof(self._iovecs)
        self._headers = (_Mmsghdr * MOST)()
        heads = ctypes.addressof(ctypes.c_char.from_buffer(self._heads))
        tails = ctypes.addressof(ctypes.c_char.from_buffer(self._rest))
        for at in range(MOST):
            self._iovecs[2 * at] = _Iovec(heads + at * HEAD, HEAD)
            self._iovecs[2 * at + 1] = _Iovec(tails + at * LARGEST, LARGEST)
            header = self._headers[at].header
            header.iovecs = iovecs + 2 * at * ctypes.sizeof(_Iovec)
            header.iovec_count = 2
        step = ctypes.sizeof(_Mmsghdr) // 4
        self._lengths = memoryview(self._headers).cast("B").cast("I")[_Mmsghdr.length.offset // 4 :: step]
        self._view = memoryview(self._heads)
        self._address = ctypes.addressof(self._headers)

    def receive(self, sock: socket.socket, limit: int) -> list[int]:
        """The lengths of the messages received now, at most `limit` or MOST; none when none waits. OSError."""
        got = _recvmmsg(sock.fileno(), self._address, min(limit, MOST), socket.MSG_DONTWAIT, None)
        if got >= 0:
            return self._lengths[:got].tolist()
        number = ctypes.get_errno()
        if number in (errno.EAGAIN, errno.EINTR):
            return []
        raise OSError(number, os.strerror(number))

    def heads(self, count: int) -> bytes:
        """The first HEAD bytes of each of the `count` messages received last."""
        return bytes(self._view[: count * HEAD])
