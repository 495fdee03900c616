"""`conntrackd-py mappings` and `conntrack-py -L mappings` with a real daemon's socket."""

import json
from pathlib import Path

import pytest

from tests.conversations.test_mapping import cone
from tests.support.play import CLIENT, ROUTER, SERVER, accept, advance, udp
from tests.support.stage import CONNTRACK_PY, CONNTRACKD_PY, Stage, play


@pytest.mark.parametrize("family", [4, 6])
def test_listed(tmp_path: Path, family: int) -> None:
    inside, outer = (CLIENT.v4, ROUTER.v4) if family == 4 else (f"[{CLIENT.v6}]", f"[{ROUTER.v6}]")
    line = f"udp  {inside}:40000 -> {outer}:40000  nat[0]  filtering address  "
    router = cone(family, "address", nat_mapping_lifetime=60, nat_port_rest=90)

    async def scene(stage: Stage) -> None:
        stage.control.commands.clock = lambda: router.now
        stage.control.commands.engine = router.engine
        assert await stage.run("mappings") == (0, "no endpoint-independent mapping\n", "")
        assert await stage.run("mappings --json") == (0, "", "")
        assert router >> udp(CLIENT, SERVER) << accept()
        assert await stage.run("mappings") == (0, f"{line}1 connections  lifetime 60 s\n", "")
        listed = await stage.run("mappings")
        stage.program = CONNTRACK_PY
        shown = await stage.run("-L mappings")
        assert (shown.status, shown.out) == (0, listed.out)
        assert shown.err.endswith(": 1 mappings have been shown.\n")
        assert json.loads((await stage.run("-L mappings -o json")).out)["inside_port"] == 40000
        stage.program = CONNTRACKD_PY
        row = json.loads((await stage.run("mappings --json")).out)
        assert (row["proto"], row["inside_port"], row["expires"], row["rests"]) == ("udp", 40000, 60, 90)
        assert router >> advance(40)
        assert await stage.run("mappings") == (0, f"{line}0 connections  lifetime 50 s\n", "")
        assert router >> advance(60)
        assert await stage.run("mappings") == (0, f"{line}0 connections  closed, port rests 80 s\n", "")

    play(tmp_path / "control.sock", scene)


def test_without_a_daemon(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await stage.control.stop()
        found = await stage.run("mappings")
        assert (found.status, found.out) == (1, "")
        assert found.err.startswith("conntrackd-py mappings: no daemon listens on ")

    play(tmp_path / "control.sock", scene)
