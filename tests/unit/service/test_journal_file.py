"""A journal's file: header, lock, growth, and foreign files."""

import os
from pathlib import Path

import pytest

from conntrackd_py.conntrack.journal import HEADER_SIZE, PULSE_AT, RECORD
from conntrackd_py.service import journal_file
from conntrackd_py.service.journal_file import COPY_AT, STEP, Header, JournalFile, NotBelievedError, Pulse, fresh

SIDE = 8


def made(path: Path, mode: str = "nat") -> JournalFile:
    file, _ = fresh(path, SIDE, mode)
    journal_file.put_in_place(file, path)
    return file


def test_header_and_pulse_come_back(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    file = made(path)
    assert file.pulse() is None
    file.write_pulse(Pulse(5, 6, 7, 8, True))
    file.close()
    again = JournalFile(path)
    header = again.header()
    assert header == Header(SIDE, header.seed, "nat", journal_file.boot_id())
    assert again.pulse() == Pulse(5, 6, 7, 8, True)
    again.close()
    assert [one.name for one in tmp_path.iterdir()] == ["journal"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_each_journal_has_a_seed_of_its_own(tmp_path: Path) -> None:
    files = [made(tmp_path / name) for name in ("one", "other")]
    assert files[0].header().seed != files[1].header().seed


def test_one_daemon_at_a_time(tmp_path: Path) -> None:
    file = made(tmp_path / "journal")
    with pytest.raises(BlockingIOError):
        JournalFile(tmp_path / "journal")
    file.close()
    JournalFile(tmp_path / "journal").close()


@pytest.mark.parametrize("content", [b"", b"x" * 100, bytes(HEADER_SIZE + RECORD), os.urandom(8000)])
def test_a_foreign_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal"
    path.write_bytes(content)
    with pytest.raises(NotBelievedError, match="no journal"):
        JournalFile(path).header()


def test_one_damaged_header_is_enough_to_read(tmp_path: Path) -> None:
    file = made(tmp_path / "journal")
    file.buffer[0] ^= 1
    assert file.header().side == SIDE
    file.buffer[COPY_AT] ^= 1
    with pytest.raises(NotBelievedError):
        file.header()


def test_another_version_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_file, "VERSION", 9)
    file = made(tmp_path / "journal")
    monkeypatch.undo()
    with pytest.raises(NotBelievedError, match="version 9"):
        file.header()


def test_a_damaged_pulse(tmp_path: Path) -> None:
    file = made(tmp_path / "journal")
    file.write_pulse(Pulse(5, 6, 7, 8, False))
    file.buffer[PULSE_AT + 3] ^= 64
    assert file.pulse() is None


def test_it_grows_in_steps_and_keeps_what_it_has(tmp_path: Path) -> None:
    file = made(tmp_path / "journal")
    size = len(file.buffer)
    assert file.reserve(size)
    assert len(file.buffer) == size
    assert file.reserve(size + 1)
    assert len(file.buffer) == size + STEP == file.path.stat().st_size
    assert file.header().side == SIDE
    file.buffer[-1] = 7


def test_no_room_is_no_error(tmp_path: Path) -> None:
    file = made(tmp_path / "journal")
    size = len(file.buffer)
    assert not file.reserve(1 << 60)
    assert not file.reserve(size + 1), "it asks again only now and then"
    file.refusals = 0
    assert file.reserve(size + 1)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "journal").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        JournalFile(tmp_path / "journal")


def test_set_aside_keeps_one(tmp_path: Path) -> None:
    for text in ("one", "two"):
        (tmp_path / "journal").write_text(text)
        aside = journal_file.set_aside(tmp_path / "journal")
    assert aside.read_text() == "two"
    assert [one.name for one in tmp_path.iterdir()] == [aside.name]
