"""The answer to `top` over a real socket: counters, hosts and pools, and how seldom the table is walked for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.const import PRE_ROUTING
from conntrackd_py.control import top as module
from conntrackd_py.control.protocol.requests import Top as TopRequest
from conntrackd_py.control.top import FRESH, Top
from conntrackd_py.engine.engine import Engine
from conntrackd_py.nat.range import Range
from conntrackd_py.nat.rules import NAT_SNAT, NatRule
from tests.support.router import Router
from tests.support.stage import Stage, play

OUTER = bytes([203, 0, 113, 1])


def tops(stage: Stage) -> Top:
    return stage.control.commands.tops


async def in_the_midst(stage: Stage) -> None:
    """Until a walk has begun."""
    async with asyncio.timeout(5):
        while (host_statistics := tops(stage)._statistics) is None or not host_statistics.at:
            await asyncio.sleep(0)


def nat_router() -> Router:
    router = Router()
    rules = [NatRule(NAT_SNAT, to=Range(OUTER, OUTER))]
    router.engine = Engine(Tunables(nf_conntrack_acct=True), Repeatable(), nat_rules=rules)
    router.engine.set_interface(2, "wan", [], 0)
    return router


def test_hosts_pools_and_counters(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        router = stage.router
        router.udp(2000)
        first = (await stage.ask("top"))["top"]
        assert first["hosts"] == [{"address": "10.0.0.1", "connections": 1, "packets": 1, "sent": 30, "received": 0}]
        assert first["counted"] == {"at": router.now, "took": 0, "hosts": 1, "others": 0}
        router.now += 2000
        router.udp(2000)
        router.udp(2001)
        router.engine.handle(Skb(b"\x10" + bytes(40)), PRE_ROUTING, router.now)
        second = (await stage.ask("top", hosts=1, sort="bytes", family="ipv4"))["top"]
        assert second["clock"] - first["clock"] == 2000
        assert second["hosts"] == [
            {
                "address": "10.0.0.1",
                "connections": 2,
                "packets": 3,
                "sent": 90,
                "received": 0,
                "moved": {"connections": 1, "packets": 2, "sent": 60, "received": 0},
            }
        ]
        assert second["counted"]["period"] == 2000
        assert (second["accounting"], second["entries"], second["created"]) == (True, 2, 2)
        assert second["hooks"]["pre_routing"] == {"accepted": 4, "dropped": 0, "bytes": 3 * 30 + 41}
        assert sorted(second["hooks"]) == ["local_in", "local_out", "post_routing", "pre_routing"]
        assert (second["invalid"], second["dropped"], second["ignored"]) == ({"ip_version": 1}, {}, {})
        assert second["states"] == {"udp": {"": 2}}
        (pool,) = second["pools"]
        assert pool["address"] == "203.0.113.1"
        assert pool["protocols"] == {"udp": {"connections": 2, "ports": 2, "available": 64512}}

    play(tmp_path / "control.sock", scene, router=nat_router())


def test_without_accounting_there_are_no_bytes(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        stage.router.udp()
        assert (await stage.ask("top"))["top"]["hosts"] == [{"address": "10.0.0.1", "connections": 1}]

    play(tmp_path / "control.sock", scene)


def test_however_many_ask_there_is_one_walk(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        for port in range(3000):
            stage.router.udp(10000 + port)
        answers = await asyncio.gather(*(stage.ask("top") for _ in range(20)))
        assert {answer["top"]["hosts"][0]["connections"] for answer in answers} == {3000}
        assert tops(stage).walks == 1
        stage.router.now += FRESH - 1
        await stage.ask("top", hosts=0)
        assert tops(stage).walks == 1
        stage.router.now += 1
        await stage.ask("top", hosts=0)
        assert tops(stage).walks == 2

    play(tmp_path / "control.sock", scene)


def test_a_long_walk_is_followed_by_a_longer_rest(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        for port in range(20000):
            stage.router.udp(10000 + port)
        asking = asyncio.ensure_future(stage.ask("top"))
        await in_the_midst(stage)
        stage.router.now += 1000
        assert (await asking)["top"]["counted"]["took"] == 1000
        for later, walks in ((2999, 1), (1, 2)):
            stage.router.now += later
            await stage.ask("top")
            assert tops(stage).walks == walks

    play(tmp_path / "control.sock", scene)


def test_packets_pass_between_the_turns_of_a_walk(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        for port in range(20000):
            stage.router.udp(10000 + port)
        asking = asyncio.ensure_future(stage.ask("top"))
        turns = 0
        while not asking.done():
            stage.router.udp(5000 + turns % 1000, src="10.0.0.77")
            turns += 1
            await asyncio.sleep(0)
        assert (await asking)["top"]["counted"]["hosts"] >= 1
        assert turns > 10

    play(tmp_path / "control.sock", scene)


def test_without_a_client_the_engine_counts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WATCHED", 0.01)

    async def scene(stage: Stage) -> None:
        extensions = stage.router.engine.core.extensions
        before = len(extensions)
        stage.router.udp()
        await stage.ask("top")
        async with asyncio.timeout(5):
            while len(extensions) > before:
                await asyncio.sleep(0.005)
        stage.router.now += FRESH
        answer = (await stage.ask("top"))["top"]
        assert "moved" not in answer["hosts"][0]
        assert "period" not in answer["counted"]

    play(tmp_path / "control.sock", scene)


def test_a_walk_that_is_cut_short_is_not_continued(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        for port in range(20000):
            stage.router.udp(10000 + port)
        top = tops(stage)
        cut = asyncio.ensure_future(top.answer(TopRequest()))
        await in_the_midst(stage)
        cut.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cut
        assert (await stage.ask("top"))["top"]["hosts"][0]["connections"] == 20000

    play(tmp_path / "control.sock", scene)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"hosts": -1}, "Expected `int` >= 0 - at `$.hosts`"),
        ({"hosts": 101}, "Expected `int` <= 100 - at `$.hosts`"),
        ({"hosts": True}, "Expected `int`, got `bool` - at `$.hosts`"),
        ({"sort": "age"}, "Invalid enum value 'age' - at `$.sort`"),
        ({"sort": []}, "Expected `str`, got `array` - at `$.sort`"),
        ({"family": "ipx"}, "Invalid enum value 'ipx' - at `$.family`"),
        ({"colour": 1}, "Object contains unknown field `colour`"),
    ],
)
def test_mistakes_are_reported_and_nothing_is_walked(tmp_path: Path, arguments: dict[str, object], why: str) -> None:
    async def scene(stage: Stage) -> None:
        assert await stage.ask("top", **arguments) == {"error": why}
        assert tops(stage).walks == 0

    play(tmp_path / "control.sock", scene)
