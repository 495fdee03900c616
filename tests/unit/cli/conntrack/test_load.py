"""-R: a file is checked whole, then carried out line by line until one fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.stage import Result, Stage
from tests.unit.cli.conntrack.test_main import HINT, NAME, play

UDP = "-s 10.0.0.1 -d 10.0.0.2 -p udp --dport 53 -t 100"
EMPTIED = f"{NAME}: connection tracking table has been emptied.\n"


def failure(text: str) -> str:
    return f"{NAME}: {text}\n"


@pytest.mark.parametrize(
    ("lines", "result", "ports"),
    [
        ([], Result(0, "", ""), []),
        (["# only a comment", "", "   "], Result(0, "", ""), []),
        ([f"-A {UDP} --sport 1", f"-I {UDP} --sport 2"], Result(0, "", ""), [1, 2]),
        ([f"-A {UDP} --sport 1", f"-A {UDP} --sport 1"], Result(0, "", ""), [1]),
        (
            [f"-A {UDP} --sport 1", f"-I {UDP} --sport 1", f"-I {UDP} --sport 2"],
            Result(1, "", failure("line 2: Operation failed: Such conntrack exists, try -U to update")),
            [1],
        ),
        ([f"-A {UDP} --sport 1", "-D -p udp", f"-A {UDP} --sport 2"], Result(0, "", ""), [2]),
        ([f"-A {UDP} --sport 1", "-F"], Result(0, "", EMPTIED), []),
        (
            [f"-A {UDP} --sport 1", "-L"],
            Result(2, "", failure("line 2: Cannot use command `-L' with --load-file") + HINT),
            [],
        ),
        (
            [f"-A {UDP} --sport 1", "", "-A -p udp"],
            Result(2, "", failure("line 3: You need to supply the `--timeout' option for this command") + HINT),
            [],
        ),
        (["-R other"], Result(2, "", failure("line 1: Cannot use command `-R' with --load-file") + HINT), []),
        (["-F expect"], Result(2, "", failure("line 1: Cannot use command `-F' with --load-file") + HINT), []),
        (["-A -s '10.0.0.1'"], Result(2, "", "line 1"), []),
    ],
)
def test_files(tmp_path: Path, lines: list[str], result: Result, ports: list[int]) -> None:
    file = tmp_path / "saved"
    file.write_text("\n".join(lines))

    async def scene(stage: Stage) -> None:
        shown = await stage.run(f"-R {file}")
        assert (shown.status, shown.out) == (result.status, result.out)
        assert result.err in shown.err
        assert bool(shown.err) == bool(result.err)
        (_, listed, _) = await stage.run("-L -o save")
        assert [int(line.split("--sport ")[1].split()[0]) for line in listed.splitlines()] == ports

    play(tmp_path, scene)


def test_an_update_in_a_file(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        ct = stage.router.udp(1000)
        file = tmp_path / "changes"
        file.write_text("-U -p udp -m 5\n")
        assert await stage.run(f"-R {file}") == (0, "", "")
        assert ct.mark == 5

    play(tmp_path, scene)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        for file in (tmp_path / "nowhere", tmp_path):
            shown = await stage.run(f"-R {file}")
            assert shown.status == 2
            assert f"Failed to open file {file} for reading" in shown.err
        (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
        assert (await stage.run(f"-R {tmp_path / 'binary'}")).status == 2

    play(tmp_path, scene)
