"""The daemon's tables, one a family: recognition (recognition.py), and the maps that rewrite packets by their mark.

    prerouting   -250   destination, after the first visit (raw, -300) and before the kernel's tracking (-200)
    postrouting  -145   source, after the last visit (mangle, -150) and before the leak table (-140)

The tables belong to the daemon's process (steering/nftables.py): no other program can change or flush them, and they
end with it. So no element outlives the connection table that it was made of.
"""

import errno
import os
import select
import struct
from typing import Final, final

import structlog

from conntrackd_py.engine.mark_codec import done_bit
from conntrackd_py.engine.mark_maps import MOST_CONNECTIONS, Element, Maps
from conntrackd_py.kernel.maps import recognition
from conntrackd_py.kernel.maps.elements import NFT_MSG_DELSETELEM, NFT_MSG_NEWSETELEM, transaction
from conntrackd_py.kernel.netlink import NLMSG_ERROR
from conntrackd_py.kernel.steering.nftables import Nftables

log = structlog.get_logger()

NAME: Final = "conntrackd_py_maps"
FAMILIES: Final = {"ip": "ipv4_addr", "ip6": "ipv6_addr"}
AFTER_FIRST_VISIT: Final = -250
AFTER_LAST_VISIT: Final = -145
ANSWER_WITHIN: Final = 1.0  # seconds; the kernel answers before send returns
ROOM: Final = 8192
ERROR: Final = struct.Struct("=4xH2xI4xi")


def ruleset(mask: int, excluded: tuple[str, ...], *, translate: bool) -> str:
    """The tables as nft text. mask: steering.mark_mask, not 0. excluded: interfaces. translate: with the maps."""
    tables = []
    for family, address in FAMILIES.items():
        text = _maps(family, address, mask) if translate else ""
        text += recognition.known_set(address) + recognition.chains(family, mask, excluded)
        tables.append(f"table {family} {NAME} {{\nflags owner\n{text}}}\n")
    return "".join(tables)


def _maps(family: str, address: str, mask: int) -> str:
    # At PREROUTING the steering rules cleared a "done" from elsewhere; the address sets it before the port.
    done = done_bit(mask)
    field, without_done = f"meta mark & {mask:#x}", f"meta mark & {mask ^ done:#x}"
    maps = "".join(
        f"map {name} {{\ntype mark : {kind}\nsize {2 * MOST_CONNECTIONS}\n}}\n"
        for name, kind in (("saddr", address), ("daddr", address), ("sport", "inet_service"), ("dport", "inet_service"))
    )
    ports = "".join(
        f"chain {name}s {{\ntcp {name} set {without_done} map @{name}\nudp {name} set {without_done} map @{name}\n}}\n"
        for name in ("sport", "dport")
    )
    places = (
        ("destination", "prerouting", AFTER_FIRST_VISIT, "daddr", without_done, "", "dports"),
        ("source", "postrouting", AFTER_LAST_VISIT, "saddr", field, f"meta mark set meta mark | {done:#x}", "sports"),
    )
    bases = "".join(
        f"chain {name} {{\ntype filter hook {hook} priority {priority}\nudp checksum 0 return\n"
        f"{family} {key} set {looked_up} map @{key} {mark} goto {then}\n}}\n"
        for name, hook, priority, key, looked_up, mark, then in places
    )
    return maps + ports + bases


@final
class MapTables(Maps):
    """Made at construction. Raises NftablesError, for example if a table of this name exists. text: of `ruleset`."""

    def __init__(self, text: str) -> None:
        self.nftables = Nftables()
        created = "".join(f"create table {family} {NAME} {{ flags owner; }}\n" for family in FAMILIES)
        try:
            self.nftables.run(created + text)
            self.sock = self.nftables.owner()
        except Exception:
            self.nftables.close()
            raise
        self.sequence = 0

    def add(self, elements: list[Element]) -> bool:
        return self._done(NFT_MSG_NEWSETELEM, elements)

    def delete(self, elements: list[Element]) -> bool:
        return self._done(NFT_MSG_DELSETELEM, elements)

    def _done(self, kind: int, elements: list[Element]) -> bool:
        self.sequence = self.sequence % 0x7FFFFFFF + 1
        try:
            self.sock.send(transaction(NAME, kind, elements, self.sequence))
            self._acknowledged()
        except OSError as error:
            log.error("maps_failed", error=str(error), help="the daemon rewrites every packet from now on")
            return False
        return True

    def _acknowledged(self) -> None:
        """Raises OSError unless the kernel took the transaction."""
        while select.select([self.sock], [], [], ANSWER_WITHIN)[0]:
            answer = self.sock.recv(ROOM)
            kind, sequence, code = ERROR.unpack_from(answer)
            if kind == NLMSG_ERROR and sequence == self.sequence:
                if code:
                    raise OSError(-code, os.strerror(-code))
                return
        raise TimeoutError(errno.ETIMEDOUT, "the kernel did not answer")

    def close(self) -> None:
        """The tables end with their socket. May be called again."""
        if self.sock.fileno() >= 0:
            self.sock.close()
            self.nftables.close()
