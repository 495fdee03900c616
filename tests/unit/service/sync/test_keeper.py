"""Two daemons with a real server between them: following, gaps, losses, epochs, takeovers."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from conntrackd_py.control.protocol.requests import RefusedError
from conntrackd_py.control.sync.state import ACTIVE, STANDBY
from conntrackd_py.service.sync.frames import CHANGES, Head, pack
from conntrackd_py.service.sync.keeper import NO_JOURNAL
from tests.support.synced import Node, Scene, play
from tests.support.tools import needs
from tests.support.waiting import until

pytestmark = needs("redis-server")

QUIET_FEED = 50  # slots


def waits(node: Node) -> bool:
    return node.engine.core.standby


def test_a_standby_follows_and_takes_over(tmp_path: Path) -> None:
    async def scene(scene: Scene) -> None:
        active, standby = await scene.pair()
        active.udp(*range(1000, 1500))
        await scene.equal(active, standby)
        active.engine.flush(active.router.clock())
        active.udp(*range(1400, 1600))
        await scene.equal(active, standby)
        assert (waits(standby), waits(active), len(active.tuples())) == (True, False, 200)
        await standby.keeper.take_over(False)
        assert not waits(standby)
        await until(lambda: active.state.role == STANDBY and active.state.synced)
        assert (active.state.stepped_down, standby.state.takeovers) == (1, 1)
        assert standby.state.epoch > 1
        standby.udp(7)
        await scene.equal(standby, active)

    play(tmp_path, scene)


def test_a_standby_gets_what_was_there_before_it(tmp_path: Path) -> None:
    async def scene(scene: Scene) -> None:
        active = await scene.node("a", role="active")
        active.udp(*range(1000, 1100))
        await until(lambda: active.state.snapshots > 0 and active.state.pending == 0)
        scene.store.client().xtrim("conntrackd-py:stream", maxlen=0)
        standby = await scene.node("b")
        await scene.equal(active, standby)
        await until(lambda: standby.state.synced)

    play(tmp_path, scene)


def test_a_gap_is_seen_and_mended(tmp_path: Path) -> None:
    async def scene(scene: Scene) -> None:
        active, standby = await scene.pair()
        link = active.keeper.link
        assert link is not None
        active.keeper.sequence += 5  # frames that never came
        active.udp(1)
        await until(lambda: standby.state.gaps == 1)
        await until(lambda: standby.state.synced)
        await scene.equal(active, standby)

    play(tmp_path, scene)


def test_changes_while_the_server_is_away_arrive_afterwards(tmp_path: Path) -> None:
    async def scene(scene: Scene) -> None:
        active, standby = await scene.pair()
        active.udp(1, 2, 3)
        await scene.equal(active, standby)
        scene.store.stop()
        await until(lambda: not active.state.connected and not standby.state.connected)
        active.udp(*range(100, 200))
        assert active.keeper.state.error
        scene.store.start()
        await scene.equal(active, standby)
        assert active.state.role == ACTIVE
        assert active.state.lost == 0

    play(tmp_path, scene)


def test_what_does_not_fit_the_buffer_is_counted_and_a_snapshot_mends_it(tmp_path: Path) -> None:
    async def scene(scene: Scene) -> None:
        active, standby = await scene.pair()
        scene.store.stop()
        await until(lambda: not active.state.connected)
        active.keeper.feed.most = QUIET_FEED
        link = active.keeper.link
        assert link is not None
        while not link.full:
            link.send(active.state.epoch, b"")
        active.udp(*range(100, 100 + 3 * QUIET_FEED))
        await until(lambda: active.state.lost == 2 * QUIET_FEED)
        assert len(active.keeper.feed.changed) == QUIET_FEED
        scene.store.start()
        await scene.equal(active, standby)
        await until(lambda: standby.state.synced)

    play(tmp_path, scene)


def test_stale_state_takes_over_only_when_told_to(tmp_path: Path) -> None:
    async def scene(scene: Scene) -> None:
        active, standby = await scene.pair()
        active.udp(1)
        await scene.equal(active, standby)
        standby.state.heard -= 100_000
        link = active.keeper.link
        assert link is not None
        link.end()
        await until(lambda: not link.is_alive())
        standby.state.heard -= 100_000
        with pytest.raises(RefusedError, match=r"was heard .* s ago; --stale"):
            await standby.keeper.take_over(False)
        assert waits(standby)
        await standby.keeper.take_over(True)
        assert standby.state.role == ACTIVE
        assert standby.tuples() == active.tuples()

    play(tmp_path, scene)


def test_an_incomplete_standby_is_stale(tmp_path: Path) -> None:
    async def scene(scene: Scene) -> None:
        standby = await scene.node("b")
        await until(lambda: standby.state.connected)
        head = Head("track", CHANGES, b"another ", 3, 17, 0)
        scene.store.client().xadd("conntrackd-py:stream", {"f": pack(head)})
        await until(lambda: standby.state.epoch == 3)
        with pytest.raises(RefusedError, match="no snapshot is complete"):
            await standby.keeper.take_over(False)

    play(tmp_path, scene)


def test_the_first_of_all_takes_over_an_empty_stream(tmp_path: Path) -> None:
    async def scene(scene: Scene) -> None:
        first = await scene.node("b")
        await until(lambda: first.state.connected)
        await first.keeper.take_over(False)
        await until(lambda: first.state.epoch == 1)

    play(tmp_path, scene)


def test_without_a_server_nothing_was_ever_heard(tmp_path: Path) -> None:
    async def scene(scene: Scene) -> None:
        scene.store.stop()
        alone = await scene.node("b")
        await until(lambda: bool(alone.state.error))
        with pytest.raises(RefusedError, match="never heard"):
            await alone.keeper.take_over(False)
        await alone.keeper.take_over(True)
        alone.udp(1)
        scene.store.start()
        await until(lambda: alone.state.epoch == 1 and alone.state.snapshots == 1)

    play(tmp_path, scene)


def test_a_restart_keeps_the_role_unless_another_one_took_over(tmp_path: Path) -> None:
    async def scene(scene: Scene) -> None:
        active, standby = await scene.pair()
        epoch = active.state.epoch
        assert active.path.read_text() == f"active {epoch}"
        active.keeper.stop()
        again = await scene.node("a")
        assert again.state.role == ACTIVE
        await until(lambda: again.state.epoch == epoch + 1)
        await until(lambda: standby.state.epoch == epoch + 1 and standby.state.synced)
        again.keeper.stop()
        await standby.keeper.take_over(False)
        await until(lambda: standby.state.epoch == epoch + 2)
        late = await scene.node("a", role="active")
        await until(lambda: late.state.role == STANDBY)
        await until(lambda: late.state.synced)
        assert standby.state.role == ACTIVE

    play(tmp_path, scene)


def test_an_active_one_by_configuration_gives_way_to_one_that_publishes(tmp_path: Path) -> None:
    async def scene(scene: Scene) -> None:
        active = await scene.node("a", role="active")
        await until(lambda: active.state.frames > 0)
        other = await scene.node("b", role="active")
        await until(lambda: other.state.role == STANDBY)
        assert active.state.role == ACTIVE

    play(tmp_path, scene)


def test_frames_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    async def scene(scene: Scene) -> None:
        active, standby = await scene.pair()
        client = scene.store.client()
        wrong = pack(Head("nat", CHANGES, b"another ", 99, 0, 0))
        for fields in ({"f": b"nonsense"}, {"x": b""}, {"f": wrong}, {"f": wrong[:-1] + b"x"}):
            client.xadd("conntrackd-py:stream", fields)  # type: ignore[arg-type]  # bytes are allowed
        active.udp(1)
        await scene.equal(active, standby)
        await until(lambda: standby.state.foreign == 4)
        assert standby.state.synced

    play(tmp_path, scene)


def test_stepping_down_by_command(tmp_path: Path) -> None:
    async def scene(scene: Scene) -> None:
        active, standby = await scene.pair()
        active.keeper.stand_by()
        assert waits(active)
        assert active.path.read_text() == "standby"
        await standby.keeper.take_over(False)
        standby.udp(9)
        await until(lambda: active.state.synced)
        await scene.equal(active, standby)

    play(tmp_path, scene)


def test_a_server_that_does_not_answer_in_time_gets_frames_twice(tmp_path: Path) -> None:
    async def scene(scene: Scene) -> None:
        active, standby = await scene.pair()
        process = scene.store.process
        assert process is not None
        for port in (100, 200):
            process.send_signal(signal.SIGSTOP)
            active.udp(*range(port, port + 50))
            await until(lambda: not active.state.connected and not standby.state.connected)
            process.send_signal(signal.SIGCONT)
            await scene.equal(active, standby)
        await until(lambda: standby.state.synced)

    play(tmp_path, scene)


def test_two_takeovers_at_once_are_one(tmp_path: Path) -> None:
    async def scene(scene: Scene) -> None:
        active, standby = await scene.pair()
        active.udp(1)
        await scene.equal(active, standby)
        await asyncio.gather(*(standby.keeper.take_over(False) for _ in range(3)))
        assert (standby.state.takeovers, standby.state.role) == (1, ACTIVE)

    play(tmp_path, scene)


def test_without_a_journal_an_active_one_says_that_it_publishes_nothing(tmp_path: Path) -> None:
    async def scene(scene: Scene) -> None:
        node = await scene.node("a", role="active")
        node.keeper.journal.journal = None
        await until(lambda: node.state.error == NO_JOURNAL)

    play(tmp_path, scene)
