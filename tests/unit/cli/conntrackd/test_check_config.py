"""`conntrackd-py check-config`: the summary of a right configuration, every error of a wrong one."""

import subprocess
import sys
from pathlib import Path

import pytest

from conntrackd_py.cli.conntrackd.main import main

CHECK = "import sys; from conntrackd_py.cli.conntrackd.main import main; sys.exit(main())"
SAMPLE = Path(__file__).parents[4] / "config" / "conntrackd.toml"


@pytest.mark.parametrize("arguments", [("check-config", str(SAMPLE)), ("check-config", "-c", str(SAMPLE))])
def test_the_sample_is_right(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(list(arguments)) == 0
    assert capsys.readouterr().out == f"{SAMPLE}: ok: mode nat; NAT rules: none; queues from 0 on\n"


def test_the_summary_reports_rules_that_are_not_applied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.toml"
    file.write_text('mode = "track"\n' + '[[nat]]\naction = "MASQUERADE"\nout_interface = "eth0"\n' * 2)
    assert main(["check-config", str(file)]) == 0
    assert "NAT rules: 2 MASQUERADE (not applied in mode track);" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "source"), [("", "NFLOG group 9466"), ('[observe]\nvia = "nfqueue"\n', "queues from 0 on")]
)
def test_the_summary_of_mode_observe(
    text: str, source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "c.toml"
    file.write_text(f'mode = "observe"\n{text}')
    assert main(["check-config", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: ok: mode observe; NAT rules: none; {source}\n"


DUPLICATE = '[[nat]]\naction = "MASQUERADE"\nout_interface = "eth0"\n' * 2


def test_warnings_are_no_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.toml"
    file.write_text(DUPLICATE)
    assert main(["check-config", str(file)]) == 0
    captured = capsys.readouterr()
    assert captured.err == (
        f"{file}:4: warning: nat[1]: no connection gets here: nat[0] (line 1) matches all of them first\n"
    )
    assert captured.out.splitlines() == [
        "nat[0]: MASQUERADE: family ipv4, out_interface eth0",
        "nat[1]: MASQUERADE: family ipv4, out_interface eth0",
        f"{file}: ok, 1 warning: mode nat; NAT rules: 2 MASQUERADE; queues from 0 on",
    ]


def test_strict_refuses_warnings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.toml"
    file.write_text(DUPLICATE + '[[nat]]\naction = "MASQUERADE"\nout_interface = "lo"\n')
    assert main(["check-config", "--strict", str(file)]) == 1
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1] == f"{file}: 2 warnings, refused because of --strict"
    assert ": ok" not in captured.out
    assert main(["check-config", "--strict", str(SAMPLE)]) == 0


def test_the_status_is_that_of_the_configuration_without_a_reader_too(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(DUPLICATE)
    for option, status in (("--config", 0), ("--strict", 1)):
        command = [sys.executable, "-c", CHECK, "check-config", option, str(file)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.close()
            assert process.stderr is not None
            assert process.stderr.readline().startswith(f"{file}:4: warning: ")
            assert "Error" not in process.stderr.read()
        assert process.returncode == status


def test_every_error_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.toml"
    file.write_text('mode = "nt"\n[queue]\nfrist = 1\n')
    assert main(["check-config", str(file)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        f'{file}:1: error: mode = "nt": must be one of nat, track, observe, did you mean nat?',
        f"{file}:3: error: queue.frist = 1: unknown key, did you mean first?",
    ]
