"""`conntrackd-py check-config`: the summary of a right configuration, every error of a wrong one."""

from pathlib import Path

import pytest

from conntrackd_py.cli.conntrackd.main import main

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


def test_every_error_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.toml"
    file.write_text('mode = "nt"\n[queue]\nfrist = 1\n')
    assert main(["check-config", str(file)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        f'{file}: mode = "nt": must be one of nat, track, observe, did you mean nat?',
        f"{file}: queue.frist = 1: unknown key, did you mean first?",
    ]
