"""Requests over a real unix socket and their answers; creating and changing: test_edit.py."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import PRE_ROUTING
from tests.support.stage import Stage, play


def test_list_count_get_and_filters(path: Path) -> None:
    async def scene(stage: Stage) -> None:
        stage.router.udp(1000)
        stage.router.syn(2000)
        client = await stage.client()
        *shown, done = await client.ask("list")
        assert [line["ct"]["proto"] for line in shown] == ["udp", "tcp"]
        assert done == {"done": 2}
        assert (await client.ask("list", filter={"proto": 6}))[-1] == {"done": 1}
        assert await client.ask("list", table="dying") == [{"done": 0}]
        assert await client.ask("count") == [{"count": 2, "limit": 262144}]
        looked_for = {"proto": 17, "src": "10.0.0.1", "dst": "10.0.0.2", "sport": 1000, "dport": 53}
        got = await client.ask("get", tuple=looked_for)
        assert (got[0]["ct"]["orig"]["sport"], got[1]) == (1000, {"done": 1})
        assert await client.ask("get", tuple={**looked_for, "sport": 1001}) == [
            {"error": "Operation failed: such conntrack doesn't exist"}
        ]

    play(path, scene)


def test_expectations_are_listed_counted_and_flushed(path: Path) -> None:
    async def scene(stage: Stage) -> None:
        client = await stage.client()
        assert await client.ask("list", table="expect") == [{"done": 0}]
        master = stage.router.established(40000, 21)
        for port in range(3000, 3100):
            stage.router.expect(master, port)
        *shown, done = await client.ask("list", table="expect", filter={"family": "ipv4"})
        assert [line["expect"]["tuple"]["dport"] for line in shown] == [*range(3000, 3100)]
        assert done == {"done": 100}
        assert await client.ask("list", table="expect", filter={"family": "ipv6"}) == [{"done": 0}]
        (refused,) = await client.ask("list", table="expect", filter={"proto": 6})
        assert refused == {"error": "expectations can be filtered by their family only"}
        assert await client.ask("count", table="expect") == [{"count": 100, "limit": 4096}]
        assert await client.ask("flush", table="expect") == [{"done": 100}]
        assert await client.ask("count", table="expect") == [{"count": 0, "limit": 4096}]
        row = {"cpu": 0, "expect_new": 0, "expect_create": 100, "expect_delete": 100}
        assert await client.ask("stats", table="expect") == [{"stats": [row]}]
        assert await client.ask("count") == [{"count": 1, "limit": 262144}]
        (refused,) = await client.ask("flush", table="dying")
        assert refused == {"error": "Invalid enum value 'dying' - at `$.table`"}
        stage.router.expect(master, 3000)
        stage.router.now += 300_000
        assert await client.ask("list", table="expect") == [{"done": 0}]

    play(path, scene)


def test_timestamps_appear_with_the_tunable(path: Path) -> None:
    async def scene(stage: Stage) -> None:
        stage.router.udp(1000)
        client = await stage.client()
        assert "start" not in (await client.ask("list"))[0]["ct"]
        stage.router.engine.core.timestamps = True
        stage.router.now += 2000
        before = time.time()
        began = (await client.ask("list"))[0]["ct"]["start"]
        assert before - 2.01 <= began <= time.time() - 1.99
        listener = await stage.listener(mask=["DESTROY"])
        await client.ask("flush")
        stage.publish()
        ended = (await listener.line())["event"]
        assert before - 2.01 <= ended["start"] <= time.time() - 1.99
        assert ended["stop"] - ended["start"] == pytest.approx(2)

    play(path, scene)


def test_recent_lists_what_was_refused_oldest_first(path: Path) -> None:
    async def scene(stage: Stage) -> None:
        client = await stage.client()
        assert await client.ask("recent") == [{"done": 0}]
        for version in range(7, 13):
            stage.router.engine.handle(Skb(bytes([version << 4]) + bytes(40)), PRE_ROUTING, stage.router.now)
        client.send(b'{"command": "recent", "count": 2}\n')
        shown = [(await client.line())["recent"] for _ in range(2)]
        assert [(note["sequence"], note["reason"], note["numbers"]) for note in shown] == [
            (5, "ip_version", [11]),
            (6, "ip_version", [12]),
        ]
        assert await client.line() == {"done": 2}
        for count in (-1, "all", True):
            assert (await client.ask("recent", count=count))[0]["error"].endswith(" - at `$.count`")

    play(path, scene)


def test_delete_lists_what_it_deleted_and_the_dying_table_has_it(path: Path) -> None:
    async def scene(stage: Stage) -> None:
        stage.router.udp(1000)
        stage.router.udp(1001)
        client = await stage.client()
        deleted, done = await client.ask("delete", filter={"proto": 17, "sport": 1001})
        assert (deleted["ct"]["orig"]["sport"], done) == (1001, {"done": 1})
        assert (await client.ask("list"))[-1] == {"done": 1}
        assert (await client.ask("list", table="dying"))[-1] == {"done": 1}
        assert await client.ask("flush") == [{"done": 1}]
        assert await client.ask("list") == [{"done": 0}]

    play(path, scene)


def test_status_stats_and_ping(path: Path) -> None:
    async def scene(stage: Stage) -> None:
        stage.router.udp_answered()
        client = await stage.client()
        ((status),) = await client.ask("status")
        assert status["status"].items() >= {"entries": 1, "clients": 1, "subscribers": 0, "events_lost": 0}.items()
        ((stats),) = await client.ask("stats")
        assert stats["stats"][0].items() >= {"cpu": 0, "insert": 1, "invalid": 0}.items()
        assert "pong" in (await client.ask("ping"))[0]

    play(path, scene)
