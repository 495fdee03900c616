"""`conntrackd-py sync`: its lines, and a daemon without [sync]."""

from pathlib import Path

from conntrackd_py.cli.conntrackd.sync import in_order, lines
from conntrackd_py.control.sync.state import ACTIVE, STANDBY, SyncState
from tests.support.stage import Stage, play


def standby() -> SyncState:
    state = SyncState()
    state.role, state.connected, state.synced, state.epoch = STANDBY, True, True, 4
    state.clock, state.heard, state.lag, state.records, state.frames = lambda: 3000, 2500, 12, 7000, 90
    return state


def test_a_standby() -> None:
    state = standby()
    assert in_order(state.report())
    assert lines(state.report()) == [
        "standby, epoch 4, server connected",
        "complete: heard 0.5 s ago, lag 0.012 s, gaps 0",
        "applied 7,000 records in 90 frames, 0 snapshots; pending 0",
    ]
    state.synced, state.heard, state.older, state.refused = False, -1, 3, {"tuple_taken": 1}
    assert not in_order(state.report())
    assert lines(state.report())[1] == "INCOMPLETE: nothing heard, gaps 0"
    assert lines(state.report())[3] == "ignored: tuple taken 1, older epoch 3"


def test_an_active_one_without_its_server() -> None:
    state = standby()
    state.role, state.connected, state.error, state.lost = ACTIVE, False, "refused\x1b", 5
    assert not in_order(state.report())
    assert lines(state.report()) == [
        "active, epoch 4, server NOT connected",
        "error: refused\\x1b",
        "published 7,000 records in 90 frames, 0 snapshots; pending 0, lost 5",
    ]


def test_a_daemon_without_sync(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        for action in ("status", "takeover", "standby"):
            refused = await stage.run(f"sync {action}")
            text = "conntrackd-py sync: this daemon has no [sync] in its configuration\n"
            assert refused == (1, "", text)
        assert "sync" not in (await stage.run("status")).out

    play(tmp_path / "control.sock", scene)
