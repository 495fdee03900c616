"""The hold of the steering guard over a real control socket; the guard is one that writes down what it is told."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from conntrackd_py.control.status import DaemonInfo
from conntrackd_py.control.steering import Hold, Steering, network
from tests.support.stage import Stage, play
from tests.support.waiting import until


class Notes(Hold):
    def __init__(self) -> None:
        self.told: list[str] = []

    async def begin(self) -> None:
        self.told.append("begin")

    async def trial(self) -> None:
        self.told.append("trial")

    async def end(self, done: bool) -> None:
        self.told.append(f"end {done}")


def begin(**change: object) -> dict[str, object]:
    return {"command": "steering", "network": network(), **change}


def told(tmp_path: Path, lines: list[dict[str, object]]) -> tuple[list[str], list[Any]]:
    """What the guard was told, and the answers to these lines, each awaited before the next is sent."""
    info, notes, answers = DaemonInfo(), Notes(), []
    info.steering.hold = notes

    async def scene(stage: Stage) -> None:
        reader, writer = await asyncio.open_unix_connection(tmp_path / "control.sock")
        for line in lines:
            writer.write(json.dumps(line).encode() + b"\n")
            answers.append(json.loads(await reader.readline()))
        writer.close()
        begun = notes.told.count("begin")
        await until(lambda: len([one for one in notes.told if one.startswith("end")]) == begun)

    play(tmp_path / "control.sock", scene, info=info)
    return notes.told, answers


DONE: dict[str, object] = {"command": "steering", "step": "done"}
TRIAL: dict[str, object] = {"command": "steering", "step": "trial"}


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        ([begin(), DONE], ["begin", "end True"]),
        ([begin(), TRIAL, DONE], ["begin", "trial", "end True"]),
        ([begin()], ["begin", "end False"]),
        ([begin(), TRIAL], ["begin", "trial", "end False"]),
        ([begin(), DONE, begin()], ["begin", "end True", "begin", "end False"]),
        ([begin(network=1)], []),
        ([begin(), {"command": "ping"}], ["begin", "end False"]),
    ],
)
def test_what_the_guard_is_told(tmp_path: Path, lines: list[dict[str, object]], wanted: list[str]) -> None:
    assert told(tmp_path, lines)[0] == wanted


def test_a_line_that_is_no_step_ends_the_hold(tmp_path: Path) -> None:
    assert told(tmp_path, [begin(), {"nonsense": 1}]) == (
        ["begin", "end False"],
        [{"steering": Steering().report()}] * 2,
    )


def test_the_answer_for_another_network_is_empty(tmp_path: Path) -> None:
    assert told(tmp_path, [begin(network=1)])[1] == [{"steering": {}}]


def test_done_needs_a_hold(tmp_path: Path) -> None:
    assert told(tmp_path, [DONE])[1] == [{"error": "steering begins with step begin"}]


def test_a_daemon_without_a_guard_refuses(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        assert "does not guard" in (await stage.ask("steering", network=network()))["error"]

    play(tmp_path / "control.sock", scene)
