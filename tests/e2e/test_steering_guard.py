"""Somebody deletes the steering rules under traffic: nothing leaves untranslated, and the daemon notices.

CONNTRACKD_PY_GUARD_ROUNDS: how often each attack is repeated.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conntrackd_py.lab.namespaces import CLIENT6, INSIDE, ROUTER, ROUTER6, SERVER, SERVER6, Topology
from conntrackd_py.lab.router import DAEMON, METRICS, Router
from tests.support.processes import MASQUERADE, capture
from tests.support.waiting import wait_until

ROUNDS = int(os.environ.get("CONNTRACKD_PY_GUARD_ROUNDS", "2"))
CONFIG = f"""\
[metrics]
listen = "{METRICS}"
[control]
socket = "%s"
{MASQUERADE}
[steering]
"""
ALARM = 'guard = "alarm"\n'
FLOOD = """
import socket, sys, time
until = time.monotonic() + 3600
four, six = (socket.socket(family, socket.SOCK_DGRAM) for family in (socket.AF_INET, socket.AF_INET6))
four.bind(("", 4000))
while time.monotonic() < until:
    for sock, to in ((four, sys.argv[1]), (six, sys.argv[2])):
        try:
            sock.sendto(b"x" * 32, (to, 9))
        except OSError:
            pass
    time.sleep(0.001)
"""
EMPTY = "*raw\\nCOMMIT\\n*mangle\\nCOMMIT\\n*security\\nCOMMIT\\n"
ATTACKS = {
    "nft flush ruleset": "nft flush ruleset",
    "an empty iptables-restore": f"printf '{EMPTY}' | iptables-restore; printf '{EMPTY}' | ip6tables-restore",
    "iptables -F": "for t in raw mangle security; do iptables -t $t -F; ip6tables -t $t -F; done",
}
GUARD = "conntrackd_py_guard"


class Scene:
    """A router with the daemon under traffic of both families, and a capture on the outer side."""

    def __init__(self, net: Topology) -> None:
        self.net = net
        self.file = net.folder / "outside.pcap"
        self.router = Router(net, CONFIG)
        self.written = self.router.config.read_text()

    def begin(self, config: str = "", *, rules: bool = True) -> None:
        self.configure(config)
        inside = f"(ip net {INSIDE}) or (ip6 src {CLIENT6} and not ip6 dst net fe80::/10)"
        translated = f"(udp port 9 and (src {ROUTER} or src {ROUTER6}))"
        capture(self.net.server, self.file, f"{inside} or {translated}")
        if rules:
            self.router.install_rules()
        self.router.start()
        self.flood = self.net.client.start("/usr/bin/python3", "-c", FLOOD, SERVER, SERVER6)

    def configure(self, config: str) -> None:
        self.router.config.write_text(self.written + config)

    def rules(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.net.router.complete(*DAEMON, "rules", *words, "-c", str(self.router.config))

    def attack(self, command: str) -> None:
        self.net.router.run("sh", "-c", command)

    @property
    def installed(self) -> bool:
        return self.rules("status").returncode == 0

    @property
    def tables(self) -> str:
        return self.net.router.run("nft", "list", "tables")

    def status(self) -> dict[str, Any]:
        text = self.net.router.run(*DAEMON, "status", "--json", "--socket", str(self.router.socket))
        found: dict[str, Any] = json.loads(text)["steering"]
        return found

    def metric(self, name: str) -> float:
        """-1: absent."""
        found = re.search(rf"^conntrackd_py_{name} (\S+)$", self.router.metrics(), re.MULTILINE)
        return float(found[1]) if found else -1

    def await_guarded(self) -> None:
        wait_until(lambda: self.status()["installed"] and self.status()["leak_table"], "the rules are not guarded")

    def captured(self, expression: str) -> list[str]:
        return self.net.server.run("tcpdump", "-nr", str(self.file), expression, check=False).splitlines()

    def await_passing(self) -> None:
        """Packets of both families pass, translated."""
        for source in (ROUTER, ROUTER6):
            before = len(self.captured(f"src {source}"))
            wait_until(lambda s=source, n=before: len(self.captured(f"src {s}")) > n, f"nothing from {source}")  # type: ignore[misc]

    def leaked(self) -> list[str]:
        return self.captured(f"ip net {INSIDE} or ip6 src {CLIENT6}")


@pytest.fixture
def scene() -> Iterator[Scene]:
    with Topology() as net:
        yield Scene(net)


def steering_chains(scene: Scene) -> list[str]:
    """`family table chain` of every chain of the steering rules."""
    ruleset = json.loads(scene.net.router.run("nft", "-j", "list", "chains"))["nftables"]
    chains = [entry["chain"] for entry in ruleset if "chain" in entry]
    return [
        f"{chain['family']} {chain['table']} {chain['name']}"
        for chain in chains
        if "conntrackd_py" in f"{chain['table']}{chain['name']}".lower() and chain["table"] != GUARD
    ]


@pytest.mark.parametrize("command", ATTACKS.values(), ids=ATTACKS)
def test_the_rules_come_back_and_nothing_leaks(scene: Scene, command: str) -> None:
    scene.begin()
    scene.await_guarded()
    for _ in range(ROUNDS):
        scene.await_passing()
        scene.attack(command)
        wait_until(lambda: scene.installed, scene.router.said)
    scene.await_passing()
    assert scene.leaked() == []
    assert scene.metric("steering_restored_total") == scene.status()["restored"] >= 1
    assert '"event": "steering_missing"' in scene.router.said()


def test_each_chain_of_the_rules_comes_back(scene: Scene) -> None:
    scene.begin()
    scene.await_guarded()
    for chain in steering_chains(scene) * max(1, ROUNDS // 10):
        scene.await_passing()
        scene.attack(f"nft flush chain {chain}")
        wait_until(lambda: scene.installed, scene.router.said)
    assert scene.leaked() == []


@pytest.mark.parametrize("command", ATTACKS.values(), ids=ATTACKS)
def test_the_alarm_reports_and_nothing_leaks(scene: Scene, command: str) -> None:
    scene.begin(ALARM)
    scene.await_guarded()
    for _ in range(ROUNDS):
        scene.await_passing()
        scene.attack(command)
        wait_until(lambda: scene.metric("steering_installed") == 0, "not noticed")
        drops = scene.metric("leak_table_drops_total")
        wait_until(lambda n=drops: scene.metric("leak_table_drops_total") > n, "the leak table drops nothing")  # type: ignore[misc]
        assert "ipv4: not installed" in scene.status()["missing"]
        assert not scene.installed
        assert scene.rules("install").returncode == 0
        assert scene.metric("steering_installed") == 1
    scene.await_passing()
    assert scene.leaked() == []
    assert scene.status()["restored"] == 0


def test_nobody_else_can_delete_the_leak_table(scene: Scene) -> None:
    scene.begin()
    scene.await_guarded()
    scene.attack("nft flush ruleset")
    assert scene.net.router.complete("nft", "delete", "table", "inet", GUARD).returncode == 1
    assert GUARD in scene.tables
    scene.router.stop(signal.SIGKILL)
    assert GUARD not in scene.tables
