"""Completion in a real bash: a line and what it is completed with. Words are split as bash does, at = and : too."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "share" / "bash-completion" / "completions"
ASK = """
set -u
source "$1"
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=0
"_${1//-/_}" || :
printf '%s\\n' "${COMPREPLY[@]-}"
"""

OF_A_LIST = "-s --src -f --family -z --zero --host --interface --sort --limit --socket"
ON_EXPECT = "-s --src -p --protonum -a --nat-range -o --output --socket"


def completed(line: str, folder: Path | None = None) -> list[str]:
    """The last word of the line, completed; a blank at the end begins a new one."""
    words = re.findall(r"[=:]+|[^\s=:]+", line) + ([""] if line.endswith(" ") else [])
    file = FOLDER / words[0]
    done = subprocess.run(
        ["bash", "--norc", "-c", ASK, "bash", str(file), *words],
        check=True,
        capture_output=True,
        text=True,
        timeout=20,
        cwd=folder,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("conntrack-py --d", "--dump --delete"),
        ("conntrack-py -L ", "conntrack expect dying unconfirmed mappings"),
        ("conntrack-py -L d", "dying"),
        ("conntrack-py -E ", "conntrack expect"),
        ("conntrack-py -U ", "conntrack"),
        ("conntrack-py -p tcp -L --mask-", "--mask-src --mask-dst"),
        ("conntrack-py -L --s", "--src --status --secmark --src-nat --stale --sort --socket"),
        ("conntrack-py -L -p tcp --s", "--src --status --secmark --src-nat --sport --state --stale --sort --socket"),
        ("conntrack-py -L -p TCP --st", "--status --state --stale"),
        ("conntrack-py -L -p 6 --st", "--status --state --stale"),
        ("conntrack-py -L -ptcp --st", "--status --state --stale"),
        ("conntrack-py -Lp tcp --st", "--status --state --stale"),
        ("conntrack-py -L --protonum=tcp --st", "--status --state --stale"),
        ("conntrack-py -L -p udp --st", "--status --stale"),
        ("conntrack-py -L -p tcp --state EST", "ESTABLISHED"),
        ("conntrack-py -L -p sctp --state C", "CLOSED COOKIE_WAIT COOKIE_ECHOED"),
        ("conntrack-py -L -p icmp --icmp-", "--icmp-type --icmp-code --icmp-id"),
        ("conntrack-py -L expect -f ", "ipv4 ipv6"),
        ("conntrack-py -Lexpect -f ", "ipv4 ipv6"),
        ("conntrack-py -L expect --s", "--socket"),
        ("conntrack-py -L -p ", "icmp tcp udp dccp gre icmpv6 sctp udplite"),
        ("conntrack-py -Lp t", "tcp"),
        ("conntrack-py -L -u SEEN_REPLY,A", "SEEN_REPLY,ASSURED"),
        ("conntrack-py -E -e NEW,", "NEW,ALL NEW,UPDATES NEW,DESTROY"),
        ("conntrack-py -L -o ", "extended id timestamp ktimestamp labels userspace xml save json"),
        ("conntrack-py -L -o id,x", "id,xml"),
        ("conntrack-py -L -o json,", ""),
        ("conntrack-py -C -o ", "json"),
        ("conntrack-py -L --sort=", "proto src dst sport dport state timeout packets bytes mark zone start id"),
        ("conntrack-py -L --sort -bytes,s", "-bytes,src -bytes,sport -bytes,state -bytes,start"),
        ("conntrack-py -L --sort -p", "-proto -packets"),
        ("conntrack-py -L -n 192.0.2.1:80 --li", "--limit"),
        ("conntrack-py -L -s ", ""),
        ("conntrack-py -I -p dccp --role ", "client server none"),
        ("conntrack-py -L --interface l", "lo"),
        ("conntrackd-py r", "run rules reload"),
        ("conntrackd-py rules ", "print install confirm remove status check translate"),
        ("conntrackd-py rules print -", "-h --help -c --config --format"),
        ("conntrackd-py explain --no", "--no-checksum"),
        ("conntrackd-py explain --last 5 --only", "--only-problems"),
        ("conntrackd-py explain --proto s", "sctp"),
        ("conntrackd-py --", "--help --version"),
        ("conntrackd-py lab ", "-h --help --keep"),
    ],
)
def test_a_line_is_completed_with(line: str, words: str) -> None:
    assert completed(line) == words.split()


def test_options_are_those_of_the_command_and_its_table() -> None:
    assert set(OF_A_LIST.split()) <= set(completed("conntrack-py -L -"))
    assert set(ON_EXPECT.split()) <= set(completed("conntrack-py -D expect -"))
    assert not {"-f", "-z", "--host"} & set(completed("conntrack-py -D expect -"))
    assert completed("conntrack-py -S -") == ["-a", "--nat-range", "-o", "--output", "--socket"]


def test_what_was_given_is_not_offered_again() -> None:
    offered = completed("conntrack-py -L --orig-src 10.0.0.1 --")
    assert not {"--src", "--orig-src"} & set(offered)
    assert "--dst" in offered


def test_without_a_command_the_commands_are_offered() -> None:
    assert completed("conntrack-py ")[:4] == ["-L", "--dump", "-G", "--get"]
    assert "--src" not in completed("conntrack-py -p tcp --")


def test_files_where_a_file_is_meant(tmp_path: Path) -> None:
    (tmp_path / "saved connections").touch()
    (tmp_path / "other").touch()
    for line in (
        "conntrack-py -R o",
        "conntrack-py -L --socket o",
        "conntrackd-py run -c o",
        "conntrackd-py explain o",
    ):
        assert completed(line, tmp_path) == ["other"], line
    assert completed("conntrack-py -R s", tmp_path) == ["saved", "connections"]


@pytest.mark.parametrize("name", ["conntrack-py", "conntrackd-py"])
def test_the_functions_are_bound_to_the_command(name: str) -> None:
    script = 'source "$1"; complete -p "$2"'
    done = subprocess.run(
        ["bash", "--norc", "-c", script, "bash", str(FOLDER / name), name], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"complete -F _{name.replace('-', '_')} {name}\n"
