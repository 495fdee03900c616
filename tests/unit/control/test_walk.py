"""Listings of large tables: whole, in turns, and a slow client delays only itself."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.stage import Stage, play


def test_a_listing_is_whole_over_many_turns_while_connections_die(path: Path) -> None:
    async def scene(stage: Stage) -> None:
        for port in range(2000):
            stage.router.udp(10000 + port)
        listing, deleting = await stage.client(), await stage.client()
        shown, gone = await asyncio.gather(
            listing.ask("list"), deleting.ask("delete", filter={"proto": 17, "sport": 11999})
        )
        assert gone[-1] == {"done": 1}
        assert shown[-1]["done"] in (1999, 2000)
        ids = [line["ct"]["id"] for line in shown[:-1]]
        assert len(set(ids)) == len(ids) == shown[-1]["done"]

    play(path, scene)


def test_a_listing_that_is_not_read_delays_no_other_client(path: Path) -> None:
    async def scene(stage: Stage) -> None:
        for port in range(4000):
            stage.router.udp(10000 + port)
        sleeping = [await stage.client() for _ in range(5)]
        for client in sleeping:
            client.reader._transport.pause_reading()  # type: ignore[attr-defined]  # what a stopped process does
            client.send(b'{"command": "list"}\n')
        awake = await stage.client()
        assert (await awake.ask("list"))[-1] == {"done": 4000}
        sleeping[0].reader._transport.resume_reading()  # type: ignore[attr-defined]
        lines = 0
        while "done" not in await sleeping[0].line():
            lines += 1
        assert lines == 4000

    play(path, scene)


def test_leaving_in_the_middle_of_a_listing_is_no_error(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scene(stage: Stage) -> None:
        for port in range(4000):
            stage.router.udp(10000 + port)
        client = await stage.client()
        client.send(b'{"command": "list"}\n')
        await client.line()
        client.writer.transport.abort()
        await stage.until(lambda: stage.control.acceptor.sessions == 0)
        assert (await (await stage.client()).ask("count"))[0]["count"] == 4000

    play(path, scene)
    assert not caplog.records
