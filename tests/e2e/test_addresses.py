"""Interfaces and addresses of a real kernel, as they come and go, arrive in the engine."""

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_address

import pytest
from structlog.testing import capture_logs

from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.engine.engine import Engine
from conntrackd_py.kernel.addresses import Addresses
from tests.support.network import private_network, run

SOON = 5.0


class Watched:
    """A running watch, and what the engine knows because of it."""

    def __init__(self, buffer: int = 1 << 20) -> None:
        self.engine = Engine(Tunables(), Repeatable())
        self.addresses = Addresses(self.engine, lambda: 0, buffer)

    def known(self) -> dict[str, list[str]]:
        """IPv4 only: link-local IPv6 addresses appear when they like."""
        links = self.engine.nat.interfaces.links.values()
        return {link.name: [str(ip_address(a)) for a in link.addresses if len(a) == 4] for link in links}

    async def becomes(self, wanted: dict[str, list[str]]) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SOON):
                while self.known() != wanted:
                    await asyncio.sleep(0.01)
        assert self.known() == wanted


@contextlib.asynccontextmanager
async def watching(buffer: int = 1 << 20) -> AsyncIterator[Watched]:
    watched = Watched(buffer)
    await watched.addresses.read()
    task = asyncio.create_task(watched.addresses.watch())
    try:
        yield watched
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


LO = {"lo": ["127.0.0.1"]}


@pytest.fixture(autouse=True)
def network() -> Iterator[None]:
    with private_network():
        run("ip link add wan0 type veth peer name far0")
        run("ip link set wan0 up")
        run("ip address add 192.0.2.1/24 dev wan0")
        yield


def test_what_is_there_at_the_start_is_known_before_the_first_packet() -> None:
    async def play() -> None:
        watched = Watched()
        await watched.addresses.read()
        assert watched.known() == {**LO, "wan0": ["192.0.2.1"], "far0": []}

    asyncio.run(play())


def test_a_name_that_is_not_utf8_does_not_end_the_watch() -> None:
    async def play() -> None:
        async with watching() as watched:
            command = (b"ip", b"link", b"add", b"\xff", b"type", b"veth", b"peer", b"name", b"far1")
            subprocess.run(command, check=True)
            known = {**LO, "wan0": ["192.0.2.1"], "far0": [], "\\xff": [], "far1": []}
            await watched.becomes(known)
            run("ip link delete far1")
            await watched.becomes({name: known[name] for name in ("lo", "wan0", "far0")})

    asyncio.run(play())


def test_addresses_come_and_go() -> None:
    async def play() -> None:
        async with watching() as watched:
            run("ip address add 192.0.2.2/24 dev wan0")
            await watched.becomes({**LO, "wan0": ["192.0.2.1", "192.0.2.2"], "far0": []})
            run("ip address delete 192.0.2.2/24 dev wan0")
            await watched.becomes({**LO, "wan0": ["192.0.2.1"], "far0": []})

    asyncio.run(play())


def test_an_interface_that_goes_down_loses_its_addresses_and_gets_them_back() -> None:
    async def play() -> None:
        async with watching() as watched:
            run("ip link set wan0 down")
            await watched.becomes({**LO, "wan0": [], "far0": []})
            run("ip link set wan0 up")
            await watched.becomes({**LO, "wan0": ["192.0.2.1"], "far0": []})

    asyncio.run(play())


def test_interfaces_come_are_renamed_and_go() -> None:
    async def play() -> None:
        async with watching() as watched:
            run("ip link add new0 type veth peer name new1")
            await watched.becomes({**LO, "wan0": ["192.0.2.1"], "far0": [], "new0": [], "new1": []})
            run("ip link set new0 name ppp0")
            await watched.becomes({**LO, "wan0": ["192.0.2.1"], "far0": [], "ppp0": [], "new1": []})
            run("ip link delete wan0")
            await watched.becomes({**LO, "ppp0": [], "new1": []})

    asyncio.run(play())


def test_after_more_changes_than_the_kernel_could_tell_the_truth_is_read() -> None:
    many = [f"10.0.0.{number}/32 dev wan0" for number in range(200)]
    batch = "\n".join(f"address {verb} {what}" for verb in ("add", "delete") for what in many)

    async def play() -> None:
        async with watching(buffer=4096) as watched:
            await asyncio.sleep(0.1)  # until it listens
            subprocess.run(["ip", "-batch", "-"], input=batch, text=True, check=True, timeout=60)
            with capture_logs() as logs:
                run("ip address add 192.0.2.2/24 dev wan0")  # not heard: the buffer is full
                await watched.becomes({**LO, "wan0": ["192.0.2.1", "192.0.2.2"], "far0": []})
            assert "addresses_overrun" in [entry["event"] for entry in logs]
            run("ip address delete 192.0.2.2/24 dev wan0")
            await watched.becomes({**LO, "wan0": ["192.0.2.1"], "far0": []})

    asyncio.run(play())
