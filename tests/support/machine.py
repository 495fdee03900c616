"""A Debian 12 with a real systemd, in the router's namespace of a topology: no virtual machine, only namespaces.

It has processes, mounts, cgroups and a host name of its own; the kernel and its clock are this machine's.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from conntrackd_py.lab.namespaces import Topology
from tests.support.waiting import wait_until

BOOTS_WITHIN: Final = 60.0  # seconds
UNIT: Final = "conntrackd-py.service"
ENVIRONMENT: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "SYSTEMD_PAGER": "cat",
    "PIP_NO_INDEX": "1",  # tests/support/debian.py has put all that is needed there
    "PIP_FIND_LINKS": "/wheels",
}
# Run in namespaces of its own; ends by becoming systemd.
BOOT: Final = """
set -e
root=$1
mount --rbind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount --rbind /dev "$root/dev"
ln -sf /dev/null "$root/etc/systemd/system/getty.target"
exec env -i container=lxc PATH=/usr/sbin:/usr/bin chroot "$root" /lib/systemd/systemd
"""


class Machine:
    """`with Machine(net, root) as machine:` boots it; leaving ends it. `reboot` keeps its disk."""

    def __init__(self, net: Topology, root: Path) -> None:
        self.net = net
        self.root = root
        self.cgroup = _cgroup() / f"ctpy-{os.getpid()}-{secrets.token_hex(2)}"
        self.process: subprocess.Popen[str] | None = None
        self.init = 0

    def __enter__(self) -> Self:
        try:
            self.boot()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def boot(self) -> None:
        self.cgroup.mkdir(exist_ok=True)
        # Standard input is the list of the cgroup's processes: in the namespace its path is hidden by another /sys.
        enter = 'echo $$ >&0 && exec unshare "$@" < /dev/null'
        apart = ("--kill-child", "--fork", "-p", "-m", "-u", "-i", "-C", "--propagation", "private")
        with (self.cgroup / "cgroup.procs").open("w") as processes:
            self.process = self.net.router.start(
                *("sh", "-c", enter, "sh", *apart, "sh", "-c", BOOT, "sh", str(self.root)), stdin=processes
            )
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        process = self.process
        wait_until(
            lambda: process.poll() is not None or self._booted(children),
            lambda: f"not booted:\n{self.complete('systemctl', 'list-jobs').stdout}",
            BOOTS_WITHIN,
        )
        assert process.poll() is None, "systemd ended"

    def _booted(self, children: Path) -> bool:
        """`running`, or `degraded`: a unit has failed, which is the test's business."""
        try:
            pids = children.read_text().split()
            if not pids or Path(f"/proc/{pids[0]}/comm").read_text() != "systemd\n":
                return False
        except (FileNotFoundError, ProcessLookupError):
            return False
        self.init = int(pids[0])
        return self.complete("systemctl", "is-system-running").stdout.strip() in ("running", "degraded")

    def end(self) -> None:
        """As when the power fails."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        deadline = time.monotonic() + 10
        while self.cgroup.exists() and time.monotonic() < deadline:
            for folder in sorted(self.cgroup.rglob("*"), reverse=True):
                if folder.is_dir():
                    _remove(folder)
            _remove(self.cgroup)
            time.sleep(0.05)

    def reboot(self) -> None:
        """Shut down in order, then boot."""
        self.complete("systemctl", "--no-block", "poweroff")
        assert self.process is not None
        self.process.wait(BOOTS_WITHIN)
        self.end()
        self.boot()

    def complete(self, *words: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """A command inside, to its end."""
        enter = ("nsenter", "-t", str(self.init), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--")
        return subprocess.run(
            [*enter, "env", "-i", *(f"{name}={value}" for name, value in ENVIRONMENT.items()), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def run(self, *words: str, timeout: float = 60.0) -> str:
        """What it prints; fails when the command does."""
        done = self.complete(*words, timeout=timeout)
        if done.returncode:
            said = f"{done.stdout[-3000:]}{done.stderr[-3000:]}"
            raise AssertionError(f"{' '.join(words)}: status {done.returncode}\n{said}\n{self.last_lines()}")
        return done.stdout

    def show(self, name: str, unit: str = UNIT) -> str:
        """One property of a unit."""
        return self.run("systemctl", "show", "--value", "-p", name, unit).strip()

    def journal(self, unit: str = UNIT) -> str:
        return self.complete("journalctl", "--no-pager", "-o", "cat", "-u", unit).stdout

    def last_lines(self) -> str:
        """Of the journal, of all units."""
        return self.complete("journalctl", "--no-pager", "-o", "short-precise", "-n", "60").stdout

    def rules(self) -> str:
        """Of both families, and of nft if it is installed."""
        saved = self.run("iptables-save") + self.run("ip6tables-save")
        return saved + self.complete("nft", "list", "ruleset").stdout

    def write(self, path: str, text: str) -> None:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def _cgroup() -> Path:
    """Where this process is in the second version's tree."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    tree = next(fields[1] for fields in mounts if fields[2] == "cgroup2")
    own = next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    return Path(tree) / own.removeprefix("0::").strip("/")


def _remove(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:  # its processes are about to end
        return
