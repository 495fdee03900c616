"""`conntrackd-py who-had` as a process: its output, notes and exit status."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.nat_logs import OUTER, begun, line, note, translated, written

AT = "2026-11-22T10:03:01.500Z"
RULED = (
    "192.168.1.2:4711 had 203.0.113.1:1024 tcp from 2026-11-22T10:03:01.000Z to 2026-11-22T10:03:02.000Z, "
    "remote 198.51.100.80:80, nat[0]"
)


def who_had(*words: str | Path) -> tuple[int, str, str]:
    command = (sys.executable, "-m", "conntrackd_py.cli.conntrackd.main", "who-had")
    done = subprocess.run([*command, *map(str, words)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def log(tmp_path: Path) -> Path:
    ct = translated(born=1000)
    text = (begun(), line("NEW", ct, 1000, "nat[0]"), line("DESTROY", ct, 2000), note("MARK", 60_000))
    return written(tmp_path / "nat.log", text)


def test_found(log: Path) -> None:
    assert who_had(OUTER, "1024", AT, "--log", log) == (0, f"{RULED}\n", "")


def test_as_json(log: Path) -> None:
    status, out, _ = who_had(OUTER, "1024", AT, "--log", log, "--json", "--proto", "tcp")
    assert status == 0
    assert json.loads(out) == {
        "kind": "source",
        "certain": True,
        "inside": "192.168.1.2",
        "inside_port": 4711,
        "proto": "tcp",
        "outer": OUTER,
        "low": 1024,
        "high": 1024,
        "from": "2026-11-22T10:03:01.000Z",
        "to": "2026-11-22T10:03:02.000Z",
        "remote": "198.51.100.80",
        "remote_port": 80,
        "rule": "nat[0]",
    }


def test_nobody(log: Path) -> None:
    assert who_had(OUTER, "1025", AT, "--log", log) == (1, "nobody had it at that time\n", "")
    assert who_had(OUTER, "1024", AT, "--log", log, "--destination", "192.0.2.1:80", "--json") == (
        *(1, '{"note": "nobody had it at that time"}\n', ""),
    )


def test_it_cannot_tell(log: Path) -> None:
    status, out, _ = who_had(OUTER, "1024", "2026-11-22 10:04:30", "--log", log)
    assert (status, out) == (2, "cannot tell: the log ends at 2026-11-22T10:04:00.000Z\n")


def test_rotated_files_and_one_that_is_damaged(log: Path) -> None:
    former = log.with_name("nat.log.1.gz")
    former.write_bytes(gzip.compress(log.read_bytes() + b"junk\n"))
    written(log, [note("MARK", 90_000)])
    status, out, err = who_had(OUTER, "1024", AT, "--log", log)
    assert (status, out) == (0, f"{RULED}\n")
    assert err == f"conntrackd-py who-had: {former}: 1 damaged lines, the first is line 8\n"


def test_a_file_that_cannot_be_read_leaves_doubt(log: Path) -> None:
    other = log.with_name("nat.log.1.gz")
    other.write_bytes(gzip.compress(b"x" * 10_000)[:-9])
    status, out, err = who_had(OUTER, "1025", AT, "--log", log)
    assert (status, out) == (2, "cannot tell: nat.log.1.gz cannot be read\n")
    assert f"{other}: " in err
    status, out, _ = who_had(OUTER, "1024", AT, "--log", log)
    assert (status, out) == (0, f"{RULED}\nothers may have had it: nat.log.1.gz cannot be read\n")


def test_several_hosts(log: Path) -> None:
    other = translated("192.168.1.9", remote="198.51.100.81", born=1000)
    log.write_bytes(log.read_bytes() + line("NEW", other, 1000) + note("MARK", 60_000))
    status, out, _ = who_had(OUTER, "1024", AT, "--log", log)
    assert status == 0
    assert out.splitlines()[1:] == [
        "192.168.1.9:4711 had 203.0.113.1:1024 tcp from 2026-11-22T10:03:01.000Z to still open at the end of the log, "
        "remote 198.51.100.81:80",
        "several hosts had it at that time, each for other remote ends: --destination narrows the answer",
    ]


def test_ipv6_and_text_that_is_hostile(tmp_path: Path) -> None:
    ct = translated("fd00::2", outer="2001:db8::1", remote="2001:db8:9::80", born=1000, zone=7)
    log = written(tmp_path / "nat.log", [begun(), line("NEW", ct, 1000, "nat\x1b[2J"), note("MARK", 60_000)])
    status, out, _ = who_had("2001:DB8:0::1", "1024", AT, "--log", log)
    assert status == 0
    assert out == (
        "[fd00::2]:4711 had [2001:db8::1]:1024 tcp from 2026-11-22T10:03:01.000Z to still open at the end of the log, "
        "remote [2001:db8:9::80]:80, zone 7, nat\\x1b[2J\n"
    )


def test_the_file_of_the_configuration(log: Path, tmp_path: Path) -> None:
    config = tmp_path / "conntrackd.toml"
    config.write_text(f'[nat_log]\nfile = "{log}"\n')
    assert who_had(OUTER, "1024", AT, "-c", config)[0] == 0
    for text, why in (("", "nat_log.file is not set"), ("[nat_log]\nfile = 7", "must be a string"), ("[", "")):
        config.write_text(text)
        status, out, err = who_had(OUTER, "1024", AT, "-c", config)
        assert (status, out) == (2, "")
        assert why in err
        assert err.startswith("conntrackd-py who-had: ")


@pytest.mark.parametrize(
    "words",
    [
        *(("203.0.113", "1", AT), (OUTER, "65536", AT), (OUTER, "x", AT), (OUTER, "1", "yesterday"), (OUTER, "1")),
        *((OUTER, "1", AT, "--proto", "tpc"), (OUTER, "1", AT, "--destination", "x:80")),
    ],
)
def test_wrong_usage(words: tuple[str, ...]) -> None:
    status, out, err = who_had(*words)
    assert (status, out) == (2, "")
    assert "usage:" in err


def test_a_missing_file(tmp_path: Path) -> None:
    status, out, err = who_had(OUTER, "1", AT, "--log", tmp_path / "nat.log")
    assert (status, out) == (2, "cannot tell: nat.log cannot be read\n")
    assert "No such file" in err
