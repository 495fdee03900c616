"""conntrack(8) and conntrack-py in one network namespace: each line is given to both, the kernel and our daemon."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from conntrackd_py.cli.conntrack.output import NAME
from conntrackd_py.lab.router import READY
from tests.support.waiting import wait_until

CONFIG = """
mode = "{mode}"
[metrics]
listen = ""
[control]
socket = "{socket}"
[tunables]
nf_conntrack_acct = true
nf_conntrack_timestamp = true
"""
LABELS = "# bits that have names\n0 foo\n1 bar\n3 baz\n"
# A connection can only be labelled while some rule asks for labels.
LABELLING = (
    "add table inet l",
    "add chain inet l o { type filter hook output priority 0; }",
    "add rule inet l o ct label 1",
)
REAL = "conntrack v1.4.7 (conntrack-tools)"
HINT = re.compile(r"Try `.*\n")


class Answer(NamedTuple):
    """err: without the program's name and its hint at --help."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Without timeouts, times, ids and order, which are each table's own affair."""
        return sorted(anytime(line) for line in self.out.splitlines())

    @property
    def saying(self) -> str:
        return self.err.replace("\n", " ").strip()


def anytime(line: str) -> str:
    line = re.sub(r"^((?:ipv[46] +\d+ )?[a-z]\S* +\d+) \d+", r"\1 T", line)
    line = re.sub(r"(?<= )id=\d{3,}|(?<=use=[12]) id=\d+|delta-time=\d+|start=[^]]+", "N", line)
    line = re.sub(r"<(timeout|id|deltatime|start)>\d+<", r"<\1>N<", line)
    return re.sub(r"(?<= -t) \d+", " T", line)


def printed(line: str) -> str:
    """An event without times, and who ordered it: netlink ports are not processes."""
    line = re.sub(r" \[USERSPACE\] portid=\d+( progname=\S+)?", " [USERSPACE]", line)
    line = re.sub(r"^\[\d+\.\d+ *\]\t", "[time]\t", line)
    line = re.sub(r"<(hour|min|sec|stop)>\d+<", r"<\1>N<", re.sub(r"\[?(stop)=[^]]+\]?", r"\1", line))
    line = re.sub(r" id=\d+(?= \[USERSPACE\]| labels=|$)", " N", line)
    prefix = re.match(r"(\[time\]\t)?[ ]*\[[A-Z]+\]\s+", line)
    head = prefix.group() if prefix else ""
    return head + anytime(line[len(head) :])


class Pair:
    """The namespace with the daemon in it, the real program beside ours; both know the labels foo, bar and baz."""

    def __init__(self, name: str, folder: Path, daemon: subprocess.Popen[str]) -> None:
        self.name = name
        self.folder = folder
        self.daemon = daemon
        self.socket = folder / "control.sock"
        self.etc = folder / "etc"
        (self.etc / "xtables").mkdir(parents=True)
        (self.etc / "xtables" / "connlabel.conf").write_text(LABELS)

    def command(self, *words: str) -> list[str]:
        overlay = f"mount -t overlay overlay -o lowerdir={self.etc}:/etc /etc"
        script = f'{overlay} && exec "$@"'
        return ["ip", "netns", "exec", self.name, "unshare", "-m", "sh", "-c", script, "sh", *words]

    def real(self, line: str, stdin: str = "", seconds: float = 0) -> Answer:
        words = ["timeout", "-s", "INT", str(seconds), "conntrack"] if seconds else ["conntrack"]
        return self._run([*words, *line.split()], REAL, stdin)

    def ours(self, line: str, stdin: str = "", seconds: float = 0) -> Answer:
        words = [sys.executable, "-P", "-m", "conntrackd_py.cli.conntrack.main"]
        words = ["timeout", "-s", "INT", str(seconds), *words] if seconds else words
        return self._run([*words, *line.split()], NAME, stdin)

    def both(self, line: str, stdin: str = "", seconds: float = 0) -> tuple[Answer, Answer]:
        return self.real(line, stdin, seconds), self.ours(line, stdin, seconds)

    def _run(self, words: list[str], program: str, stdin: str) -> Answer:
        environment = {**os.environ, "CONNTRACKD_PY_SOCKET": str(self.socket)}
        done = subprocess.run(
            self.command(*words), check=False, input=stdin, capture_output=True, text=True, timeout=30, env=environment
        )
        err = HINT.sub("", done.stderr).replace("nfct_labelmap_new: No such file or directory\n", "")
        return Answer(done.returncode, done.stdout, err.replace(f"{program}: ", ""))

    def events(self, words: list[str]) -> subprocess.Popen[str]:
        environment = {**os.environ, "CONNTRACKD_PY_SOCKET": str(self.socket)}
        return subprocess.Popen(
            self.command(*words), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
        )

    def order(self, lines: list[str]) -> None:
        """Give both these lines, which must be right, at once. (The real -R does not survive all of them.)"""
        script = "\n".join(["set -e", *(f"conntrack {line}" for line in lines)])
        subprocess.run(self.command("sh", "-c", script), check=True, capture_output=True, timeout=30)
        assert self.ours("-R -", "\n".join(lines)) == Answer(0, "", "")

    def inside(self, *words: str) -> str:
        """A command in the namespace."""
        return _inside(self.name, *words)

    def forget(self) -> None:
        """Both tables empty."""
        for answer in (*self.both("-F"), *self.both("-F expect")):
            assert answer.status == 0, answer


@contextmanager
def pair(mode: str = "nat") -> Iterator[Pair]:
    name = f"ctpy-pair-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        with tempfile.TemporaryDirectory(prefix=name) as temporary:
            folder = Path(temporary)
            socket = folder / "control.sock"
            (folder / "conntrackd.toml").write_text(CONFIG.format(mode=mode, socket=socket))
            for setting in ("acct", "timestamp"):
                _inside(name, "sysctl", "-qw", f"net.netfilter.nf_conntrack_{setting}=1")
            _inside(name, "ip", "link", "set", "lo", "up")
            for rule in LABELLING:
                _inside(name, "nft", *rule.split())
            words = [sys.executable, "-P", "-m", "conntrackd_py.cli.conntrackd.main", "run"]
            log = folder / "log"
            with log.open("w") as out:
                daemon = subprocess.Popen(
                    ["ip", "netns", "exec", name, *words, "-c", str(folder / "conntrackd.toml")],
                    stdout=out,
                    stderr=out,
                    text=True,
                )
            try:
                _await(daemon, log)
                yield Pair(name, folder, daemon)
            finally:
                daemon.terminate()
                daemon.wait(10)
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def _await(daemon: subprocess.Popen[str], log: Path) -> None:
    wait_until(lambda: daemon.poll() is not None or READY in log.read_text(), log.read_text)
    assert daemon.poll() is None, log.read_text()


def _inside(name: str, *words: str) -> str:
    command = ["ip", "netns", "exec", name, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout
