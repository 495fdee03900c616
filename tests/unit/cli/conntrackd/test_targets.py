"""`conntrackd-py targets` with a real daemon's socket."""

import json
from pathlib import Path

from tests.support.rules import rules_of
from tests.support.stage import Stage, play

RULES = '[[nat]]\naction = "DNAT"\nproto = "tcp"\nto = ["192.168.1.10:80 weight 3", "192.168.1.11"]'


def test_listed_marked_down_and_up(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        assert await stage.run("targets") == (0, "no DNAT rule has several targets\n", "")
        stage.router.engine.nat.replace_rules(rules_of(RULES))
        up = "nat[0]  192.168.1.10:80  weight 3  up    0 connections\n"
        down = "nat[0]  192.168.1.11     weight 1  down  0 connections\n"
        assert await stage.run("targets down 192.168.1.11") == (0, up + down, "")
        assert json.loads((await stage.run("targets --json")).out)[1]["down"] is True
        assert "targets       1 of 2 up; down: 192.168.1.11\n" in (await stage.run("status")).out
        assert (await stage.run("targets up 192.168.1.11:0")).out == up + down.replace("down", "up  ")
        refused = await stage.run("targets down 192.168.1.9")
        assert refused == (1, "", "conntrackd-py targets: Operation failed: no rule has a target 192.168.1.9\n")
        assert (await stage.run("targets down")).status == 2

    play(tmp_path / "control.sock", scene)
