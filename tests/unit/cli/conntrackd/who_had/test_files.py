"""The files of a log and their lines: rotated, compressed, damaged."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from conntrackd_py.cli.conntrackd.who_had.files import ERRORS, files_of, in_order, lines
from conntrackd_py.cli.conntrackd.who_had.records import LONGEST
from tests.support.nat_logs import head, note, written

TEXT = head("FILE", 0) + note("MARK", 60_000)


def test_rotated_files_beside_it_are_found(tmp_path: Path) -> None:
    log = tmp_path / "nat.log"
    names = ("nat.log", "nat.log.1", "nat.log.2.gz", "nat.log-20261122-1.gz")
    for name in (*names, "nat.logs", "other.log", "xnat.log"):
        (tmp_path / name).touch()
    (tmp_path / "nat.log.d").mkdir()
    assert {path.name for path in files_of(log)} == set(names)
    log.unlink()
    assert {path.name for path in files_of(log)} == set(names[1:])


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for log in (tmp_path / "nat.log", tmp_path / "none" / "nat.log"):
        assert files_of(log) == [log]
        with pytest.raises(FileNotFoundError):
            list(lines(log))


def test_the_order_is_that_of_their_times(tmp_path: Path) -> None:
    new = written(tmp_path / "a", [head("FILE", 9000)])
    old = tmp_path / "z.gz"
    old.write_bytes(gzip.compress(b"damaged\n" + head("FILE", 1000)))
    middle = written(tmp_path / "m", [head("FILE", 5000)])
    empty = written(tmp_path / "0", [])
    junk = written(tmp_path / "1", [b"x\n" * 1000])
    broken = written(tmp_path / "2.gz", [b"no gzip"])
    assert in_order([new, empty, junk, broken, middle, old, new]) == [old, middle, new, empty, junk, broken]


@pytest.mark.parametrize(
    ("name", "pack"),
    [("log", bytes), ("log.gz", gzip.compress), ("log.xz", lzma.compress), ("log.bz2", bz2.compress)],
)
def test_lines_of_every_form(tmp_path: Path, name: str, pack: Callable[[bytes], bytes]) -> None:
    path = written(tmp_path / name, [pack(TEXT)])
    assert [line.text for line in lines(path)] == TEXT.splitlines(keepends=True)
    assert [line.number for line in lines(path)] == [1, 2]


@pytest.mark.parametrize(
    ("name", "pack"), [("log.gz", gzip.compress), ("log.xz", lzma.compress), ("log.bz2", bz2.compress)]
)
@pytest.mark.parametrize("cut", [slice(-9), slice(3), slice(5, None)])
def test_a_damaged_archive_raises(tmp_path: Path, name: str, pack: Callable[[bytes], bytes], cut: slice) -> None:
    path = written(tmp_path / name, [pack(TEXT * 100)[cut]])
    with pytest.raises(ERRORS):
        list(lines(path))


def test_a_line_that_is_too_long_is_skipped(tmp_path: Path) -> None:
    path = written(tmp_path / "log", [b"x" * (3 * LONGEST), b"\n", note("MARK", 0), b"y" * LONGEST])
    assert [line.text for line in lines(path)] == [b"", note("MARK", 0), b""]


def test_only_a_regular_file_is_read(tmp_path: Path) -> None:
    for path in (tmp_path, Path("/dev/zero")):
        with pytest.raises(OSError, match="not a regular file"):
            list(lines(path))
