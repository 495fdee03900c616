"""The filters of `conntrackd-py export`; the rest: test_import_.py."""

import json
from pathlib import Path

import pytest

from tests.unit.cli.conntrackd.test_import_ import exported


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (("-p", "tcp"), 2),
        (("-p", "tcp", "--state", "ESTABLISHED"), 1),
        (("--mark", "0x1234"), 1),
        (("--host", "10.9.0.0/16"), 0),
        (("--src-nat",), 0),
        (("-f", "ipv4"), 5),
    ],
)
def test_only_connections_that_match(tmp_path: Path, words: tuple[str, ...], count: int) -> None:
    result = exported(tmp_path / "control.sock", *words)
    assert result.status == 0
    assert json.loads(result.out.splitlines()[-1]) == {"connections": count}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--state", "ESTABLISHED"), "--state needs --protonum"),
        (("--sport", "1"), "sport needs a protocol with ports"),
        (("-p", "nonsense"), "nonsense"),
    ],
)
def test_a_filter_that_makes_no_sense(tmp_path: Path, words: tuple[str, ...], why: str) -> None:
    result = exported(tmp_path / "control.sock", *words)
    assert (result.status, result.out) == (2, "")
    assert why in result.err


def test_without_a_daemon(tmp_path: Path) -> None:
    result = exported(tmp_path / "control.sock", "--socket", str(tmp_path / "none"))
    assert result == (1, "", f"conntrackd-py export: no daemon listens on {tmp_path / 'none'}\n")
