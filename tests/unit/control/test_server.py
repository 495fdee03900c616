"""The control socket itself: requests it cannot read, clients that behave badly, and their limits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from conntrackd_py.control import server as module
from tests.support.stage import LIMIT, Stage, play


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


def test_an_error_may_quote_bytes_that_are_not_utf8() -> None:
    assert json.loads(module.error_line("no file /etc/\udcff")) == {"error": "no file /etc/\\udcff"}
