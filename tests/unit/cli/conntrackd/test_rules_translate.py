"""`conntrackd-py rules translate` with files; the rules in force: tests/e2e/test_rules_translate.py."""

import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("conntrackd-py")
RULES = b"*filter\n:FORWARD DROP [0:0]\n"
RULES += b'-A FORWARD -m state --state NEW -m comment --comment "\xff\x1b[31m" -j ACCEPT\nCOMMIT\n'
TRANSLATED = RULES.replace(b"-m state --state NEW", b"-m mark --mark 0xa00/0xf00")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "conntrackd.toml"
    path.write_text('[steering]\nkernel_conntrack = "off"\n')
    return path


def translate(config: Path, *words: str, text: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [str(COMMAND), "rules", "translate", "-c", str(config), *words]
    return subprocess.run(command, input=text, capture_output=True, check=False)


def test_a_file_and_standard_input(config: Path, tmp_path: Path) -> None:
    file = tmp_path / "rules.v4"
    file.write_bytes(RULES)
    for words in ((str(file),), ("-",), ("-", "--format", "ip6tables")):
        done = translate(config, *words, text=RULES)
        assert (done.returncode, done.stdout) == (0, TRANSLATED)
        assert done.stderr.decode() == f"{words[0]}: 1 rules translated, 0 not translated\n"


def test_what_is_not_translated_is_listed_and_changes_the_exit_status(config: Path) -> None:
    rules = RULES.replace(b"--state NEW", b"--state DNAT")
    done = translate(config, "-", text=rules)
    assert (done.returncode, done.stdout) == (3, rules)
    assert done.stderr.decode().splitlines() == [
        "-:3: not translated: the packet mark does not tell whether a packet is translated; match its addresses",
        r'    -A FORWARD -m state --state DNAT -m comment --comment "\udcff\x1b[31m" -j ACCEPT',
        "-: 0 rules translated, 1 not translated",
    ]


def test_it_is_said_that_auto_keeps_the_kernels_tracking(config: Path) -> None:
    config.write_text("")
    done = translate(config, "-", text=RULES)
    assert (done.returncode, done.stdout) == (0, TRANSLATED)
    assert done.stderr.startswith(b"note: steering.kernel_conntrack is auto: while a rule uses ct state, ")


@pytest.mark.parametrize(
    ("config_text", "words", "why"),
    [
        ('mode = "observe"', ["-"], "no packet mark"),
        ("[steering]\nmark_mask = 0", ["-"], "no packet mark"),
        ("", ["/nowhere"], "/nowhere: No such file or directory"),
        ("", ["-"], "-: neither the text of iptables-save nor of nft: hello"),
    ],
)
def test_failures(config: Path, config_text: str, words: list[str], why: str) -> None:
    config.write_text(config_text)
    done = translate(config, *words, text=b"hello")
    assert (done.returncode, done.stdout) == (1, b"")
    assert why in done.stderr.decode()
