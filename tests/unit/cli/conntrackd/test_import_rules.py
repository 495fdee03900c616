"""`conntrackd-py import-rules` as a command: output, list, exit status."""

import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("conntrackd-py")
RULES = "*nat\n-A POSTROUTING -o wan0 -j MASQUERADE\nCOMMIT\n*filter\nCOMMIT\n"


def run(*words: str, text: bytes = RULES.encode()) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([str(COMMAND), "import-rules", *words], input=text, capture_output=True, check=False)


def test_a_file_gives_a_configuration_that_check_config_accepts(tmp_path: Path) -> None:
    file, config = tmp_path / "rules.v4", tmp_path / "conntrackd.toml"
    file.write_text(RULES)
    done = run(str(file))
    assert done.returncode == 0
    assert done.stderr.decode().splitlines() == [
        f"{file}: table filter: not read; only nat and raw are imported",
        f"{file}: rules written: 1; lines not translated: 0",
    ]
    config.write_bytes(done.stdout)
    checked = subprocess.run([str(COMMAND), "check-config", str(config)], capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, b"")


def test_what_is_not_translated_is_listed_with_its_line() -> None:
    rules = RULES.replace(
        "COMMIT", '-A POSTROUTING -m comment --comment "\x1b[31m" -m quota --quota 5 -j ACCEPT\nCOMMIT', 1
    )
    done = run("-", text=rules.encode())
    assert done.returncode == 1
    assert b'action = "MASQUERADE"' in done.stdout
    assert done.stderr.decode().splitlines()[:2] == [
        "-:3: not translated: -m quota has no counterpart",
        '    -A POSTROUTING -m comment --comment "\\x1b[31m" -m quota --quota 5 -j ACCEPT',
    ]
    assert "its packets reach the rules after it" in done.stderr.decode()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"Hello", "neither the text of iptables-save nor of nft: Hello"),
        (b"*nat\n-A PREROUTING -j A\n-A A -j A\n", "line 3: chains jump too deep, or in a circle"),
    ],
)
def test_unusable_text(text: bytes, why: str) -> None:
    done = run("-", text=text)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode() == f"conntrackd-py import-rules: -: {why}\n"


def test_a_missing_file(tmp_path: Path) -> None:
    done = run(str(tmp_path / "none"))
    assert done.returncode == 2
    assert done.stderr.decode().endswith("none: No such file or directory\n")


def test_bytes_that_are_not_utf_8() -> None:
    done = run("-", "--format", "ip6tables", text=b"*nat\n-A POSTROUTING -m comment --comment \xff -j MASQUERADE\n")
    assert done.returncode == 0
    assert 'family = "ipv6"' in done.stdout.decode()
