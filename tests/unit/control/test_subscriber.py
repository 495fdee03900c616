"""Events over a real unix socket: filters, order, dropped events, and the client that caused them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.named import flush
from tests.support.stage import Stage, play


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"\xff\xfe\xc3", "\\xff\\xfe\\xc3"),
        (b"\x1b[31mred\n", "\x1b[31mred\n"),
        (b" \t", " \t"),
        (b"gr\xc3\xbcn", "gr\u00fcn"),
    ],
)
def test_the_program_of_a_client_may_have_any_name(path: Path, name: bytes, shown: str) -> None:
    """The program that prints a name escapes what a terminal must not get."""

    async def scene(stage: Stage) -> None:
        listener = await stage.listener(mask=["DESTROY"])
        stage.router.udp(1)
        assert await flush(path, name) == '{"done":1}\n'
        assert (await listener.line())["event"]["userspace"]["program"] == shown

    play(path, scene)


def test_events_in_order_only_what_was_asked_and_only_with_a_listener(path: Path) -> None:
    async def scene(stage: Stage) -> None:
        engine = stage.router.engine
        stage.router.udp(1)
        assert engine.drain_events() == []
        listener = await stage.listener(mask=["NEW", "DESTROY"], filter={"proto": 17})
        assert len(stage.control.publisher.subscribers) == 1
        stage.router.udp(2)
        stage.router.udp(53, 2, src="10.0.0.2", dst="10.0.0.1")
        stage.router.syn()
        stage.publish()
        await (await stage.client()).ask("delete", filter={"proto": 17, "sport": 2})
        stage.publish()
        new, destroy = (await listener.line())["event"], (await listener.line())["event"]
        assert (new["event"], new["orig"]["sport"]) == ("NEW", 2)
        assert (destroy["event"], destroy["reason"]) == ("DESTROY", "deleted")
        assert new["seq"] < destroy["seq"]
        assert new["time"] <= destroy["time"]
        listener.writer.close()
        await stage.until(lambda: len(stage.control.publisher.subscribers) == 0)
        assert not engine.core.events.enabled

    play(path, scene)


def test_a_listener_that_does_not_read_loses_events_and_gets_their_number(path: Path) -> None:
    async def scene(stage: Stage) -> None:
        slow, quick = await stage.listener(buffer=100), await stage.listener(buffer=100)
        slow.reader._transport.pause_reading()  # type: ignore[attr-defined]
        for port in range(3000):
            stage.router.udp(10000 + port)
            stage.publish()
            assert (await quick.line())["event"]["orig"]["sport"] == 10000 + port
        lost = stage.control.publisher.lost
        assert 0 < lost < 3000
        slow.reader._transport.resume_reading()  # type: ignore[attr-defined]
        seen: list[int] = []
        told = 0
        while len(seen) + told < 3000:
            line = await slow.line()
            told += line.get("lost", 0)
            seen += [line["event"]["seq"]] if "event" in line else []
        assert told == lost
        assert seen == sorted(set(seen))

    play(path, scene)


def test_a_flush_reports_every_end_however_small_the_engines_queue(path: Path) -> None:
    async def scene(stage: Stage) -> None:
        for port in range(1000):
            stage.router.udp(10000 + port)
        stage.router.engine.core.events.limit = 100
        listener = await stage.listener(mask=["DESTROY"])
        assert await (await stage.client()).ask("flush") == [{"done": 1000}]
        reasons = [(await listener.line())["event"]["reason"] for _ in range(1000)]
        assert reasons == ["flushed"] * 1000

    play(path, scene)


def test_every_subscriber_learns_what_the_engines_queue_lost(path: Path) -> None:
    async def scene(stage: Stage) -> None:
        listener = await stage.listener()
        stage.router.engine.core.events.limit = 2
        for port in range(5):
            stage.router.udp(100 + port)
        stage.publish()
        assert [next(iter(await listener.line())) for _ in range(3)] == ["event", "event", "lost"]

    play(path, scene)


def test_listeners_of_one_table_hear_nothing_of_the_other(path: Path) -> None:
    async def scene(stage: Stage) -> None:
        core = stage.router.engine.core
        master = stage.router.established(40000, 21)
        await stage.listener(table="expect")
        assert (core.events.enabled, core.expectations.events.enabled) == (False, True)
        await stage.listener()
        assert (core.events.enabled, core.expectations.events.enabled) == (True, True)
        stage.router.expect(master, 3000)
        core.expectations.events.lost = 5
        stage.publish()
        lost = {subscriber.table: subscriber.lost_total for subscriber in stage.control.publisher.subscribers}
        assert lost == {"expect": 5, "conntrack": 0}

    play(path, scene)
