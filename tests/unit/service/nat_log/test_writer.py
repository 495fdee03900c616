"""The writer's thread with real files: rotated, removed, full, not writable, pipes."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from conntrackd_py.conntrack.events import Event
from conntrackd_py.const import IPCT_NEW
from conntrackd_py.explain.nat_log import Connections
from conntrackd_py.service.nat_log import writer as module
from conntrackd_py.service.nat_log.writer import A_TURN, Writer
from tests.support.nat_logs import translated
from tests.support.waiting import wait_until

HEAD = b"head\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "nat.log"


@pytest.fixture
def writer(file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Writer]:
    for name in ("RETRY", "GRACE", "IDLE"):
        monkeypatch.setattr(module, name, 0.05)
    made = Writer(str(file), 1000, lambda _now: HEAD)
    yield made
    made.end()
    wait_until(lambda: not made.is_alive(), "the thread goes on")


def has(file: Path, *lines: bytes) -> None:
    wait_until(
        lambda: file.exists() and file.read_bytes() == b"".join(lines),
        lambda: f"{file.name}: {file.read_bytes() if file.exists() else 'missing'!r}",
    )


def test_a_file_begins_with_its_head(writer: Writer, file: Path) -> None:
    writer.start()
    has(file, HEAD)
    assert stat.S_IMODE(file.stat().st_mode) & ~0o640 == 0
    writer.give(b"one\n")
    has(file, HEAD, b"one\n")
    wait_until(lambda: writer.waiting == 0, "waiting")
    assert (writer.written, writer.errors, writer.error) == (1, 0, "")


def test_a_file_that_exists_goes_on_on_a_line_of_its_own(writer: Writer, file: Path) -> None:
    file.write_bytes(b"former\nhalf")
    writer.give(b"one\n")
    writer.start()
    has(file, b"former\nhalf\none\n")


def test_events_are_rendered_in_turns(writer: Writer, file: Path) -> None:
    events = [Event(IPCT_NEW, at, 0, translated()) for at in range(3 * A_TURN + 5)]
    writer.give(Connections(events, [""] * len(events), 0, False))
    writer.give(b"last\n")
    assert (writer.waiting, writer.room()) == (len(events) + 1, 1000 - len(events) - 1)
    writer.start()
    wait_until(lambda: file.exists() and file.read_bytes().endswith(b"last\n"), "not written")
    assert file.read_bytes().count(b"\n") == len(events) + 2


def test_a_renamed_file_is_replaced(writer: Writer, file: Path) -> None:
    writer.start()
    has(file, HEAD)
    former = file.rename(file.with_name("nat.log.1"))
    file.touch()
    writer.give(b"one\n")
    has(file, HEAD, b"one\n")
    has(former, HEAD)


def test_while_the_path_is_missing_lines_go_to_the_former_file(
    writer: Writer, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE", 1000)
    writer.start()
    has(file, HEAD)
    former = file.rename(file.with_name("nat.log.1"))
    writer.give(b"one\n")
    has(former, HEAD, b"one\n")
    assert not file.exists()


def test_a_file_that_stays_away_is_made(writer: Writer, file: Path) -> None:
    writer.start()
    has(file, HEAD)
    file.rename(file.with_name("nat.log.1"))
    has(file, HEAD)


def test_a_truncated_file_gets_a_head(writer: Writer, file: Path) -> None:
    writer.start()
    has(file, HEAD)
    os.truncate(file, 0)
    has(file, HEAD)


def test_opened_again_when_asked(writer: Writer, file: Path) -> None:
    writer.give(b"one\n")
    writer.start()
    has(file, HEAD, b"one\n")
    writer.reopen = True
    wait_until(lambda: not writer.reopen, "not opened")
    writer.give(b"two\n")
    has(file, HEAD, b"one\n", b"two\n")


def test_a_directory_that_is_missing_is_waited_for(writer: Writer, file: Path) -> None:
    writer.path = str(file.parent / "later" / "nat.log")
    writer.give(b"one\n")
    writer.start()
    wait_until(lambda: writer.errors > 1, "no error")
    assert writer.error == "No such file or directory"
    assert writer.waiting == 1
    Path(writer.path).parent.mkdir()
    has(Path(writer.path), HEAD, b"one\n")
    wait_until(lambda: not writer.error, "the error stays")


@pytest.mark.parametrize(
    ("path", "error"), [("/dev/full", "No space left on device"), ("/", "Is a directory"), ("/proc/x", "No such file")]
)
def test_what_cannot_be_written_is_counted_and_kept(writer: Writer, path: str, error: str) -> None:
    writer.path = path
    writer.give(b"one\n")
    writer.start()
    wait_until(lambda: writer.errors > 1, "no error")
    assert writer.error.startswith(error)
    assert writer.finish(5) == 1
    assert not writer.is_alive()


def test_a_pipe_without_a_reader_is_waited_for(writer: Writer, file: Path) -> None:
    os.mkfifo(file)
    writer.give(b"one\n")
    writer.start()
    wait_until(lambda: writer.errors > 1, "no error")
    assert writer.error == "No such device or address"
    with file.open("rb") as reader:
        assert reader.readline() == HEAD
        assert reader.readline() == b"one\n"


def test_a_pipe_whose_reader_stands_still_delays_only_the_thread(writer: Writer, file: Path) -> None:
    os.mkfifo(file)
    reader = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
    text = b"x" * 999 + b"\n"
    for _ in range(200):
        writer.give(text)
    writer.start()
    wait_until(lambda: writer.written > 0, "nothing written")
    assert writer.waiting > 0
    os.set_blocking(reader, True)
    with os.fdopen(reader, "rb") as rest:
        assert rest.read(200 * len(text) + len(HEAD)) == HEAD + 200 * text


def test_the_rest_of_a_half_line_is_written_whole_into_the_next_file(writer: Writer, file: Path) -> None:
    """As after a full disk: part of a line is in the former file."""
    writer._rest, writer._rest_done, writer._rest_lines = b"one\ntwo\nthree\n", 6, 3
    writer._open()
    writer._write()
    assert file.read_bytes() == HEAD + b"two\nthree\n"
    assert writer.written == 3
    writer._close()
    writer.start()


def test_at_the_end_all_is_written(writer: Writer, file: Path) -> None:
    writer.start()
    for number in range(500):
        writer.give(b"%d\n" % number)
    assert writer.finish(20) == 0
    assert file.read_bytes().endswith(b"499\n")
    assert threading.current_thread() is not writer
