"""`conntrackd-py export` and `import` as processes, with the socket of a real daemon."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.stage import Result, Stage, play
from tests.unit.control.transfer.test_transfer import fill

SAID = "conntrackd-py import: "


def exported(path: Path, *words: str) -> Result:
    found: list[Result] = []

    async def scene(stage: Stage) -> None:
        fill(stage.router)
        found.append(await stage.run("export", *words))

    play(path, scene, max_request=65536)
    return found[0]


def imported(path: Path, file: Path, *words: str) -> list[Result]:
    """Twice."""
    found: list[Result] = []

    async def scene(stage: Stage) -> None:
        found.append(await stage.run("import", str(file), *words))
        found.append(await stage.run("import", str(file), *words))

    play(path, scene, max_request=65536)
    return found


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


@pytest.fixture
def lines(socket: Path) -> list[str]:
    return exported(socket).out.splitlines()


def write(socket: Path, lines: list[str]) -> Path:
    file = socket.with_name("table.jsonl")
    file.write_text("".join(f"{line}\n" for line in lines))
    return file


def test_the_file_has_a_head_and_a_count(lines: list[str]) -> None:
    head, last = json.loads(lines[0])["export"], json.loads(lines[-1])
    assert (head["format"], head["version"], head["mode"]) == ("conntrackd-py connections", 2, "track")
    assert last == {"connections": len(lines) - 2}


def test_an_import_can_be_repeated(socket: Path, lines: list[str]) -> None:
    first, second = imported(socket, write(socket, lines))
    assert first == (0, "5 imported, 0 existed\n", "")
    assert second == (0, "0 imported, 5 existed\n", "")


def test_it_continues_at_a_line(socket: Path, lines: list[str]) -> None:
    first, _ = imported(socket, write(socket, lines), "--from", "5", "--json")
    assert json.loads(first.out) == {"outcomes": {"imported": 2}, "complete": True}


def test_a_truncated_file_is_recognised(socket: Path, lines: list[str]) -> None:
    text = f"{SAID}the file is truncated or damaged: 4 connections found, no last line\n"
    assert imported(socket, write(socket, lines[:-2]))[0] == (1, "4 imported, 0 existed\n", text)


def test_a_line_that_is_missing_in_the_middle(socket: Path, lines: list[str]) -> None:
    text = f"{SAID}the file is truncated or damaged: 4 connections found, its last line announces 5\n"
    assert imported(socket, write(socket, lines[:2] + lines[3:]))[0] == (1, "4 imported, 0 existed\n", text)


def test_wrong_lines_are_named_and_the_others_imported(socket: Path, lines: list[str]) -> None:
    damaged: dict[str, Any] = json.loads(lines[2])
    damaged["connection"]["mark"] = "x"
    first, _ = imported(socket, write(socket, [*lines[:2], json.dumps(damaged), "{", *lines[3:]]))
    assert first.status == 3
    assert first.out == "4 imported, 0 existed, 2 wrong\n"
    assert f"{SAID}line 3: Expected `int`, got `str` - at `$.mark`\n" in first.err
    assert f"{SAID}line 4: not JSON: " in first.err


@pytest.mark.parametrize(
    ("head", "why"),
    [
        ("hello", "line 1: not an export of conntrackd-py"),
        ('{"a": 1}', "line 1: not an export of conntrackd-py"),
        ('{"export": 7}', "line 1: not an export of conntrackd-py"),
        (
            '{"export": {"format": "conntrackd-py connections", "version": 3}}',
            "line 1: version 3 of conntrackd-py connections; this program reads version 2 of conntrackd-py connections",
        ),
    ],
)
def test_another_file_or_version(socket: Path, lines: list[str], head: str, why: str) -> None:
    assert imported(socket, write(socket, [head, *lines[1:]]))[0] == (1, "", f"{SAID}{why}\n")


def test_no_file(socket: Path) -> None:
    (first, _) = imported(socket, socket.with_name("none"))
    assert (first.status, first.err) == (1, f"{SAID}{socket.with_name('none')}: No such file or directory\n")


def test_hundreds_of_errors_are_counted_and_not_all_printed(socket: Path, lines: list[str]) -> None:
    first, _ = imported(socket, write(socket, [lines[0], *["{}"] * 300, *lines[1:]]))
    assert first.out == "5 imported, 0 existed, 300 wrong\n"
    assert len(first.err.splitlines()) == 51


def test_an_export_of_the_former_version(socket: Path, lines: list[str]) -> None:
    """It has no expectations."""
    head = lines[0].replace('"version":2', '"version":1')
    assert imported(socket, write(socket, [head, *lines[1:]]))[0] == (0, "5 imported, 0 existed\n", "")
