"""The kernel's messages about changes of nftables."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Iterator

import pytest

from conntrackd_py.kernel.steering.ruleset_watch import RulesetWatch
from tests.support.network import private_network

TABLE = "table inet t {\nset s {\ntypeof ip saddr\n}\nchain c {\n}\n}\n"
ELEMENTS = [f"add element inet t s {{ 10.0.{n // 250}.{n % 250} }}" for n in range(5000)]


@pytest.fixture(autouse=True)
def network() -> Iterator[None]:
    with private_network():
        yield


def nft(text: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)


def seen(before: str, change: str, buffer: int = 0) -> bool:
    """Whether the change is noticed; before: what is there. It comes before the loop can read."""

    async def watching() -> bool:
        nft(before)
        watch = RulesetWatch()
        watch.open()
        if buffer and watch.sock is not None:
            watch.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        nft(change)
        await watch.wait(1.0)
        noticed = watch.changed.is_set()
        watch.close()
        return noticed

    return asyncio.run(watching())


@pytest.mark.parametrize(
    "change",
    [
        "flush ruleset",
        "add rule inet t c drop",
        "delete chain inet t c",
        "add table ip other",
        "add element inet t s { 10.0.0.1 }\nadd rule inet t c drop",
    ],
)
def test_a_change_of_rules_is_noticed(change: str) -> None:
    assert seen(TABLE, change)


def test_elements_of_sets_are_not_rules() -> None:
    assert not seen(TABLE, "\n".join(ELEMENTS[:50]))


def test_messages_that_were_lost_count_as_a_change() -> None:
    assert seen(TABLE, "\n".join(ELEMENTS), buffer=2048)


def test_opened_anew_former_changes_are_forgotten() -> None:
    async def watching() -> bool:
        watch = RulesetWatch()
        watch.open()
        nft(TABLE)
        await watch.wait(1.0)
        assert watch.changed.is_set()
        watch.open()
        await watch.wait(0.2)
        noticed = watch.changed.is_set()
        watch.close()
        return noticed

    assert not asyncio.run(watching())


OWN = "table ip conntrackd_py_maps {\nset s {\ntypeof ip saddr\n}\nchain c {\n}\n}\n"


def test_elements_of_the_daemons_own_maps_do_not_even_wake_it() -> None:
    async def watching() -> int:
        nft(OWN)
        watch = RulesetWatch()
        watch.open()
        sock = watch.sock
        assert sock is not None
        nft("add element ip conntrackd_py_maps s { 10.0.0.1, 10.0.0.2 }")
        nft("delete element ip conntrackd_py_maps s { 10.0.0.1 }")
        with pytest.raises(BlockingIOError):
            sock.recv(1)
        nft("add rule ip conntrackd_py_maps c drop")
        waiting = len(sock.recv(65536, socket.MSG_PEEK))
        watch.close()
        return waiting

    assert asyncio.run(watching()) > 0
