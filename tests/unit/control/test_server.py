"""The control socket over real unix sockets: answers, mistakes, and clients that behave badly."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from conntrackd_py.conntrack.skb import Skb
from conntrackd_py.const import PRE_ROUTING
from conntrackd_py.control import server as module
from conntrackd_py.control.server import ControlServer
from conntrackd_py.settings.errors import ConfigError
from tests.support.named import flush
from tests.support.router import Router

LIMIT = 4096
Scene = Callable[["Stage"], Awaitable[None]]


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def line(self) -> Any:
        """The next line as JSON; None at the end."""
        async with asyncio.timeout(5):
            line = await self.reader.readline()
        return json.loads(line) if line else None

    async def ask(self, command: str, **arguments: object) -> list[Any]:
        """Everything up to the line that ends an answer."""
        self.send(json.dumps({"command": command, **arguments}).encode() + b"\n")
        lines = [await self.line()]
        while "ct" in lines[-1] or "expect" in lines[-1]:
            lines.append(await self.line())
        return lines


class Stage:
    """A router, its control socket, and clients."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.router = Router()
        self.path = path
        self.clients: list[Client] = []
        options.setdefault("max_request", LIMIT)
        self.control = ControlServer(self.router.engine, self.router.clock, path=str(path), **options)

    async def client(self) -> Client:
        self.clients.append(Client(*await asyncio.open_unix_connection(str(self.path))))
        return self.clients[-1]

    async def listener(self, **arguments: object) -> Client:
        client = await self.client()
        assert await client.ask("events", **arguments) == [{"buffer": arguments.get("buffer", 8192)}]
        return client

    def publish(self) -> None:
        self.control.publisher.publish()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0.005)


def play(path: Path, scene: Scene, **options: Any) -> None:
    async def run() -> None:
        stage = Stage(path, **options)
        await stage.control.start()
        try:
            await scene(stage)
        finally:
            await stage.control.stop()
            for client in stage.clients:
                client.writer.transport.abort()
            await asyncio.sleep(0)

    asyncio.run(run())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


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
        began = (await client.ask("list"))[0]["ct"]["start"]
        assert abs(time.time() - 2 - began) < 5
        listener = await stage.listener(mask=["DESTROY"])
        await client.ask("flush")
        stage.publish()
        ended = (await listener.line())["event"]
        assert abs(ended["start"] - began) < 5
        assert ended["stop"] - ended["start"] == pytest.approx(2)

    play(path, scene)


def test_recent_tells_what_was_refused_oldest_first(path: Path) -> None:
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


def test_delete_tells_what_it_deleted_and_the_dying_table_has_it(path: Path) -> None:
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


def test_a_listing_that_nobody_reads_delays_nobody_else(path: Path) -> None:
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


@pytest.mark.parametrize(
    ("request_line", "why"),
    [
        (b"nonsense", "JSON is malformed"),
        (b"[" * 3000, "Expected `object`, got `array`"),
        (b"\xff\xfe", "JSON is malformed"),
        (b"9" * 4000 + b"0" * 90, "Number out of range"),
        (b"[]", "Expected `object`, got `array`"),
        (b"{}", "Object missing required field `command`"),
        (b'{"command": ["list"]}', "Expected `str` - at `$.command`"),
        (b'{"command": "dance"}', "Invalid value 'dance' - at `$.command`"),
        (b'{"command": "ping", "table": "x"}', "Object contains unknown field `table`"),
        (b'{"command": "count", "table": "dying"}', "Invalid enum value 'dying' - at `$.table`"),
        (b'{"command": "list", "table": "expects"}', "Invalid enum value 'expects' - at `$.table`"),
        (b'{"command": "list", "table": []}', "Expected `str`, got `array` - at `$.table`"),
        (b'{"command": "list", "filter": []}', "Expected `object`, got `array` - at `$.filter`"),
        (b'{"command": "list", "filter": {"proto": -1}}', "Expected `int` >= 0 - at `$.filter.proto`"),
        (b'{"command": "delete", "filter": {"x": 1}}', "Object contains unknown field `x` - at `$.filter`"),
        (b'{"command": "get"}', "Object missing required field `tuple`"),
        (b'{"command": "events", "mask": "NEW"}', "Expected `array`, got `str` - at `$.mask`"),
        (b'{"command": "events", "mask": [{}]}', "Expected `str`, got `object` - at `$.mask[0]`"),
        (
            b'{"command": "create", "ct": {"proto": [], "src_nat": "192.0.2.1"}}',
            "Expected `int`, got `array` - at `$.ct.proto`",
        ),
    ],
)
def test_a_mistake_is_answered_and_the_connection_goes_on(path: Path, request_line: bytes, why: str) -> None:
    async def scene(stage: Stage) -> None:
        client = await stage.client()
        client.send(request_line + b"\n\n")
        error = await client.line()
        assert list(error) == ["error"]
        assert error["error"].startswith(why)
        assert "pong" in (await client.ask("ping"))[0]

    play(path, scene)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(garbage=st.lists(st.binary(max_size=200) | st.text(max_size=50).map(json.dumps).map(str.encode), max_size=20))
def test_garbage_never_hurts_the_next_client(path: Path, garbage: list[bytes]) -> None:
    async def scene(stage: Stage) -> None:
        stage.router.udp()
        rude = await stage.client()
        rude.send(b"\n".join(garbage))
        rude.writer.close()
        client = await stage.client()
        assert (await client.ask("list"))[-1] == {"done": 1}

    play(path, scene)


def test_a_mistake_of_ours_is_answered_and_the_connection_goes_on(path: Path) -> None:
    async def scene(stage: Stage) -> None:
        client = await stage.client()
        await client.ask("ping")
        stage.control.commands.info = None  # type: ignore[assignment]  # what uses it raises AttributeError
        for _ in range(3):
            assert await client.ask("status") == [{"error": "internal error: the daemon's log has the reason"}]
        assert "pong" in (await client.ask("ping"))[0]
        assert stage.control.acceptor.errors == 3

    with capture_logs() as logs:
        play(path, scene)
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["session_failed"]


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
    """What a terminal must not get is escaped by whoever prints it."""

    async def scene(stage: Stage) -> None:
        listener = await stage.listener(mask=["DESTROY"])
        stage.router.udp(1)
        assert await flush(path, name) == '{"done":1}\n'
        assert (await listener.line())["event"]["userspace"]["program"] == shown

    play(path, scene)


def test_no_depth_of_nesting_hurts(path: Path) -> None:
    async def scene(stage: Stage) -> None:
        client = await stage.client()
        for depth in range(900, 1020):
            client.send(b'{"command": ' + b"[" * depth + b"]" * depth + b"}\n")
            assert list(await client.line()) == ["error"]
        assert "pong" in (await client.ask("ping"))[0]

    play(path, scene)


def test_a_last_request_needs_no_newline(path: Path) -> None:
    async def scene(stage: Stage) -> None:
        client = await stage.client()
        client.send(b'{"command": "count"}')
        client.writer.write_eof()
        assert await client.line() == {"count": 0, "limit": 262144}
        assert await client.line() is None

    play(path, scene)


def test_a_request_too_long_is_refused_and_the_connection_closed(path: Path) -> None:
    async def scene(stage: Stage) -> None:
        client = await stage.client()
        client.send(b"x" * (10 * LIMIT))
        assert await client.line() == {"error": f"request longer than {LIMIT} bytes"}
        client.writer.write_eof()
        assert await client.line() is None
        await stage.until(lambda: stage.control.acceptor.sessions == 0)

    play(path, scene)


def test_too_many_clients(path: Path) -> None:
    async def scene(stage: Stage) -> None:
        first, second = await stage.client(), await stage.client()
        await second.ask("ping")
        third = await stage.client()
        assert await third.line() == {"error": "too many clients (2 at most)"}
        assert await third.line() is None
        assert stage.control.refused == 1
        first.writer.close()
        await stage.until(lambda: stage.control.acceptor.sessions == 1)
        assert "pong" in (await (await stage.client()).ask("ping"))[0]

    play(path, scene, max_clients=2)


def test_a_client_that_says_nothing_is_let_go(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE", 0.05)

    async def scene(stage: Stage) -> None:
        client = await stage.client()
        assert await client.line() is None
        await stage.until(lambda: stage.control.acceptor.sessions == 0)

    play(path, scene)


def test_a_client_that_does_not_read_its_listing_is_let_go(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STALLED", 0.1)

    async def scene(stage: Stage) -> None:
        for port in range(4000):
            stage.router.udp(10000 + port)
        client = await stage.client()
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        client.send(b'{"command": "list"}\n')
        await stage.until(lambda: stage.control.acceptor.sessions == 1)
        await stage.until(lambda: stage.control.acceptor.sessions == 0)

    play(path, scene)


def test_leaving_in_the_middle_of_a_listing_is_nobodys_error(path: Path, caplog: pytest.LogCaptureFixture) -> None:
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


def test_events_in_order_only_what_was_asked_and_only_while_somebody_listens(path: Path) -> None:
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


def test_a_listener_that_does_not_read_loses_events_and_is_told_how_many(path: Path) -> None:
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
        seen, told, last = 0, 0, 0
        while seen + told < 3000:
            line = await slow.line()
            if "lost" in line:
                told += line["lost"]
            else:
                assert line["event"]["seq"] > last
                last = line["event"]["seq"]
                seen += 1
        assert told == lost

    play(path, scene)


def test_a_flush_tells_every_end_however_small_the_engines_queue(path: Path) -> None:
    async def scene(stage: Stage) -> None:
        for port in range(1000):
            stage.router.udp(10000 + port)
        stage.router.engine.core.events.limit = 100
        listener = await stage.listener(mask=["DESTROY"])
        assert await (await stage.client()).ask("flush") == [{"done": 1000}]
        reasons = [(await listener.line())["event"]["reason"] for _ in range(1000)]
        assert reasons == ["flushed"] * 1000

    play(path, scene)


def test_what_the_engines_own_queue_lost_is_told_to_everybody(path: Path) -> None:
    async def scene(stage: Stage) -> None:
        listener = await stage.listener()
        stage.router.engine.core.events.limit = 2
        for port in range(5):
            stage.router.udp(100 + port)
        stage.publish()
        assert [next(iter(await listener.line())) for _ in range(3)] == ["event", "event", "lost"]

    play(path, scene)


def test_the_file_has_its_mode_and_goes_away(path: Path) -> None:
    async def scene(stage: Stage) -> None:
        mode = path.stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
        assert [entry.name for entry in path.parent.iterdir()] == [path.name]

    play(path, scene, mode=0o600)
    assert not path.exists()


def test_the_file_of_a_dead_daemon_is_replaced(path: Path) -> None:
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()

    async def scene(stage: Stage) -> None:
        assert "pong" in (await (await stage.client()).ask("ping"))[0]

    play(path, scene)


def test_a_living_daemon_is_not_disturbed(path: Path) -> None:
    async def scene(stage: Stage) -> None:
        second = ControlServer(stage.router.engine, stage.router.clock, path=str(path))
        with pytest.raises(ConfigError, match="another daemon answers there"):
            await second.start()
        await second.stop()
        assert "pong" in (await (await stage.client()).ask("ping"))[0]

    play(path, scene)


def test_the_folder_under_run_is_made(tmp_path: Path) -> None:
    """/run is empty after a boot. Only the last part: a mistyped path makes no tree of folders."""
    path = tmp_path / "conntrackd-py" / "control.sock"
    play(path, lambda stage: asyncio.sleep(0))
    assert path.parent.stat().st_mode & 0o777 == 0o755
    with pytest.raises(ConfigError, match="No such file or directory"):
        play(tmp_path / "a" / "b" / "control.sock", lambda stage: asyncio.sleep(0))


@pytest.mark.parametrize(
    ("make", "options", "why"),
    [
        (lambda path: path.write_text("precious"), {}, "exists and is not a socket"),
        (lambda path: (path.parent.rmdir(), path.parent.write_text("no folder")), {}, "File exists"),
        (lambda path: None, {"group": "no-such-group"}, "there is no such group"),
    ],
)
def test_a_path_that_cannot_be_used_is_the_operators_mistake(
    tmp_path: Path, make: Callable[[Path], object], options: dict[str, Any], why: str
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    make(folder / "control.sock")
    with pytest.raises(ConfigError, match=why):
        play(folder / "control.sock", lambda stage: asyncio.sleep(0), **options)
    if folder.is_dir():
        assert [entry.name for entry in folder.iterdir()] in ([], ["control.sock"])
