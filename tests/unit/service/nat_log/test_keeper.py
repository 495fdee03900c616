"""What the keeper gives to the writer: lines of real connections, lists, losses, a clock that is set."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from conntrackd_py.engine.engine import Engine
from conntrackd_py.service.nat_log import keeper as module
from conntrackd_py.service.nat_log.keeper import AGAIN, LOOK, MARK_EVERY, NatLogKeeper
from conntrackd_py.settings.schema import NatLog, Settings
from tests.support.nat_logs import BEGIN
from tests.support.play import CLIENT, ROUTER, SERVER, Play, accept, udp
from tests.support.rules import rules_of
from tests.support.waiting import until

RULES = f"""
    [[nat]]
    action = "MASQUERADE"
    out_interface = "wan"

    [[nat]]
    action = "DNAT"
    proto = "udp"
    dport = 8080
    in_interface = "wan"
    to = "{CLIENT.v4}:80"

    [[nat]]
    action = "DNAT"
    proto = "udp"
    dport = 53
    in_interface = "lan"
    to = "{SERVER.v4}:5353"
"""
BLOCKS = """
    [[nat]]
    action = "MASQUERADE"
    out_interface = "wan"
    port_block = 512
"""


class Scene:
    """A router with a NAT log. `now` is its clock in ms, apart from the conversation's."""

    def __init__(self, path: Path, rules: str = RULES, **keys: Any) -> None:
        self.path = path
        self.play = Play(4, rules_of(rules))
        self.keys = keys
        self.late = 0
        self.set = 0  # ms by which the system's clock was set
        self.keeper = NatLogKeeper(self.play.engine, self.clock, lambda: (BEGIN + self.clock() + self.set) * 1_000_000)

    def clock(self) -> int:
        return self.play.now + self.late

    @property
    def engine(self) -> Engine:
        return self.play.engine

    def configure(self, **keys: Any) -> None:
        self.keys |= keys
        self.keeper.configure(Settings(nat_log=NatLog(**{"file": str(self.path), **self.keys})))

    def look(self, ms: int = LOOK) -> None:
        self.late += ms
        self.keeper.publish()

    def connect(self, sport: int = 40000) -> None:
        assert self.play >> udp(CLIENT, SERVER, sport=sport) << accept()

    async def lines(self) -> list[dict[str, Any]]:
        """All that was given, when it is written."""
        writer = self.keeper.writer
        assert writer is not None
        await until(lambda: writer.waiting == 0)
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    async def kinds(self) -> list[str]:
        return [line["event"] for line in await self.lines() if line["event"] != "FILE"]


def played(act: Callable[[Scene], Awaitable[None]], path: Path, **keys: Any) -> Scene:
    scene = Scene(path / "nat.log", **keys)

    async def run() -> None:
        try:
            await act(scene)
        finally:
            scene.keeper.finish()

    asyncio.run(run())
    return scene


async def list_ends(scene: Scene) -> None:
    scene.look()
    await until(lambda: scene.keeper.slot < 0)


def test_a_connection_begins_is_open_and_ends(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        scene.configure()
        await list_ends(scene)
        scene.connect()
        scene.look(0)
        scene.engine.flush(scene.play.now)
        scene.look(0)
        assert await scene.kinds() == ["START", "LIST", "LISTED", "NEW", "DESTROY"]
        new, end = (await scene.lines())[-2:]
        assert new["orig"]["src"] == CLIENT.v4
        assert new["reply"]["dst"] == ROUTER.v4
        assert (new["rule"], "rule" in end) == ("nat[0]", False)
        assert end["orig"] == new["orig"]
        assert scene.engine.core.events.rules == {}

    scene = played(act, tmp_path)
    assert json.loads(scene.path.read_text().splitlines()[-1])["event"] == "STOP"


def test_both_rules_of_a_connection_are_named(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        scene.configure()
        await list_ends(scene)
        assert scene.play >> udp(CLIENT, SERVER, dport=53) << accept(dst=SERVER.v4)
        scene.look(0)
        assert (await scene.lines())[-1]["rule"] == "nat[2] nat[0]"

    played(act, tmp_path)


def test_untranslated_connections_are_left_out(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        scene.configure()
        await list_ends(scene)
        assert scene.play >> udp(SERVER, ROUTER, dport=53) << accept()
        scene.look(0)
        assert await scene.kinds() == ["START", "LIST", "LISTED"]

    played(act, tmp_path)


@pytest.mark.parametrize(("destination", "lines"), [(True, ["NEW"]), (False, [])])
def test_destination_alone(tmp_path: Path, destination: bool, lines: list[str]) -> None:
    async def act(scene: Scene) -> None:
        scene.configure(destination=destination)
        await list_ends(scene)
        assert scene.play >> udp(SERVER, ROUTER, dport=8080) << accept()
        scene.look(0)
        assert await scene.kinds() == ["START", "LIST", "LISTED", *lines]

    played(act, tmp_path)


def test_without_connections_only_blocks_have_lines(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        scene.configure(connections=False)
        await list_ends(scene)
        scene.connect()
        scene.look(0)
        assert (await scene.kinds())[-2:] == ["LISTED", "BLOCK"]
        block = (await scene.lines())[-1]
        assert (block["inside"], block["outer"], block["rule"]) == (CLIENT.v4, ROUTER.v4, "nat[0]")
        assert block["high"] - block["low"] == 511
        scene.keeper.list_wanted = True
        scene.look(AGAIN)
        await list_ends(scene)
        held = (await scene.lines())[-2]
        assert held.pop("duration") == (AGAIN + 2 * LOOK) / 1000
        assert held == block | {"event": "HELD", "time": held["time"]}
        scene.configure(blocks=False)
        assert not scene.engine.nat.blocks.recording

    played(act, tmp_path, rules=BLOCKS)


def test_open_connections_are_listed_when_the_log_begins(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        for sport in range(1000, 1600):
            scene.connect(sport)
        scene.configure()
        await list_ends(scene)
        kinds = await scene.kinds()
        assert kinds == ["START", "LIST", *["OPEN"] * 600, "LISTED"]
        assert (await scene.lines())[-1]["connections"] == 600

    played(act, tmp_path)


def test_off_it_costs_nothing(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        scene.keeper.configure(Settings())
        scene.connect()
        scene.look()
        assert scene.engine.core.events.translated is None
        assert scene.keeper.writer is None
        assert (scene.keeper.lines, scene.keeper.waiting) == (0, 0)

    scene = played(act, tmp_path)
    assert not scene.path.exists()


def test_a_reload_opens_the_file_again_and_changes_what_is_logged(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        scene.configure(connections=False)
        assert await scene.kinds() == ["START"]
        scene.path.rename(tmp_path / "former")
        scene.configure(connections=True)
        await list_ends(scene)
        await until(scene.path.exists)
        assert await scene.kinds() == ["RELOAD", "LIST", "LISTED"]
        assert (await scene.lines())[0]["connections"]

    played(act, tmp_path)


def test_another_file_and_none(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        scene.configure()
        await scene.lines()
        former, scene.path = scene.path, tmp_path / "other"
        scene.configure()
        await scene.lines()
        await until(lambda: '"STOP"' in former.read_text())
        assert json.loads(former.read_text().splitlines()[-1])["off"]
        lines = scene.keeper.lines
        scene.configure(file="")
        assert scene.keeper.writer is None
        await until(lambda: scene.keeper.lines == lines + 1)

    played(act, tmp_path)


def test_what_does_not_fit_is_lost_and_reported_and_a_list_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(scene: Scene) -> None:
        scene.path = tmp_path / "later" / "nat.log"
        scene.configure(buffer=1024)
        await list_ends(scene)
        assert scene.keeper.writer is not None
        writer = scene.keeper.writer
        await until(lambda: bool(writer.error))
        with capture_logs() as logs:
            scene.look()
            for sport in range(2000, 3200):
                scene.connect(sport)
                scene.look(0)
            scene.look()
            assert scene.keeper.lost > 0
            before = scene.keeper.lost
            scene.path.parent.mkdir()
            await until(lambda: scene.keeper.waiting == 0)
            scene.look()
        assert [line["event"] for line in logs] == [*("nat_log_failed", "nat_log_lines_lost", "nat_log_written_again")]
        lines = await scene.lines()
        (lost,) = [line for line in lines if line["event"] == "LOST"]
        assert lost["lines"] == before == scene.keeper.lost
        assert sum(line["event"] == "NEW" for line in lines) == 1200 - before
        scene.look(AGAIN)
        await until(lambda: scene.keeper.slot < 0)
        assert sum(line["event"] == "OPEN" for line in await scene.lines()) == 1200

    monkeypatch.setattr("conntrackd_py.service.nat_log.writer.RETRY", 0.05)
    played(act, tmp_path)


def test_what_the_engine_lost_is_reported_too(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        scene.configure()
        scene.keeper.queue.limit = 1
        scene.connect(1)
        scene.connect(2)
        scene.engine.nat.blocks.events_lost = 3
        scene.look(0)
        assert scene.keeper.lost == 4
        (lost,) = [line for line in await scene.lines() if line["event"] == "LOST"]
        assert lost["lines"] == 4

    played(act, tmp_path)


def test_an_idle_log_shows_that_it_goes_on(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        scene.configure()
        await list_ends(scene)
        scene.look(MARK_EVERY - 2 * LOOK)
        assert "MARK" not in await scene.kinds()
        scene.look(2 * LOOK)
        scene.look()
        assert (await scene.kinds()).count("MARK") == 1

    played(act, tmp_path)


def test_a_clock_that_is_set_is_reported(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        scene.configure()
        await list_ends(scene)
        scene.set = -3_600_000
        scene.look()
        scene.set += 999
        scene.look()
        assert [line["step"] for line in await scene.lines() if line["event"] == "CLOCK"] == [-3600]

    played(act, tmp_path)


def test_a_takeover_lists_again_and_a_standby_lists_nothing(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        scene.configure()
        scene.connect()
        await list_ends(scene)
        for standby, opened in ((True, 0), (False, 1)):
            scene.engine.core.standby = standby
            scene.look(AGAIN)
            await until(lambda: scene.keeper.slot < 0)
            assert (await scene.lines())[-1]["connections"] == opened

    played(act, tmp_path)


def test_names_of_rules_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(scene: Scene) -> None:
        scene.configure()
        names = scene.engine.core.events.rules
        assert names is not None
        names.update(dict.fromkeys(range(10_000, 10_005), "nat[0]"))
        scene.connect()
        scene.look(0)
        assert names == {}

    monkeypatch.setattr(module, "NAMES", 3)
    played(act, tmp_path)


def test_lines_that_cannot_be_written_do_not_delay_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(scene: Scene) -> None:
        scene.path = Path("/dev/full")
        scene.configure()

    monkeypatch.setattr(module, "STOPPING", 0.2)
    with capture_logs() as logs:
        played(act, tmp_path)
    assert logs[-1]["event"] == "nat_log_not_written"
    assert logs[-1]["lines"] == 3
