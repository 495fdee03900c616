"""The file of the control socket: mode, replacement, removal, and mistakes of the operator."""

from __future__ import annotations

import asyncio
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conntrackd_py.control.server import ControlServer
from conntrackd_py.settings.errors import ConfigError
from tests.support.stage import Stage, play


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


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
    ("make", "options", "why", "left"),
    [
        (lambda path: path.write_text("precious"), {}, "exists and is not a socket", ["control.sock"]),
        (lambda path: (path.parent.rmdir(), path.parent.write_text("no folder")), {}, "File exists", []),
        (lambda path: None, {"group": "no-such-group"}, "there is no such group", []),
    ],
)
def test_a_path_that_cannot_be_used_is_the_operators_mistake(
    tmp_path: Path, make: Callable[[Path], object], options: dict[str, Any], why: str, left: list[str]
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    make(folder / "control.sock")
    with pytest.raises(ConfigError, match=why):
        play(folder / "control.sock", lambda stage: asyncio.sleep(0), **options)
    assert [entry.name for entry in folder.glob("*")] == left
