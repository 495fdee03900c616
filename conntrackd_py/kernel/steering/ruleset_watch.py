"""Tells when nftables rules may have changed: the multicast group of nf_tables, which iptables-nft changes too.

One event stands for any number of changes. `open` subscribes anew and so discards what has come before; the caller then
compares and waits. A lost message (ENOBUFS) counts as a change. Changes of set elements do not count. A socket filter
drops those of the daemon's own maps, which may be thousands a second. The kernel puts messages of one transaction
together, and a transaction of an owned table concerns no other table, so the first message decides.

iptables-legacy sends no messages: then the caller polls (`needs_polling`).
"""

import asyncio
import errno
import socket
import sys
from typing import Final, final

import structlog

from conntrackd_py.kernel import netlink
from conntrackd_py.kernel.maps import NAME
from conntrackd_py.kernel.steering.programs import IPTABLES, run

log = structlog.get_logger()

NFNLGRP_NFTABLES: Final = 7
NFT_MSG_NEWSETELEM: Final = 12
NFT_MSG_DELSETELEM: Final = 14
NFT_MSG_NEWGEN: Final = 15  # ends every transaction
NOT_RULES: Final = {
    netlink.NFNL_SUBSYS_NFTABLES << 8 | kind for kind in (NFT_MSG_NEWSETELEM, NFT_MSG_DELSETELEM, NFT_MSG_NEWGEN)
}
READ: Final = 65536  # bytes
_NAME: Final = NAME.encode()[:16]  # of the daemon's table; it begins after two headers and that of the attribute
_NAME_AT: Final = 24
_KIND_AT: Final = 5 if sys.byteorder == "big" else 4  # the header is in host order
_FILTER: Final = (
    (0x30, 0, 0, _KIND_AT),  # A = kind of the message
    (0x15, 10, 0, NFT_MSG_NEWGEN),  # drop
    (0x15, 1, 0, NFT_MSG_NEWSETELEM),
    (0x15, 0, 9, NFT_MSG_DELSETELEM),  # accept every other
    *(
        step
        for at in range(0, len(_NAME), 4)
        for step in (
            (0x20, 0, 0, _NAME_AT + at),
            (0x15, 0, 7 - at // 2, int.from_bytes(_NAME[at : at + 4], "big")),
        )
    ),
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # accept
)
READS_A_TURN: Final = 16


@final
class RulesetWatch:
    """changed: set by a change since `open`."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.sock: socket.socket | None = None

    def open(self) -> None:
        """Subscribe anew. Raises OSError."""
        self.close()
        self.changed.clear()
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, netlink.NETLINK_NETFILTER)
        try:
            netlink.attach_filter(sock, _FILTER)
            sock.bind((0, 1 << NFNLGRP_NFTABLES - 1))
        except OSError:
            sock.close()
            raise
        asyncio.get_running_loop().add_reader(sock.fileno(), self._read)
        self.sock = sock

    def close(self) -> None:
        if self.sock is not None:
            asyncio.get_running_loop().remove_reader(self.sock.fileno())
            self.sock.close()
            self.sock = None

    async def wait(self, seconds: float | None) -> None:
        """Until a change, or for so long."""
        try:
            async with asyncio.timeout(seconds):
                await self.changed.wait()
        except TimeoutError:
            return

    def _read(self) -> None:
        """Read what has come. After a change nothing more is read, so a flood of messages costs nothing."""
        assert self.sock is not None
        try:
            for _ in range(READS_A_TURN):
                if not NOT_RULES.issuperset(netlink.kinds(self.sock.recv(READ))):
                    break
            else:
                return
        except BlockingIOError:
            return
        except OSError as error:
            if (
                error.errno != errno.ENOBUFS
            ):  # lost messages count as a change; other errors too, but they are not usual
                log.warning("ruleset_messages_unreadable", error=error.strerror)
        self.changed.set()
        self.close()


def needs_polling() -> bool:
    """Whether iptables is iptables-legacy. SteeringError if it cannot be asked."""
    return any("legacy" in run([program, "-V"]) for program in IPTABLES.values())
