"""Refused packets for followers: as they come, filtered, and what was not sent is counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import PRE_ROUTING
from conntrackd_py.control.follower import A_PERIOD, FOLLOWERS_LIMIT, wanted_by
from conntrackd_py.control.protocol.requests import Recent, RequestError
from conntrackd_py.explain.refusals import REFUSALS_LIMIT
from tests.support import packets
from tests.support.router import CLIENT, SERVER, Router
from tests.support.stage import Client, Stage, play


def refuse(router: Router, count: int = 1, sport: int = 40000) -> None:
    """SYN+ACKs without a SYN."""
    for _ in range(count):
        skb = Skb(packets.tcp(CLIENT, SERVER, sport, 80, "SA", seq=1, ack=1), indev=1)
        router.engine.handle(skb, PRE_ROUTING, router.now)


async def follower(stage: Stage, **arguments: object) -> Client:
    client = await stage.client()
    assert await client.ask("recent", follow=True, **arguments) == [{"following": True}]
    return client


def test_what_comes_is_sent_and_the_past_only_on_request(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        refuse(stage.router, 3)
        new, all_of_it = await follower(stage), await follower(stage, count=2)
        assert [(await all_of_it.line())["recent"]["sequence"] for _ in range(2)] == [2, 3]
        refuse(stage.router)
        for client in (new, all_of_it):
            assert (await client.line())["recent"]["sequence"] == 4

    play(tmp_path / "control.sock", scene)


def test_a_filter_is_applied_before_the_rate(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        client = await follower(stage, port=7, host="10.0.0.0/8", proto=6, reasons=["tcp_state"])
        refuse(stage.router, 10 * A_PERIOD)
        refuse(stage.router, sport=7)
        assert (await client.line())["recent"]["packet"]["sport"] == 7

    play(tmp_path / "control.sock", scene)


def test_what_is_over_the_rate_or_overwritten_is_counted(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        client = await follower(stage)
        refuse(stage.router, REFUSALS_LIMIT + 5)
        lines = [await client.line() for _ in range(A_PERIOD + 1)]
        assert [line["recent"]["sequence"] for line in lines[:-1]] == list(range(6, 6 + A_PERIOD))
        assert lines[-1] == {"not_shown": {"overwritten": 5, "over_rate": REFUSALS_LIMIT - A_PERIOD}}
        refuse(stage.router)
        assert (await client.line())["recent"]["sequence"] == REFUSALS_LIMIT + 6

    play(tmp_path / "control.sock", scene)


def test_a_follower_that_leaves_is_forgotten(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        client = await follower(stage)
        client.writer.close()
        await stage.until(lambda: stage.control.clients().connected == 0)
        refuse(stage.router)
        assert await stage.ask("ping")

    play(tmp_path / "control.sock", scene)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Recent(host="1.2.3"), "Invalid IP address `1.2.3'"),
        (Recent(reasons=("tcp_state", "foo")), "unknown reason `foo'"),
    ],
)
def test_a_filter_that_makes_no_sense(request_: Recent, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        wanted_by(request_)


def test_the_number_of_followers_is_bounded(tmp_path: Path) -> None:
    """Each costs the daemon time while packets are refused. One that leaves makes room."""

    async def scene(stage: Stage) -> None:
        followers = [await follower(stage) for _ in range(FOLLOWERS_LIMIT)]
        client = await stage.client()
        refused = {"error": f"too many clients follow refused packets ({FOLLOWERS_LIMIT} at most)"}
        assert await client.ask("recent", follow=True) == [refused]
        assert await client.ask("recent") == [{"done": 0}]
        followers[0].writer.close()
        await stage.until(lambda: stage.control.followers < FOLLOWERS_LIMIT)
        await follower(stage)

    play(tmp_path / "control.sock", scene)
