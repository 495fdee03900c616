"""The command conntrackd-py as an operator types it: output, exit status, and a quick start."""

import subprocess
import sys
from pathlib import Path

import pytest

import conntrackd_py
from conntrackd_py.cli.conntrackd.main import COMMANDS, main

SAMPLE = Path(__file__).parents[4] / "config" / "conntrackd.toml"


def usage_error(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as left:
        main(list(arguments))
    return left.value.code


def test_version_shows_the_build(capsys: pytest.CaptureFixture[str]) -> None:
    assert usage_error("--version") == 0
    build = "compiled" if conntrackd_py.compiled else "pure"
    assert capsys.readouterr().out.startswith(f"conntrackd-py {conntrackd_py.__version__} ({build}, Python 3.")


@pytest.mark.parametrize("arguments", [(), ("nonsense",), ("rules",), ("rules", "nonsense"), ("check-config", "-x")])
def test_wrong_usage_is_exit_status_2(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert usage_error(*arguments) == 2
    assert "usage: conntrackd-py" in capsys.readouterr().err


def test_a_usage_error_repeats_no_control_character(capsys: pytest.CaptureFixture[str]) -> None:
    assert usage_error("status", "\x1b[31m") == 2
    assert_escaped(capsys.readouterr().err)


@pytest.mark.parametrize("arguments", [["status", "--socket", "\x1b[31m"], ["check-config", "\x1b[31m"]])
def test_an_error_repeats_no_control_character(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 1
    assert_escaped(capsys.readouterr().err)


def assert_escaped(said: str) -> None:
    assert "\\x1b[31m" in said
    assert "\x1b" not in said


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert usage_error("--help") == 0
    first_words = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert set(COMMANDS) <= first_words


@pytest.mark.parametrize("command", [["check-config"], ["rules", "print"]], ids=" ".join)
def test_a_full_disk_is_reported(command: list[str]) -> None:
    words = [sys.executable, "-m", "conntrackd_py.cli.conntrackd.main", *command, "-c", str(SAMPLE)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"conntrackd-py {command[0]}: cannot write: No space left on device\n"


@pytest.mark.parametrize("arguments", ["['--help']", f"['check-config', {str(SAMPLE)!r}]"])
def test_it_starts_without_what_it_does_not_need(arguments: str) -> None:
    """A command typed at a prompt must not wait for pyroute2 (0.2 s) or scapy (0.5 s)."""
    code = f"""
import sys
from conntrackd_py.cli.conntrackd.main import main
try:
    main({arguments})
except SystemExit:
    pass
heavy = {{"asyncio", "netfilterqueue", "prometheus_client", "pyroute2", "rich", "scapy", "structlog"}}
print(sorted(heavy & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
