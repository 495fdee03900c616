"""Keeps the router's interfaces, addresses and MTUs up to date in the engine (pyroute2).

After each message of the kernel both lists are read in full. So a lost message only delays the update, and a burst of
changes is read at its start and once more at its end. An interface that is down counts as one without addresses:
masquerade cannot use them.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from ipaddress import ip_address
from typing import Any, Final, final

import structlog
from pyroute2 import AsyncIPRoute, NetlinkError
from pyroute2.netlink import rtnl

from conntrackd_py.engine.engine import Engine
from conntrackd_py.kernel.queues.queue import Clock

log = structlog.get_logger()

SETTLE: Final = 0.05  # seconds between two reads: changes come in bursts
RETRY: Final = 1.0  # seconds before listening again after a failure
BUFFER: Final = 1 << 20  # bytes, of the netlink socket
GROUPS: Final = rtnl.RTMGRP_LINK | rtnl.RTMGRP_IPV4_IFADDR | rtnl.RTMGRP_IPV6_IFADDR

IFF_UP: Final = 1
IFA_F_SECONDARY: Final = 0x01  # IPv6: temporary
IFA_F_DADFAILED: Final = 0x08
IFA_F_DEPRECATED: Final = 0x20
IFA_F_TENTATIVE: Final = 0x40
LESS_WANTED: Final = IFA_F_SECONDARY | IFA_F_DEPRECATED | IFA_F_TENTATIVE
RT_SCOPE_UNIVERSE: Final = 0

Interfaces = dict[int, tuple[str, list[bytes]]]


@final
class Addresses:
    """`read` sets every interface of the engine once; `watch` keeps them up to date until it is cancelled."""

    def __init__(self, engine: Engine, clock: Clock, buffer: int = BUFFER) -> None:
        self.engine = engine
        self.buffer = buffer
        self.clock = clock
        self.known: Interfaces = {}

    async def read(self) -> None:
        """Read both lists and give the changes to the engine."""
        async with AsyncIPRoute() as route:
            links = [link async for link in await route.link("dump")]
            addresses = [address async for address in await route.addr("dump")]
        self.update(interfaces(links, addresses))
        self.engine.mss.mtus = mtus(links)
        self.engine.nat.interfaces.networks = networks(addresses)

    def update(self, present: Interfaces) -> None:
        now = self.clock()
        for index in [index for index in self.known if index not in present]:
            log.info("interface_gone", interface=self.known[index][0])
            self.engine.remove_interface(index, now)
        for index, (name, addresses) in present.items():
            if self.known.get(index) != (name, addresses):
                log.info("interface", interface=name, addresses=[str(ip_address(address)) for address in addresses])
                self.engine.set_interface(index, name, addresses, now)
        self.known = present

    async def watch(self) -> None:
        while True:
            try:
                async with _changes(self.buffer) as changed:
                    await self.read()  # changes before the subscription
                    while True:
                        await changed.wait()
                        changed.clear()
                        await self.read()  # immediately: packets to an unknown interface are dropped
                        await asyncio.sleep(SETTLE)
            except (OSError, NetlinkError) as error:
                log.warning("addresses_lost_track", error=str(error), retry=RETRY)
                await asyncio.sleep(RETRY)


@contextlib.asynccontextmanager
async def _changes(buffer: int) -> AsyncIterator[asyncio.Event]:
    """An event that is set at every change, and when the kernel dropped messages."""
    changed = asyncio.Event()
    async with AsyncIPRoute(rcvbuf=buffer) as route:
        await route.bind(GROUPS)
        listening = asyncio.create_task(_listen(route, changed))
        try:
            yield changed
        finally:
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening


async def _listen(route: AsyncIPRoute, changed: asyncio.Event) -> None:
    while True:  # get() ends after each batch
        try:
            async for _ in route.get():
                changed.set()
        except (OSError, NetlinkError) as error:
            log.info("addresses_overrun", error=str(error))
            changed.set()
            await asyncio.sleep(RETRY)


def interfaces(links: list[Any], addresses: list[Any]) -> Interfaces:
    """Both lists as index -> (name, packed addresses). Masquerade uses the first address."""
    up = {link["index"] for link in links if link["flags"] & IFF_UP}
    found: Interfaces = {link["index"]: (_name(link.get("ifname")), []) for link in links}
    usable = [address for address in addresses if address["index"] in up and not _flags(address) & IFA_F_DADFAILED]
    for address in sorted(usable, key=_rank):
        # On a point-to-point link "address" is the peer's.
        text = address.get("local") or address.get("address")
        if address["index"] in found and text:
            found[address["index"]][1].append(ip_address(text).packed)
    return found


def mtus(links: list[Any]) -> dict[int, int]:
    """The MTU of each link."""
    return {link["index"]: link.get("mtu") or 0 for link in links}


def networks(addresses: list[Any]) -> dict[tuple[int, bytes], bytes]:
    """The netmasks by interface and broadcast address."""
    found = {}
    for address in addresses:
        broadcast = address.get_attr("IFA_BROADCAST")
        if broadcast and not _flags(address) & IFA_F_SECONDARY:
            mask = (0xFFFFFFFF << (32 - address["prefixlen"])) & 0xFFFFFFFF
            found[address["index"], ip_address(broadcast).packed] = mask.to_bytes(4, "big")
    return found


def _name(name: str | bytes) -> str:
    """pyroute2 returns a name that is not UTF-8 as bytes."""
    return name if isinstance(name, str) else name.decode(errors="backslashreplace")


def _rank(address: Any) -> tuple[bool, bool]:
    return address["scope"] != RT_SCOPE_UNIVERSE, bool(_flags(address) & LESS_WANTED)


def _flags(address: Any) -> int:
    return int(address.get_attr("IFA_FLAGS") or address["flags"])
