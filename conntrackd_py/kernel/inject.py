"""Sends the answers to rejected packets, from the IP header on.

They carry `mark`: at OUTPUT and POSTROUTING the engine accepts packets with it, without tracking, filter or leak guard.
An unspecified source address becomes the one that the kernel chooses. Needs CAP_NET_RAW and, for the mark,
CAP_NET_ADMIN.
"""

import contextlib
import socket
from collections.abc import Sequence
from typing import Final, final

from conntrackd_py.const import AF_INET
from conntrackd_py.engine.rejects import Answer
from conntrackd_py.filter.reject import lacks_source, with_source

IPV6_HDRINCL: Final = 36  # <linux/in6.h>; the socket module does not name it
ANY_PORT: Final = 9  # any port: connect() only looks up the route
LINK_LOCAL: Final = b"\xfe\x80"


@final
class Injector:
    """OSError when the sockets cannot be created. A packet that cannot be sent is counted and dropped."""

    def __init__(self, mark: int) -> None:
        self.mark = mark
        self.sent = 0
        self.failed = 0
        self.v4 = self._socket(socket.AF_INET, socket.IPPROTO_IP, socket.IP_HDRINCL)
        self.v6: socket.socket | None = None  # None without IPv6
        with contextlib.suppress(OSError):
            self.v6 = self._socket(socket.AF_INET6, socket.IPPROTO_IPV6, IPV6_HDRINCL)

    def _socket(self, family: int, level: int, header_included: int) -> socket.socket:
        made = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW)
        try:
            made.setsockopt(level, header_included, 1)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self.mark)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)  # never read
        except OSError:
            made.close()
            raise
        return made

    def send(self, answers: Sequence[Answer]) -> None:
        for answer in answers:
            try:
                self._send(answer)
                self.sent += 1
            except OSError:
                self.failed += 1

    def _send(self, answer: Answer) -> None:
        data = answer.data
        if answer.family == AF_INET:
            self.v4.sendto(data, (socket.inet_ntop(socket.AF_INET, data[16:20]), 0))
            return
        if self.v6 is None:
            raise OSError("no IPv6")
        scope = answer.outdev if data[24:26] == LINK_LOCAL else 0
        receiver = (socket.inet_ntop(socket.AF_INET6, data[24:40]), 0, 0, scope)
        if lacks_source(data):
            data = with_source(data, self._source(receiver))
        self.v6.sendto(data, receiver)

    def _source(self, receiver: tuple[str, int, int, int]) -> bytes:
        """The source address that the kernel chooses for this destination."""
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self.mark)
            probe.connect((receiver[0], ANY_PORT, 0, receiver[3]))
            return socket.inet_pton(socket.AF_INET6, probe.getsockname()[0].partition("%")[0])

    def close(self) -> None:
        for each in (self.v4, self.v6):
            if each is not None:
                each.close()
