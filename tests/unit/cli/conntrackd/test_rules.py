"""`conntrackd-py rules print`; the other actions need nft or iptables: tests/e2e/test_rules.py."""

from pathlib import Path

import pytest

from conntrackd_py.cli.conntrackd.main import main

SAMPLE = Path(__file__).parents[4] / "config" / "conntrackd.toml"


def test_rules_print_needs_no_root_and_knows_both_families(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "print", "-c", str(SAMPLE), "--format", "iptables"]) == 0
    first, out = capsys.readouterr().out.split("\n", 1)
    assert first.startswith("# kernel tracking: ")
    assert out.startswith("# iptables-restore --noflush\n*mangle\n")
    assert "\n# ip6tables-restore --noflush\n*mangle\n" in out
    assert main(["rules", "print", "-c", str(SAMPLE), "--format", "nft"]) == 0
    out = capsys.readouterr().out
    assert "\n# nft -f, family ip\ntable ip conntrackd_py {\n" in out
    assert "\n# nft -f, family ip6\ntable ip6 conntrackd_py {\n" in out


def test_rules_of_a_wrong_configuration_are_not_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "print", "-c", str(tmp_path / "missing.toml")]) == 1
    assert capsys.readouterr().err == f"{tmp_path / 'missing.toml'}: error: No such file or directory\n"
