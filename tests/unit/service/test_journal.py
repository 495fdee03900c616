"""The daemon's journal on a real file: restart, crash, damage, another configuration, a reboot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from conntrackd_py.conntrack.journal import HEADER_SIZE, PULSE_AT, RECORD
from conntrackd_py.conntrack.randomness import Repeatable
from conntrackd_py.control.journal import JournalState
from conntrackd_py.engine.engine import Engine
from conntrackd_py.service import journal as service
from conntrackd_py.service import journal_file
from conntrackd_py.service.journal import JournalKeeper
from conntrackd_py.service.journal_file import JournalFile
from conntrackd_py.service.side_records import LINKS
from conntrackd_py.settings.schema import Journal, Settings
from tests.support.invariants import check
from tests.support.router import Router

SIDE = 4096 + LINKS
SETTINGS = Settings(mode="track")


class Life:
    """One daemon: a router, its journal, and time that tests move."""

    def __init__(self, path: Path, now: int = 1_000_000, settings: Settings = SETTINGS) -> None:
        self.router = Router()
        self.router.now = now
        self.router.engine = Engine(settings.tunables, Repeatable(), mode=settings.mode)
        for index, name in ((1, "lan"), (2, "wan")):
            self.router.engine.set_interface(index, name, [], now)
        self.state = JournalState()
        self.keeper = JournalKeeper(self.router.engine, settings, path, self.state, self.router.clock)
        asyncio.run(self.keeper.start(lambda: None))
        check(self.router.engine)

    def crash(self) -> None:
        self.keeper.turn()
        self.keeper.close()

    def stop(self) -> None:
        self.keeper.finish()
        self.keeper.close()

    @property
    def entries(self) -> int:
        return len(self.router.engine.core.table)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def record_at(path: Path, number: int) -> int:
    return HEADER_SIZE + (SIDE + number) * RECORD


def test_the_first_start_makes_a_file(path: Path) -> None:
    life = Life(path)
    assert (life.state.error, life.state.away, life.state.restored) == ("", -1, 0)
    assert path.exists()


@pytest.mark.parametrize("end", [Life.crash, Life.stop])
def test_connections_live_on(path: Path, end: Callable[[Life], None]) -> None:
    life = Life(path)
    was = [life.router.established(), life.router.udp_answered(1000)]
    end(life)
    again = Life(path, now=1_002_000)
    assert again.state.restored == again.entries == 2
    assert again.state.away == 2000
    assert again.router.udp_answered(1000).id == was[1].id
    end(again)
    assert Life(path, now=1_003_000).entries == 2


def test_turns_write_what_was_refreshed(path: Path) -> None:
    life = Life(path)
    life.router.udp(1000)
    life.router.now += 20_000
    life.router.udp(1000)
    assert life.keeper.turn() == service.LATEST
    life.keeper.close()
    again = Life(path, now=1_020_500)
    ct = again.router.engine.core.table.at(0)
    assert ct is not None
    assert 29_500 <= ct.timeout - again.router.now <= 30_000


def test_much_to_write_brings_the_next_turn_forward(path: Path) -> None:
    life = Life(path)
    for at in range(service.WRITES + 1):
        life.router.udp(1000 + at).timeout += 60_000
    assert life.keeper.turn() == service.SOON
    assert life.keeper.turn() == service.LATEST


def test_a_damaged_record_is_lost_and_the_others_are_kept(path: Path) -> None:
    life = Life(path)
    for at in range(3):
        life.router.udp(1000 + at)
    life.stop()
    whole = bytearray(path.read_bytes())
    whole[record_at(path, 1) + 40] ^= 1
    path.write_bytes(whole)
    again = Life(path)
    assert (again.entries, again.state.damaged) == (2, 1)
    aside = Path(again.state.aside)
    assert aside.read_bytes()[record_at(path, 1) + 40] == whole[record_at(path, 1) + 40]
    again.crash()
    third = Life(path)
    assert (third.entries, third.state.damaged) == (2, 0)


@pytest.mark.parametrize("size", [0, 100, HEADER_SIZE, HEADER_SIZE + RECORD, record_at(Path(), 1) + 50])
def test_a_truncated_file(path: Path, size: int) -> None:
    life = Life(path)
    for at in range(3):
        life.router.udp(1000 + at)
    life.stop()
    with path.open("r+b") as file:
        file.truncate(size)
    again = Life(path)
    assert again.state.error == ""
    assert again.state.aside
    assert again.entries == (1 if size > record_at(path, 1) else 0)
    again.router.udp(1)
    again.crash()
    assert Life(path).entries == again.entries


def test_a_foreign_file_is_set_aside(path: Path) -> None:
    path.write_bytes(b"precious" * 1000)
    life = Life(path)
    assert life.state.error == ""
    assert Path(life.state.aside).read_bytes() == b"precious" * 1000


def test_a_newer_file_is_set_aside(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_file, "VERSION", 2)
    newer = Life(path)
    newer.router.udp()
    newer.stop()
    monkeypatch.undo()
    life = Life(path)
    assert (life.entries, life.state.error) == (0, "")
    assert Path(life.state.aside).exists()


def test_another_mode_starts_anew(path: Path) -> None:
    life = Life(path)
    life.router.udp()
    life.stop()
    again = Life(path, settings=replace(SETTINGS, mode="nat"))
    assert again.entries == 0
    assert again.state.aside


def test_another_size_of_the_table(path: Path) -> None:
    life = Life(path)
    life.router.udp()
    life.stop()
    tunables = replace(SETTINGS.tunables, nf_conntrack_expect_max=10, nf_conntrack_max=5)
    again = Life(path, settings=replace(SETTINGS, tunables=tunables))
    assert again.entries == 1
    again.crash()
    assert Life(path).entries == 1


def test_a_master_its_expectation_and_the_interfaces(path: Path) -> None:
    life = Life(path)
    life.router.expect(life.router.established(40001, 21), 3000)
    life.stop()
    again = Life(path)
    assert again.router.engine.core.expectations.count == 1
    ended = again.router.engine.core.expectations.all()[0]
    again.router.engine.core.expectations.remove(ended, again.router.now)
    again.crash()
    assert Life(path).router.engine.core.expectations.count == 0


def test_switched_off_it_leaves_no_file(path: Path) -> None:
    life = Life(path)
    life.router.udp()
    life.stop()
    off = Life(path, settings=replace(SETTINGS, journal=Journal(enabled=False)))
    assert (off.entries, off.state.enabled, off.state.error) == (0, False, "")
    assert off.keeper.turn() == service.LATEST
    off.stop()
    assert not path.exists()


def test_no_folder_is_no_reason_to_stop(tmp_path: Path) -> None:
    life = Life(tmp_path / "absent" / "journal")
    assert "No such file" in life.state.error
    life.router.udp()
    life.stop()


def test_a_second_daemon_does_not_touch_the_file(path: Path) -> None:
    first = Life(path)
    first.router.udp()
    second = Life(path)
    assert "another daemon" in second.state.error
    assert second.entries == 0
    first.router.udp(2000)
    first.stop()
    assert Life(path).entries == 2


def test_a_damaged_pulse_is_a_crash(path: Path) -> None:
    life = Life(path)
    life.router.udp()
    life.stop()
    whole = bytearray(path.read_bytes())
    whole[PULSE_AT] ^= 1
    path.write_bytes(whole)
    assert Life(path).entries == 1


def rebooted(path: Path, monkeypatch: pytest.MonkeyPatch, now: int, settings: Settings) -> Life:
    """The runtime directory is empty, the clock begins anew, and interfaces have other indexes."""
    path.unlink(missing_ok=True)
    monkeypatch.setattr(service, "boot_id", lambda: "another boot")
    return Life(path, now, settings)


def test_a_snapshot_brings_connections_over_a_reboot(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "snapshot"
    settings = replace(SETTINGS, journal=Journal(snapshot=str(snapshot)))
    life = Life(path, now=900_000_000, settings=settings)
    ct = life.router.established()
    left = ct.timeout - life.router.now
    life.stop()
    again = rebooted(path, monkeypatch, 20_000, settings)
    assert again.entries == 1
    restored = again.router.engine.core.table.at(0)
    assert restored is not None
    assert -5000 < restored.timeout - again.router.now - left < 5000
    assert -5000 < restored.born - again.router.now < 5000
    assert (restored.iif, restored.oif) == (1, 2)
    assert not snapshot.exists(), "it is used once"


def test_an_interface_that_is_not_there_after_a_reboot(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "snapshot"
    settings = replace(SETTINGS, journal=Journal(snapshot=str(snapshot)))
    life = Life(path, settings=settings)
    life.router.engine.names[1] = "lan-of-old"
    life.router.udp()
    life.stop()
    restored = rebooted(path, monkeypatch, 20_000, settings).router.engine.core.table.at(0)
    assert restored is not None
    assert (restored.iif, restored.oif) == (-1, 2)


def test_a_snapshot_of_this_boot_is_not_used(path: Path, tmp_path: Path) -> None:
    """The kernel forwarded packets since that stop."""
    snapshot = tmp_path / "snapshot"
    settings = replace(SETTINGS, journal=Journal(snapshot=str(snapshot)))
    life = Life(path, settings=settings)
    life.router.udp()
    life.stop()
    path.unlink()
    assert Life(path, settings=settings).entries == 0


def test_no_room_for_a_snapshot_is_no_error(path: Path) -> None:
    life = Life(path, settings=replace(SETTINGS, journal=Journal(snapshot="/proc/none/journal")))
    life.router.udp()
    life.stop()
    assert Life(path).entries == 1


def test_the_file_of_an_unknown_clock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    life = Life(path)
    life.router.udp()
    life.stop()
    file = JournalFile(path)
    file.buffer[PULSE_AT] ^= 1
    file.close()
    monkeypatch.setattr(service, "boot_id", lambda: "another boot")
    again = Life(path)
    assert again.entries == 0
    assert again.state.aside


@pytest.mark.parametrize(("away", "entries"), [(59_000, 1), (61_000, 0)])
def test_where_packets_pass_without_a_daemon_an_old_journal_is_not_used(path: Path, away: int, entries: int) -> None:
    settings = replace(SETTINGS, mode="observe")
    life = Life(path, settings=settings)
    life.router.udp()
    life.router.engine.core.table.slots[0].timeout += 600_000  # type: ignore[union-attr]
    life.stop()
    again = Life(path, 1_000_000 + away, settings)
    assert again.entries == entries
    assert bool(again.state.aside) == (entries == 0)


def test_an_expectation_is_written_with_the_packets(path: Path) -> None:
    """So it lives on through a crash before the next turn; a flood of changes is written once in a while."""
    life = Life(path)
    master = life.router.established(40001, 21)
    life.router.now += service.SIDES_EVERY
    life.router.expect(master, 3000)
    life.keeper.packets_handled()
    life.router.expect(master, 3001)
    life.keeper.packets_handled()
    life.keeper.close()
    assert len(Life(path, life.router.now).router.engine.core.expectations.all()) == 1


def test_expectations_without_a_record_are_counted(path: Path) -> None:
    life = Life(path)
    life.router.expect(life.router.established(40001, 21), 3000, helper="h" * 100)
    life.keeper.turn()
    assert life.state.side_unwritten == 1
