"""Completion in real shells: zsh at a terminal, fish as it is asked.

In what order they show it is the shells' affair. For bash: tests/unit/cli/test_completion_bash.py.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from conntrackd_py.cli.conntrack.options import COMMANDS

SHARE = Path(__file__).parents[2] / "share"
ZSH = SHARE / "zsh" / "site-functions"
FISH = SHARE / "fish" / "vendor_completions.d"

# In an interactive zsh of its own the line is typed with a Tab behind it; what would complete it is printed.
ASK_ZSH = """
zmodload zsh/zpty
zpty child zsh -f -i
zpty -w child "PS1= PS2=; fpath=(${(q)1} \\$fpath); autoload -Uz compinit; compinit -D -u; print READY\\$((1+1))"
zpty -r child unused '*READY2*'
zpty -w child "source ${(q)2}; print READY\\$((2+2))"
zpty -r child unused '*READY4*'
zpty -w -n child "$3"$'\\t'
zpty -r child answer '*BEGIN*END*'
answer=${answer##*BEGIN}
print -r -- ${answer%%END*}
zpty -d child
"""
COLLECT_ZSH = """
typeset -ga found
compadd() {
    if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\\ * ]]; then
        builtin compadd "$@"
        return
    fi
    local -a hits
    builtin compadd -A hits "$@"
    found+=($hits)
    builtin compadd "$@"
}
collect() {
    found=()
    _main_complete "$@"
    print -r -- "BEGIN $found END"
}
zle -C collected complete-word collect
bindkey '^I' collected
"""


@pytest.fixture
def collect(tmp_path: Path) -> Path:
    file = tmp_path / "collect.zsh"
    file.write_text(COLLECT_ZSH)
    return file


def zsh(line: str, collect: Path) -> set[str]:
    done = subprocess.run(
        ["zsh", "-f", "-c", ASK_ZSH, "zsh", str(ZSH), str(collect), line],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
        cwd=collect.parent,
        env={**os.environ, "TERM": "dumb"},
    )
    return set(done.stdout.split())


def fish(line: str, folder: Path) -> set[str]:
    """Without the descriptions."""
    script = 'source $argv[1]; complete -C"$argv[2]"'
    done = subprocess.run(
        ["fish", "--no-config", "-c", script, str(FISH / f"{line.split(maxsplit=1)[0]}.fish"), line],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
        cwd=folder,
        env={**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)},
    )
    assert done.stderr == ""
    return {answer.partition("\t")[0] for answer in done.stdout.splitlines()}


@pytest.mark.parametrize("file", sorted(ZSH.iterdir()), ids=lambda file: str(file.name))
def test_zsh_can_read_it(file: Path) -> None:
    done = subprocess.run(["zsh", "-f", "-n", str(file)], capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("file", sorted(FISH.iterdir()), ids=lambda file: str(file.name))
def test_fish_can_read_it(file: Path) -> None:
    done = subprocess.run(["fish", "-n", str(file)], capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("conntrack-py -L ", "conntrack expect dying unconfirmed mappings"),
        ("conntrack-py -p tcp -L --mask-", "--mask-src --mask-dst"),
        ("conntrack-py -L --s", "--src --status --secmark --src-nat --stale --sort --socket"),
        ("conntrack-py -L -p tcp --s", "--src --status --secmark --src-nat --sport --state --stale --sort --socket"),
        ("conntrack-py -Lp TCP --st", "--status --state --stale"),
        ("conntrack-py -L -p udp --st", "--status --stale"),
        ("conntrack-py -L -p sctp --state C", "CLOSED COOKIE_WAIT COOKIE_ECHOED"),
        ("conntrack-py -L expect -f ", "ipv4 ipv6"),
        ("conntrack-py -D expect --s", "--src --socket"),
        ("conntrack-py -p ", "icmp tcp udp dccp gre icmpv6 sctp udplite"),
        ("conntrack-py -L -o id,", "extended timestamp ktimestamp labels userspace xml"),
        ("conntrack-py -C -o ", "json"),
        ("conntrack-py -L --sort=-bytes,s", "src sport state start"),
        ("conntrack-py -L --sort -p", "-proto -packets"),
        ("conntrack-py -R c", "collect.zsh"),
        ("conntrackd-py r", "run rules reload"),
        ("conntrackd-py rules ", "print install confirm remove status check translate"),
        ("conntrackd-py rules print --", "--help --config --format"),
        ("conntrackd-py explain --proto s", "sctp"),
        ("conntrackd-py check-config c", "collect.zsh"),
    ],
)
def test_zsh_completes(line: str, words: str, collect: Path) -> None:
    assert zsh(line, collect) == set(words.split())


def test_zsh_offers_commands_until_there_is_one(collect: Path) -> None:
    assert zsh("conntrack-py -", collect) == {name for option in COMMANDS for name in option.names}
    offered = zsh("conntrack-py -L -", collect)
    assert "--src" in offered
    assert "--dump" not in offered


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("conntrack-py --d", "--delete --dump"),
        ("conntrack-py -L ", "conntrack dying expect mappings unconfirmed"),
        ("conntrack-py -p tcp -L --mask-", "--mask-dst --mask-src"),
        ("conntrack-py -L --s", "--secmark --socket --sort --src --src-nat --stale --status"),
        ("conntrack-py -L -p tcp --s", "--secmark --socket --sort --sport --src --src-nat --stale --state --status"),
        ("conntrack-py -Lp TCP --st", "--stale --state --status"),
        ("conntrack-py -L -p udp --st", "--status --stale"),
        ("conntrack-py -L -p sctp --state C", "CLOSED COOKIE_ECHOED COOKIE_WAIT"),
        ("conntrack-py -L expect -f ", "ipv4 ipv6"),
        ("conntrack-py -D expect --s", "--socket --src"),
        ("conntrack-py -p ", "dccp gre icmp icmpv6 sctp tcp udp udplite"),
        ("conntrack-py -L -o id,", "id,extended id,ktimestamp id,labels id,timestamp id,userspace id,xml"),
        ("conntrack-py -C -o ", "json"),
        ("conntrack-py -L --sort=-bytes,st", "--sort=-bytes,start --sort=-bytes,state"),
        ("conntrack-py -R s", "saved"),
        ("conntrackd-py r", "reload rules run"),
        ("conntrackd-py rules ", "check confirm install print remove status translate"),
        ("conntrackd-py rules print --", "--config --format --help"),
        ("conntrackd-py explain --proto s", "sctp"),
        ("conntrackd-py check-config s", "saved"),
    ],
)
def test_fish_completes(line: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "saved").touch()
    assert fish(line, tmp_path) == set(words.split())
