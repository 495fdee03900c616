"""`conntrackd-py top` as a process: text and JSON on a pipe, and live on a real terminal."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import signal
import struct
import sys
import termios
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from conntrackd_py.conntrack.tunables import Tunables
from tests.support import packets
from tests.support.stage import Stage, Ticking, play
from tests.support.waiting import until

ALTERNATE, ORDINARY = "\x1b[?1049h", "\x1b[?1049l"
CURSOR = "\x1b[?25h"
HOME = "\x1b[H"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def router(*, accounting: bool = True) -> Ticking:
    made = Ticking(tunables=Tunables(nf_conntrack_acct=accounting))
    for port in range(2):
        made.established(40000 + port)
    for port in range(3):
        made.udp(1000 + port, src="10.0.0.9")
    made.forward(packets.udp("fd00::1", "fd00::2", 1, 2, b"six"))
    return made


# --- without a terminal -----------------------------------------------------------------------------------


def test_one_frame_as_plain_text(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        status, out, err = await stage.run("top", "-i", "0.5", env={"COLUMNS": "80"})
        assert (status, err) == (0, "")
        assert "\x1b" not in out
        assert max(len(line.rstrip()) for line in out.splitlines()) <= 80
        assert re.search(r"^table      ·+ 6 of 262,144, < 0\.1 %   unconfirmed 0, dying 0$", out, re.MULTILINE)
        hosts = re.findall(r"^(\S+) +(\d+) +0 +0 +0 +0 *$", out, re.MULTILINE)
        assert hosts == [("10.0.0.9", "3"), ("10.0.0.1", "2"), ("fd00::1", "1")]
        assert "udp 4" in out
        assert "tcp 2  ESTABLISHED 2" in out

    play(tmp_path / "control.sock", scene, router=router())


def test_without_accounting_a_line_reports_it(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        out = (await stage.run("top", "--once", "-i", "0.5", "-6")).out
        assert re.search(r"^fd00::1 +1 +0 +- +- +- *$", out, re.MULTILINE)
        assert "1 of 3 hosts; no packets and bytes: nf_conntrack_acct is off" in out

    play(tmp_path / "control.sock", scene, router=router(accounting=False))


def test_json_for_scripts(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        words = ("top", "--json", "--count", "2", "-i", "0.5", "--hosts", "1", "--sort", "new", "-4")
        status, out, err = await stage.run(*words)
        assert (status, err) == (0, "")
        first, second = (json.loads(line) for line in out.splitlines())
        for made in (first, second):
            assert made["interval"] >= 0.5
            assert len(made["hosts"]) == 1
            assert made["hosts"][0]["packets_per_second"] == 0
        once = json.loads((await stage.run("top", "--once", "--json", "-i", "0.5")).out)
        assert [host["address"] for host in once["hosts"]] == ["10.0.0.9", "10.0.0.1", "fd00::1"]
        assert once["entries"] == 6

    play(tmp_path / "control.sock", scene, router=router())


def test_without_a_daemon(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        missing = f"{tmp_path}/none.sock"
        told = f"conntrackd-py top: no daemon listens on {missing}\n"
        assert await stage.run("top", "--socket", missing) == (1, "", told)
        assert await stage.run("top", "--json", "--socket", missing) == (1, "", told)

    play(tmp_path / "control.sock", scene)


# --- on a terminal ----------------------------------------------------------------------------------------


class Screen:
    """A terminal, with `top` in it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.said = ""
        self.master, self.slave = pty.openpty()
        self.size(24, 80)
        self.before = termios.tcgetattr(self.slave)
        os.set_blocking(self.master, False)

    async def start(self, *words: str) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "conntrackd_py.cli.conntrackd.main", "top", "--socket", str(self.stage.path)),
            *words,
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "", "LINES": ""},
        )
        asyncio.get_running_loop().add_reader(self.master, self._read)

    def size(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: str) -> None:
        self.said = ""
        os.write(self.master, keys.encode())

    async def until(self, condition: Callable[[str], object]) -> None:
        """Wait until the output since the last key satisfies the condition."""
        await until(lambda: condition(self.said))

    async def shows(self, text: str) -> None:
        await self.until(lambda said: text in ESCAPES.sub("", said))

    async def ended(self) -> int:
        async with asyncio.timeout(20):
            status = await self.process.wait()
        await asyncio.sleep(0)
        self._read()
        return status

    def widest(self) -> int:
        return max(len(line) for frame in self.said.split(HOME) for line in ESCAPES.sub("", frame).splitlines())

    async def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.master)
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        os.close(self.master)
        os.close(self.slave)

    def _read(self) -> None:
        try:
            while data := os.read(self.master, 65536):
                self.said += data.decode()
        except BlockingIOError:
            return


def on_screen(tmp_path: Path, scene: Callable[[Screen], Awaitable[None]], *words: str, **options: Any) -> None:
    async def run(stage: Stage) -> None:
        screen = Screen(stage)
        await screen.start("-i", "0.5", *words)
        try:
            await screen.shows("10.0.0.9")
            await scene(screen)
        finally:
            await screen.close()

    options.setdefault("router", router())
    play(tmp_path / "control.sock", run, **options)


def restored(screen: Screen) -> bool:
    """Whether the terminal is as it was."""
    return (
        screen.said.rsplit(HOME, 1)[-1].count(ORDINARY) == 1
        and CURSOR in screen.said
        and termios.tcgetattr(screen.slave) == screen.before
    )


def test_a_live_view_and_its_keys(tmp_path: Path) -> None:
    async def scene(screen: Screen) -> None:
        assert ALTERNATE in screen.said
        assert termios.tcgetattr(screen.slave) != screen.before
        assert "hosts by connections" in ESCAPES.sub("", screen.said)
        for key, shown in (("b", "hosts by bit/s, IPv4 and"), ("n", "hosts by new/s, IPv4 and"), ("6", "new/s, IPv6")):
            screen.type(key)
            await screen.shows(shown)
        await screen.until(lambda said: "10.0.0.9" not in said.split(HOME)[-1] and "fd00::1" in said.split(HOME)[-1])
        screen.type("4c")
        await screen.shows("hosts by connections, IPv4")
        screen.type("a")
        await screen.until(lambda said: "fd00::1" in said and "10.0.0.9" in said)
        screen.type("q")
        assert await screen.ended() == 0
        assert restored(screen)

    on_screen(tmp_path, scene)


def test_it_fills_the_window_also_when_that_changes(tmp_path: Path) -> None:
    async def scene(screen: Screen) -> None:
        assert screen.widest() == 80
        screen.said = ""
        screen.size(40, 120)
        await screen.until(lambda said: screen.widest() == 120 if said else False)
        screen.type("q")
        assert await screen.ended() == 0

    on_screen(tmp_path, scene, "-i", "60")


def test_hosts_never_push_the_keys_off_the_screen(tmp_path: Path) -> None:
    crowded = router()
    for number in range(50):
        crowded.udp(src=f"10.3.0.{number}")

    async def scene(screen: Screen) -> None:
        for rows in (24, 18):
            screen.said = ""
            screen.size(rows, 80)
            await screen.until(lambda said: HOME in said and "q quit" in said.rsplit(HOME, 1)[-1])
            lines = ESCAPES.sub("", screen.said.rsplit(HOME, 1)[-1]).splitlines()
            assert len(lines) == rows
            assert lines[-1].startswith("q quit")
        screen.type("q")
        assert await screen.ended() == 0

    on_screen(tmp_path, scene, router=crowded)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_the_terminal_is_as_before(tmp_path: Path, number: signal.Signals) -> None:
    async def scene(screen: Screen) -> None:
        screen.process.send_signal(number)
        assert await screen.ended() == 0
        assert restored(screen)

    on_screen(tmp_path, scene)


def test_ctrl_c_ends_it_and_ctrl_z_is_no_key(tmp_path: Path) -> None:
    async def scene(screen: Screen) -> None:
        assert termios.tcgetattr(screen.slave)[6][termios.VSUSP] == b"\0"
        screen.type("\x1a")
        await screen.shows("10.0.0.9")
        os.write(screen.master, b"\x03")
        assert await screen.ended() == 0
        assert restored(screen)

    on_screen(tmp_path, scene)


def test_a_count_of_frames_ends_it(tmp_path: Path) -> None:
    async def scene(screen: Screen) -> None:
        assert await screen.ended() == 0
        assert restored(screen)

    on_screen(tmp_path, scene, "--count", "2")


def test_the_end_of_the_daemon_is_reported_on_the_normal_screen(tmp_path: Path) -> None:
    async def scene(screen: Screen) -> None:
        await screen.stage.control.stop()
        assert await screen.ended() == 1
        assert restored(screen)
        assert f"conntrackd-py top: no daemon listens on {screen.stage.path}" in screen.said.rsplit(ORDINARY)[-1]

    on_screen(tmp_path, scene)
