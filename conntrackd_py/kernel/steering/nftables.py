"""libnftables, called from within this process: a table with `flags owner` belongs to the socket that made it.

The kernel lets no other program change or flush such a table and deletes it when nobody has the socket any more. A
process that gets the socket of a former one goes on with its tables: libnftables then talks over this socket.
ctypes, because the program nft ends at once and its tables with it, and Python bindings are a package of their own.
"""

import ctypes
import os
import socket
from pathlib import Path
from typing import Final, final

from conntrackd_py.kernel.netlink import NETLINK_NETFILTER

LIBRARY: Final = "libnftables.so.1"
ANSWER: Final = 1 << 16  # bytes
MOST_ANSWERS: Final = 1 << 12
UNWRITABLE: Final = frozenset('"\\*')  # nft has no quoting for these in an interface name


class NftablesError(Exception):
    """libnftables is missing or refused a command; one line for the operator."""


@final
class Nftables:
    """A context. It stays for the life of the process. Not thread-safe: one call at a time.

    former: the socket of a process that has ended; its tables belong to this one from now on. It is closed.
    """

    def __init__(self, former: socket.socket | None = None) -> None:
        try:
            self.library = ctypes.CDLL(LIBRARY)
        except (OSError, MemoryError) as error:
            raise NftablesError(f"{LIBRARY} cannot be loaded; install libnftables1") from error
        pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
        for name, result, arguments in (
            ("nft_ctx_new", pointer, [ctypes.c_uint32]),
            ("nft_ctx_buffer_error", number, [pointer]),
            ("nft_ctx_buffer_output", number, [pointer]),
            ("nft_run_cmd_from_buffer", number, [pointer, text]),
            ("nft_ctx_get_error_buffer", text, [pointer]),
            ("nft_ctx_free", None, [pointer]),
        ):
            function = getattr(self.library, name)
            function.restype, function.argtypes = result, arguments
        self.before = _netlink_sockets()
        self.context = self.library.nft_ctx_new(0)
        if not self.context:
            raise NftablesError("libnftables: no netlink socket")
        self.library.nft_ctx_buffer_error(self.context)
        self.library.nft_ctx_buffer_output(self.context)
        if former is not None:
            with former:
                _read_answers(former)
                os.dup2(former.fileno(), self._descriptor(), inheritable=False)

    def owner(self) -> socket.socket:
        """A duplicate of the socket that its tables belong to. Raises NftablesError."""
        return socket.socket(fileno=os.dup(self._descriptor()))

    def _descriptor(self) -> int:
        """Of its socket; libnftables has no call for it. Raises NftablesError.

        Among the descriptors of this process it is the only new netlink socket since `__init__` began.
        """
        for descriptor in sorted(_netlink_sockets() - self.before):
            return descriptor
        raise NftablesError("libnftables: its netlink socket cannot be found")

    def close(self) -> None:
        """Its tables end."""
        self.library.nft_ctx_free(self.context)

    def run(self, commands: str) -> None:
        """Run these commands as one transaction. Raises NftablesError."""
        if self.library.nft_run_cmd_from_buffer(self.context, commands.encode()):
            said: bytes = self.library.nft_ctx_get_error_buffer(self.context) or b""
            lines = said.decode(errors="backslashreplace").splitlines()
            raise NftablesError(lines[0] if lines else "libnftables: unknown error")


def quoted(name: str) -> str:
    """The name of an interface in nft text; empty if nft has no way to write it, or for a plain +."""
    if name == "+" or not name.isascii() or UNWRITABLE & set(name):
        return ""
    return f'"{name[:-1]}*"' if name.endswith("+") else f'"{name}"'


def _netlink_sockets() -> set[int]:
    """The descriptors of this process that are netfilter sockets of netlink."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if not entry.readlink().name.startswith("socket:"):
                continue
            one = socket.socket(fileno=int(entry.name))
        except OSError:  # closed meanwhile
            continue
        if one.family == socket.AF_NETLINK and one.proto == NETLINK_NETFILTER:
            found.add(one.fileno())
        one.detach()
    return found


def _read_answers(sock: socket.socket) -> None:
    """Read what the kernel answered to a process that did not read it any more."""
    sock.setblocking(False)
    for _ in range(MOST_ANSWERS):
        try:
            sock.recv(ANSWER)
        except BlockingIOError:
            return
        except OSError:  # lost answers
            continue
