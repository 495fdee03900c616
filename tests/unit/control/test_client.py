"""The commands against a daemon that says nothing: a real process, stopped by a signal."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conntrackd_py.cli.conntrack import main as conntrack
from conntrackd_py.cli.conntrackd import diff
from conntrackd_py.cli.conntrackd import main as conntrackd_py
from conntrackd_py.control import client as module
from conntrackd_py.control.client import Client, ClientError
from conntrackd_py.control.commands import Send
from conntrackd_py.control.protocol.requests import Events, Filter, Flush, List, Ping
from tests.support.stage import Stage, play

TUPLE = "-s 10.0.0.1 -d 10.0.0.2 -p udp --sport 1 --dport 2"
TCP = "-s 10.0.0.1 -d 10.0.0.2 -p tcp --sport 1 --dport 2"
DAEMON = """
import asyncio, sys
from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.conntrack.tunables import Tunables
from conntrackd_py.engine.engine import Engine
from conntrackd_py.service.clock import clock
from conntrackd_py.control.server import ControlServer
async def main():
    await ControlServer(Engine(Tunables(), Repeatable(), mode="track"), clock, path=sys.argv[1]).start()
    print("ready", flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


@pytest.fixture
def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The control socket of a daemon that is stopped."""
    path = tmp_path / "control.sock"
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    monkeypatch.setenv("CONNTRACKD_PY_SOCKET", str(path))
    with subprocess.Popen([sys.executable, "-c", DAEMON, str(path)], stdout=subprocess.PIPE) as daemon:
        try:
            assert daemon.stdout is not None
            assert daemon.stdout.readline() == b"ready\n"
            daemon.send_signal(signal.SIGSTOP)
            os.waitpid(daemon.pid, os.WUNTRACED)
            yield path
        finally:
            daemon.kill()


@pytest.mark.parametrize(
    "line",
    [
        *("-L", "-L -o json", "-L dying", "-L expect", "-C", "-C expect", "-S", "-F", "-F expect", "-E", "-E expect"),
        *("-D -p udp", "-U -p udp -m 1", f"-G {TUPLE}", f"-I {TUPLE} -t 5", f"-A {TUPLE} -t 5", f"-G expect {TCP}"),
    ],
)
def test_conntrack_py_gives_up(stopped: Path, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert conntrack.main(line.split()) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.endswith(f"the daemon on {stopped} does not answer: it is stopped or overloaded\n")


def test_loading_a_file_gives_up(stopped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "saved"
    file.write_text(f"-I {TUPLE} -t 5\n")
    assert conntrack.main(["-R", str(file)]) == 1
    assert "line 1: the daemon" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["status", "status --json", "top --once", "top --json", "explain --recent"])
def test_conntrackd_py_gives_up(stopped: Path, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert conntrackd_py.main(line.split()) == 1
    assert f"the daemon on {stopped} does not answer" in capsys.readouterr().err


def test_diff_gives_up(stopped: Path) -> None:
    with pytest.raises(ClientError, match="does not answer"):
        diff.of_daemon(str(stopped))


def test_not_even_a_connection_is_to_be_had(stopped: Path) -> None:
    waiting: list[socket.socket] = []
    errors = [0]
    while errors[-1] == 0 and len(waiting) < 1000:
        waiting.append(socket.socket(socket.AF_UNIX))
        waiting[-1].setblocking(False)
        errors.append(waiting[-1].connect_ex(str(stopped)))
    assert errors[-1] == errno.EAGAIN
    with pytest.raises(ClientError, match="does not answer"):
        Client(str(stopped))
    for one in waiting:
        one.close()


def test_an_order_that_takes_long_is_waited_for(tmp_path: Path) -> None:
    """The answer to a ping says that the daemon lives."""
    path = tmp_path / "control.sock"

    def count() -> int:
        with Client(str(path), patience=0.05) as client:
            return int(next(client.ask(Flush()))["done"])

    async def scene(stage: Stage) -> None:
        stage.router.udp(1)
        pings = 0
        ping = stage.control.commands.by_type[Ping]

        async def counted(request: Ping, send: Send) -> None:
            nonlocal pings
            pings += 1
            await ping(request, send)

        stage.control.commands.by_type[Ping] = counted
        async with stage.control.commands.walker.turn:  # another walk is in its turn
            counting = asyncio.create_task(asyncio.to_thread(count))
            async with asyncio.timeout(30):
                while pings < 5:
                    await asyncio.sleep(0.01)
        assert await counting == 1

    play(path, scene)


def test_events_are_waited_for_without_an_end(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"

    def listen() -> str:
        reading, _ = ends
        with Client(str(path), patience=0.05) as client:
            lines = client.ask(Events(), stop=reading)
            assert "buffer" in next(lines)
            return str(next(lines)["event"]["event"])

    async def scene(stage: Stage) -> None:
        listening = asyncio.create_task(asyncio.to_thread(listen))
        async with asyncio.timeout(30):
            while not stage.control.publisher.subscribers:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        assert not listening.done()
        stage.router.udp(1)
        stage.control.publisher.publish()
        assert await listening == "NEW"

    ends = os.pipe()
    try:
        play(path, scene)
    finally:
        for end in ends:
            os.close(end)


def test_a_request_that_is_not_utf8_is_an_error_of_the_client(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"

    def list_it() -> None:
        with Client(str(path)) as client:
            next(client.ask(List(filter=Filter(interface="\udcff"))))

    async def scene(stage: Stage) -> None:
        with pytest.raises(ClientError, match="not UTF-8"):
            await asyncio.to_thread(list_it)

    play(path, scene)
