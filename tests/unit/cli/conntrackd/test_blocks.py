"""`conntrackd-py blocks` with a real daemon's socket."""

import json
from pathlib import Path

import pytest

from tests.conversations.test_blocks import carrier, port_of, text_of
from tests.support.play import CLIENT, SERVER, accept, advance, ping, udp
from tests.support.stage import Stage, play


@pytest.mark.parametrize("family", [4, 6])
def test_listed(tmp_path: Path, family: int) -> None:
    outer = "203.0.113.0" if family == 4 else "[2001:db8:9::]"
    router = carrier(family, ports="1024-1039", nat_port_rest=90)

    async def scene(stage: Stage) -> None:
        stage.control.commands.clock = lambda: router.now
        stage.control.commands.engine = router.engine
        assert await stage.run("blocks") == (0, "no port block\n", "")
        assert await stage.run("blocks --json") == (0, "", "")
        for sport in (1, 2):
            port_of(router, udp(CLIENT, SERVER, sport=sport))
        assert router >> advance(5)
        assert router >> ping(CLIENT, SERVER) << accept()
        line = f"{text_of(CLIENT, family)} -> {outer}:1024-1039  nat[0]  used "
        icmp = "icmp 1, udp 2" if family == 4 else "udp 2, icmpv6 1"
        assert await stage.run("blocks") == (0, f"{line}{icmp}  5 s\n", "")
        row = json.loads((await stage.run("blocks --json")).out)
        assert (row["inside"], row["ports"], row["contested"]) == (text_of(CLIENT, family), [1024, 1039], False)
        assert router >> advance(40)
        assert await stage.run("blocks") == (0, f"{line}none, released in 80 s  45 s\n", "")
        (block,) = [block for _, block in router.engine.nat.blocks.by_place.items()]
        block.contested, block.host = True, b"\0\7" + block.inside
        found = (await stage.run("blocks")).out
        assert found.startswith(f"{text_of(CLIENT, family)} zone 7 -> ")
        assert found.endswith("  contested: two hosts hold it\n")

    play(tmp_path / "control.sock", scene)


def test_without_a_daemon(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await stage.control.stop()
        found = await stage.run("blocks")
        assert (found.status, found.out) == (1, "")
        assert found.err.startswith("conntrackd-py blocks: no daemon listens on ")

    play(tmp_path / "control.sock", scene)
