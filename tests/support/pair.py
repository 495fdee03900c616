"""Two routers with keepalived between a client and a server, and a real server for their stream.

    client ── lan ── a, b ── wan ── server          a, b ── sync ── store (redis-server)

The three networks are bridges in the namespace `switch`. Everything ends with the Pair.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from conntrackd_py.lab.namespaces import Namespace
from conntrackd_py.lab.router import DAEMON, READY
from tests.support.waiting import wait_until

CLIENT: Final = "192.168.77.2"
INSIDE: Final = "192.168.77.1"  # the shared addresses
OUTSIDE: Final = "203.0.113.1"
SERVER: Final = "203.0.113.80"
STORE: Final = "10.99.0.9"
PORT: Final = 6379
ROUTERS: Final = {"a": 11, "b": 12}
LINKS: Final = {  # namespace: network: address
    "client": {"lan": f"{CLIENT}/24"},
    "server": {"wan": f"{SERVER}/24"},
    "store": {"sync": f"{STORE}/24"},
    **{
        name: {"lan": f"192.168.77.{host}/24", "wan": f"203.0.113.{host}/24", "sync": f"10.99.0.{host}/24"}
        for name, host in ROUTERS.items()
    },
}
CONFIG: Final = """\
mode = "nat"
[steering]
exclude_interfaces = ["lo", "sync0"]
[metrics]
listen = ""
[control]
socket = "{socket}"
[sync]
url = "redis://{store}:{port}"
stale_after = 10
[[nat]]
out_interface = "wan0"
source = "192.168.77.0/24"
action = "SNAT"
to = "{outside}"
"""
SAMPLES: Final = Path(__file__).parents[2] / "config/keepalived"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Router:
    """One of the two, in its namespace."""

    def __init__(self, name: str, namespace: Namespace, folder: Path) -> None:
        self.name = name
        self.namespace = namespace
        self.folder = folder / name
        self.folder.mkdir()
        self.socket = self.folder / "control.sock"
        self.config = self.folder / "conntrackd.toml"
        self.log = self.folder / "daemon.log"
        self.config.write_text(CONFIG.format(socket=self.socket, store=STORE, port=PORT, outside=OUTSIDE))
        self.process: subprocess.Popen[str] | None = None
        self.keepalived: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self.namespace.run(*DAEMON, "rules", "install", "-c", str(self.config))
        before = len(self.said())
        with self.log.open("a") as log:
            self.process = self.namespace.start(*DAEMON, "run", "-c", str(self.config), stdout=log, stderr=log)
        wait_until(lambda: READY in self.said()[before:], self.said, 40)

    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def start_keepalived(self, priority: int) -> None:
        """With the sample of the package, its paths and interface changed."""
        script = self.folder / "notify"
        program = self.folder / "conntrackd-py"
        program.write_text(f'#!/bin/sh\nCONNTRACKD_PY_SOCKET={self.socket} exec {" ".join(DAEMON)} "$@"\n')
        shutil.copy(SAMPLES / "conntrackd-py-notify", self.folder / "shipped")
        script.write_text(f'#!/bin/sh\nPATH={self.folder}:$PATH exec {self.folder}/shipped "$@"\n')
        for path in (script, program, self.folder / "shipped"):
            path.chmod(0o755)
        text = (SAMPLES / "keepalived.conf").read_text()
        for old, new in (
            ("/usr/bin/conntrackd-py", str(program)),
            ("/etc/keepalived/conntrackd-py-notify", str(script)),
            ("priority 150", f"priority {priority}"),
            ("interface lan0", "interface sync0"),
        ):
            assert old in text
            text = text.replace(old, new)
        config = self.folder / "keepalived.conf"
        config.write_text(text)
        pids = [f"--{kind}={self.folder}/{kind}" for kind in ("pid", "vrrp_pid")]
        with (self.folder / "keepalived.log").open("w") as log:
            words = ("keepalived", "--dont-fork", "--log-console", "--vrrp", f"--use-file={config}", *pids)
            self.keepalived = self.namespace.start(*words, stdout=log, stderr=log)

    def ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.namespace.complete(*DAEMON, *words, "--socket", str(self.socket))

    def sync(self) -> dict[str, Any]:
        """Its state; empty while it does not answer."""
        done = self.ask("sync", "status", "--json")
        found: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
        return found

    def is_active(self) -> bool:
        return self.sync().get("role") == "active"

    def is_synced(self) -> bool:
        state = self.sync()
        return bool(state.get("role") == "standby" and state["synced"])

    def lose_power(self) -> None:
        """Everything in it ends at once, and no packet leaves or enters any more."""
        for network in ("lan", "wan", "sync"):
            ip("-n", self.namespace.name, "link", "set", f"{network}0", "down")
        pids = subprocess.run(["ip", "netns", "pids", self.namespace.name], capture_output=True, text=True, check=True)
        for pid in pids.stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


class Pair:
    def __init__(self, folder: Path) -> None:
        token = f"{os.getpid()}-{secrets.token_hex(2)}"
        self.folder = folder
        self.spaces = {name: Namespace(f"ctpy-{token}-{name}") for name in ("switch", *LINKS)}
        self.store: subprocess.Popen[str] | None = None
        self.routers: dict[str, Router] = {}

    def build(self) -> None:
        switch = self.spaces["switch"]
        for space in self.spaces.values():
            ip("netns", "add", space.name)
            ip("-n", space.name, "link", "set", "lo", "up")
        for network in ("lan", "wan", "sync"):
            ip("-n", switch.name, "link", "add", network, "type", "bridge")
            ip("-n", switch.name, "link", "set", network, "up")
        for name, links in LINKS.items():
            for network, address in links.items():
                where = self.spaces[name].name
                port = f"{name}-{network}"
                ip("link", "add", f"{network}0", "netns", where, "type", "veth", "peer", port, "netns", switch.name)
                ip("-n", switch.name, "link", "set", port, "master", network, "up")
                ip("-n", where, "link", "set", f"{network}0", "up")
                ip("-n", where, "address", "add", address, "dev", f"{network}0")
        ip("-n", self.spaces["client"].name, "route", "add", "default", "via", INSIDE)
        for name in ROUTERS:
            self.spaces[name].run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0")
            self.routers[name] = Router(name, self.spaces[name], self.folder)

    def start_store(self, *words: str) -> None:
        self.store = self.spaces["store"].start(
            *("redis-server", "--port", str(PORT), "--bind", "0.0.0.0", "--protected-mode", "no"),
            *("--save", "", "--appendonly", "no", "--dir", str(self.folder), *words),
        )
        wait_until(lambda: "PONG" in self.spaces["store"].run("redis-cli", "ping", check=False), "the server answers")

    def stop_store(self) -> None:
        assert self.store is not None
        self.store.send_signal(signal.SIGKILL)
        self.store.wait()

    def start(self, *, keepalived: bool = True) -> None:
        """Both run; a has the addresses, b follows it."""
        self.start_store()
        for router in self.routers.values():
            router.start()
        for router, priority in ((self.routers["a"], 150), (self.routers["b"], 100)):
            if keepalived:
                router.start_keepalived(priority)
            elif priority == 150:
                assert router.ask("sync", "takeover").returncode == 0
            if priority == 150:
                wait_until(router.is_active, router.said, 40)
        wait_until(self.routers["b"].is_synced, self.routers["b"].said, 40)

    def end(self) -> None:
        for space in self.spaces.values():
            space.end()
        for space in self.spaces.values():
            space.delete()


@contextlib.contextmanager
def pair_of() -> Iterator[Pair]:
    with tempfile.TemporaryDirectory(prefix="ctpy-pair-") as folder:
        pair = Pair(Path(folder))
        try:
            pair.build()
            yield pair
        finally:
            pair.end()
