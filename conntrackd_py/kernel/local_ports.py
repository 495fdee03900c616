"""The ports on which programs of this machine wait for packets, from the kernel's sock_diag."""

from socket import AF_INET, AF_INET6
from typing import Final

from pyroute2 import DiagSocket, NetlinkError

from conntrackd_py.const import IPPROTO_TCP, IPPROTO_UDP
from conntrackd_py.nat.mapping import reserved_port

WAITING: Final = ((IPPROTO_TCP, 1 << 10), (IPPROTO_UDP, 1 << 7))  # TCP_LISTEN; TCP_CLOSE: UDP without a peer
LOOPBACK: Final = ("127.", "::1")


def local_ports() -> set[int]:
    """As `Endpoints.reserved`. Sockets of the loopback addresses do not count. Raises OSError."""
    try:
        return _waiting()
    except NetlinkError as error:
        raise OSError(error.code, str(error)) from error


def _waiting() -> set[int]:
    found: set[int] = set()
    with DiagSocket() as diag:
        diag.bind()
        for family in (AF_INET, AF_INET6):
            for protonum, states in WAITING:
                for socket in diag.get_sock_stats(family=family, states=states, protocol=protonum):
                    if not socket["idiag_src"].startswith(LOOPBACK):
                        found.add(reserved_port(protonum, socket["idiag_sport"]))
    return found
