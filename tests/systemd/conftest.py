"""A router that has been installed from a clone, between a client and a server that has no way back to the client."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conntrackd_py.lab.namespaces import CLIENT, INSIDE, ROUTER, ROUTER6, SERVER, SERVER6, Topology
from conntrackd_py.lab.router import CONFIG
from conntrackd_py.lab.steps import fetch, start_servers
from tests.support import debian
from tests.support.machine import UNIT, Machine
from tests.support.waiting import wait_until

SOCKET = "/run/conntrackd-py/control.sock"
TOML = "/etc/conntrackd-py/conntrackd.toml"
ANSWER = f"This is the server. You are {ROUTER}."
SOON = 30.0  # seconds for what systemd does by itself
VERSIONS = ("/root/odd.deb", "/root/even.deb")


class Router(Machine):
    """A machine with the service on it."""

    before: frozenset[str] = frozenset()  # the files that were there before the installation

    def configure(self, text: str = CONFIG) -> None:
        self.write(TOML, text % SOCKET if "%s" in text else text)

    def translates(self) -> bool:
        done = self.net.client.complete("curl", "-s", "--max-time", "3", f"http://{SERVER}/")
        return done.stdout.strip() == ANSWER

    def forwards(self) -> bool:
        """Anything at all, from the outside straight to the inside: IPv6 is routed both ways."""
        return self.net.client.complete("ping", "-c", "1", "-W", "1", SERVER6).returncode == 0

    def has_rules(self) -> bool:
        return "conntrackd_py" in self.rules().lower()

    def pid(self) -> int:
        return int(self.show("MainPID"))

    def upgrade(self, deb: str) -> None:
        self.run("dpkg", "-i", "--force-confold", deb, timeout=debian.AT_MOST)

    def remember(self, port: int) -> str:
        """A connection that no packet made, so only the journal can bring it back; how `conntrack-py -L` prints it."""
        words = ("-p", "udp", "--sport", str(port), "--dport", "9", "-t", "600", "-m", str(port))
        self.run("conntrack-py", "-I", "-s", CLIENT, "-d", SERVER, *words)
        return f"sport={port} dport=9"

    def fetch(self) -> None:
        assert fetch(self.net.client, f"http://{SERVER}/") == ANSWER

    def wait(self, what: str, true: Callable[[], bool]) -> None:
        wait_until(true, lambda: f"not {what}:\n{self.journal()[-3000:]}", SOON)

    def leaks(self, act: Callable[[], None]) -> str:
        """What reaches the server with the client's own address while `act` goes on and packets flow."""
        capture = ("tcpdump", "-i", "eth0", "-n", "-l", "--immediate-mode", f"net {INSIDE} or ip6 proto 58")
        sniffer = self.net.server.start(*capture, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert sniffer.stderr is not None
        assert "listening" in sniffer.stderr.readline() + sniffer.stderr.readline()
        pings = self.net.client.start("ping", "-q", "-i", "0.01", "-w", "3600", SERVER)
        act()
        pings.terminate()
        self.net.server.run("ping", "-c", "2", "-W", "1", ROUTER6)
        sniffer.send_signal(signal.SIGINT)
        seen = sniffer.communicate(timeout=10)[0]
        assert "ICMP6" in seen, "the capture did not run"
        return "\n".join(line for line in seen.splitlines() if re.search(r"\b192\.168\.77\.", line))


@pytest.fixture(scope="module")
def router() -> Iterator[Router]:
    """With scripts/install run on it from a fresh clone, and a configuration; nothing is started."""
    with Topology() as net, debian.copy("tools") as root, Router(net, root) as machine:
        machine.before = files(root)
        machine.run("env", debian.QUICK_BUILD, f"{debian.CLONE}/scripts/install", timeout=debian.AT_MOST)
        start_servers(net)
        yield machine


@contextlib.contextmanager
def packaged(config: str) -> Iterator[Router]:
    """With the package, which runs, and with other versions of it as VERSIONS."""
    deb = debian.package()
    with Topology() as net, debian.copy("base", bare=True) as root:
        shutil.copy(deb, root / "root/package.deb")
        for number, name in enumerate(VERSIONS):
            debian.as_version(deb, f"99.{number}", root / name[1:])
        debian.apt_install(root, "/root/package.deb")
        with Router(net, root) as machine:
            machine.configure(config)
            machine.run("systemctl", "enable", "--now", UNIT)
            yield machine


def logged(router: Router, event: str) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in router.journal().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


def files(root: Path) -> frozenset[str]:
    """All that stands on the disk, without what a running system writes by itself."""
    pruned = ("proc", "sys", "dev", "run", "tmp", "wheels", "var/log", "var/lib/systemd", "var/tmp", debian.CLONE[1:])
    words = ["find", str(root), "-mount"]
    for name in pruned:
        words += ["-path", str(root / name), "-prune", "-o"]
    listed = subprocess.run([*words, "-print"], capture_output=True, text=True, check=True).stdout.splitlines()
    return frozenset(line.removeprefix(str(root)) for line in listed)


__all__ = ["SOCKET", "TOML", "UNIT", "VERSIONS", "Router", "files", "logged", "packaged"]
