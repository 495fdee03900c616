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
from typing import Any, Literal

import pytest

from conntrackd_py.control.client import Client
from conntrackd_py.control.protocol.requests import Steering
from conntrackd_py.lab.namespaces import CLIENT6, INSIDE, ROUTER, ROUTER6, SERVER, SERVER6, Topology
from conntrackd_py.lab.router import DAEMON, METRICS, Router
from conntrackd_py.lab.steps import TRAFFIC
from conntrackd_py.service.steering_guard import LASTING, PATIENT
from tests.support.processes import MASQUERADE, capture, start, start_script
from tests.support.waiting import wait_until

ROUNDS = int(os.environ.get("CONNTRACKD_PY_GUARD_ROUNDS", "1"))
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
BY_IPTABLES = 'program = "iptables"\n'
ATTACKS = {
    "nft flush ruleset": "nft flush ruleset",
    "an empty iptables-restore": f"printf '{EMPTY}' | iptables-restore; printf '{EMPTY}' | ip6tables-restore",
    "iptables -F": "for t in raw mangle security; do iptables -t $t -F; ip6tables -t $t -F; done",
}
GUARD = "conntrackd_py_guard"
OWNED = (GUARD, "conntrackd_py_maps")


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

    def last(self) -> None:
        """The rules stand long enough that the next attack is not a fight."""
        self.net.router.run("sleep", str(LASTING))

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
        if "conntrackd_py" in f"{chain['table']}{chain['name']}".lower() and chain["table"] not in OWNED
    ]


def test_the_kernels_tracking_follows_the_ruleset(scene: Scene) -> None:
    """A rule that needs it turns it on, the end of the rule off. Neither counts as a loss."""
    scene.begin()
    scene.await_guarded()
    rule = "FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    for times, change in enumerate(("-A", "-D"), 1):
        scene.attack(f"iptables {change} {rule}")
        wait_until(lambda n=times: scene.router.said().count('"event": "steering_changed"') == n, "nothing changed")  # type: ignore[misc]
        assert scene.installed
        assert (f"needed by iptables ipv4 filter FORWARD: -A {rule}" in scene.rules("status").stdout) == (
            change == "-A"
        )
        scene.await_passing()
    assert scene.status()["restored"] == 0
    assert scene.leaked() == []


ECHO = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.create_server((sys.argv[1], 9001), family=family) as listening:
    print("ready", flush=True)
    peer, _ = listening.accept()
    while data := peer.recv(100):
        peer.sendall(data)
"""
# Sends and receives until its standard output is closed; a RST or a port unreachable ends it.
TALK = """
import socket, sys, time
tcp = socket.create_connection((sys.argv[1], 9001), timeout=20)
udp = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
udp.connect((sys.argv[1], 7))
udp.settimeout(0.05)
print("ready", flush=True)
for _ in range(5000):
    tcp.sendall(b"x")
    assert tcp.recv(1) == b"x"
    try:
        udp.send(b"y")
        udp.recv(1)
    except TimeoutError:
        pass  # dropped meanwhile
    print("answered", flush=True)
    time.sleep(0.01)
"""


@pytest.mark.parametrize("server", [SERVER, SERVER6])
def test_open_connections_survive(scene: Scene, server: str) -> None:
    """Without rules, replies reach the router itself. Its RST and port unreachable would end the connections."""
    scene.begin()
    scene.await_guarded()
    start(scene.net.server, *TRAFFIC, "udp-echo", server, "7")
    start_script(scene.net.server, ECHO, server)
    talk = start_script(scene.net.client, TALK, server)
    assert talk.stdout is not None
    for _ in range(ROUNDS):
        restored = scene.status()["restored"]
        scene.attack(ATTACKS["nft flush ruleset"])
        wait_until(lambda n=restored: scene.status()["restored"] > n, "not restored")  # type: ignore[misc]
        scene.last()
    assert talk.poll() is None, "the connections ended"
    assert talk.stdout.readline() == "answered\n"


# Attacks with iptables do not reach rules in tables of nft.
ATTACKED = [("", "nft flush ruleset"), *((BY_IPTABLES, name) for name in ATTACKS)]


@pytest.mark.parametrize(("program", "attack"), ATTACKED)
def test_the_rules_come_back_and_nothing_leaks(scene: Scene, program: str, attack: str) -> None:
    scene.begin(program)
    scene.await_guarded()
    for _ in range(ROUNDS):
        scene.await_passing()
        scene.last()
        scene.attack(ATTACKS[attack])
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
        scene.last()
        scene.attack(f"nft flush chain {chain}")
        wait_until(lambda: scene.installed, scene.router.said)
    assert scene.leaked() == []


@pytest.mark.parametrize(("program", "attack"), ATTACKED)
def test_the_alarm_reports_and_nothing_leaks(scene: Scene, program: str, attack: str) -> None:
    scene.begin(ALARM + program)
    scene.await_guarded()
    for _ in range(ROUNDS):
        scene.await_passing()
        scene.attack(ATTACKS[attack])
        wait_until(lambda: scene.metric("steering_installed") == 0, "not noticed")
        drops = scene.metric("leak_table_drops_total")
        wait_until(lambda n=drops: scene.metric("leak_table_drops_total") > n, "the leak table drops nothing")  # type: ignore[misc]
        assert "ipv4: " in scene.status()["missing"]
        assert not scene.installed
        assert scene.rules("install").returncode == 0
        assert scene.metric("steering_installed") == 1
    scene.await_passing()
    assert scene.leaked() == []
    assert scene.status()["restored"] == 0


def test_a_done_bit_from_elsewhere_is_not_believed(scene: Scene) -> None:
    """Rules of the administrator set it, as a tunnel on this machine would keep it."""
    scene.begin(ALARM + BY_IPTABLES)
    scene.await_guarded()
    scene.await_passing()
    elsewhere = "table inet mine { chain c { type filter hook prerouting priority -400; meta mark set 0x1f00; }; }"
    scene.attack(f"nft '{elsewhere}'")
    scene.await_passing()
    scene.attack(ATTACKS["an empty iptables-restore"])
    before = scene.metric("leak_table_drops_total")
    wait_until(lambda: scene.metric("leak_table_drops_total") > before, "the leak table drops nothing")
    assert scene.leaked() == []


def test_nobody_else_can_delete_the_leak_table(scene: Scene) -> None:
    scene.begin()
    scene.await_guarded()
    scene.attack("nft flush ruleset")
    assert scene.net.router.complete("nft", "delete", "table", "inet", GUARD).returncode == 1
    assert GUARD in scene.tables
    scene.router.stop(signal.SIGKILL)
    assert GUARD not in scene.tables


# --- commands, reload, restart ------------------------------------------------------------------------------


@pytest.fixture
def quiet(scene: Scene) -> Scene:
    """Guarded."""
    scene.begin()
    scene.await_guarded()
    return scene


def changed(scene: Scene) -> None:
    """Another program changes the ruleset, and the daemon has compared since."""
    scene.attack("nft add table inet other; nft delete table inet other")
    scene.net.router.run("sleep", "1")


def test_removed_rules_stay_removed(quiet: Scene) -> None:
    assert quiet.rules("remove").stderr == ""
    assert GUARD not in quiet.tables
    changed(quiet)
    assert (quiet.status()["installed"], quiet.metric("steering_installed"), quiet.installed) == (None, -1, False)
    assert "steering_missing" not in quiet.router.said()
    assert quiet.rules("install").returncode == 0
    assert quiet.status()["installed"] is True
    assert GUARD in quiet.tables


def test_rules_of_another_configuration_stay_until_the_reload(quiet: Scene) -> None:
    """An excluded interface: its packets are not dropped by the leak table."""
    quiet.configure('exclude_interfaces = ["lo", "lan9"]\n')
    assert quiet.rules("install").returncode == 0
    changed(quiet)
    assert (quiet.installed, quiet.status()["installed"]) == (True, None)
    quiet.net.router.run(*DAEMON, "reload", "--socket", str(quiet.router.socket))
    assert quiet.status()["installed"] is True
    assert "lan9" in quiet.net.router.run("nft", "list", "table", "inet", GUARD)
    quiet.attack("nft flush ruleset")
    wait_until(lambda: quiet.installed, quiet.router.said)
    assert quiet.leaked() == []


def test_a_reload_replaces_rules_and_leak_table(quiet: Scene) -> None:
    quiet.configure('exclude_interfaces = ["lo", "lan9"]\n')
    quiet.net.router.run(*DAEMON, "reload", "--socket", str(quiet.router.socket))
    assert quiet.installed
    assert "lan9" in quiet.net.router.run("nft", "list", "table", "inet", GUARD)
    quiet.router.config.write_text(quiet.written.replace("MASQUERADE", "ACCEPT"))
    quiet.net.router.run(*DAEMON, "reload", "--socket", str(quiet.router.socket))
    assert GUARD not in quiet.tables
    assert quiet.status()["restored"] == 0


def trial(scene: Scene) -> subprocess.Popen[str]:
    """`rules install --for 60`, when the rules are installed."""
    words = (*DAEMON, "rules", "install", "-c", str(scene.router.config), "--for", "60")
    process = scene.net.router.start(*words, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert any(line.startswith("installed for") for line in process.stdout)
    return process


def test_rules_on_trial_are_left_alone_and_the_former_come_back(quiet: Scene) -> None:
    quiet.configure('exclude_interfaces = ["lo", "lan9"]\n')
    process = trial(quiet)
    assert (quiet.status()["held"], quiet.installed, GUARD in quiet.tables) == (1, True, False)
    process.terminate()
    assert process.wait(20) == 128 + signal.SIGTERM
    quiet.configure("")
    assert (quiet.status()["held"], quiet.installed, GUARD in quiet.tables) == (0, True, True)
    assert quiet.status()["restored"] == 0


def test_a_trial_that_is_killed_ends_as_the_daemon_wants(quiet: Scene) -> None:
    quiet.configure('exclude_interfaces = ["lo", "lan9"]\n')
    process = trial(quiet)
    process.kill()
    process.wait()
    quiet.configure("")
    wait_until(lambda: quiet.installed, quiet.router.said)
    assert quiet.leaked() == []


def test_a_removal_that_dies_half_way_is_undone(quiet: Scene) -> None:
    number = int(quiet.net.router.run("stat", "-L", "-c", "%i", "/proc/self/ns/net"))
    with Client(str(quiet.router.socket)) as client:
        assert next(client.ask(Steering(network=number)))["steering"]["held"] == 1
        quiet.attack("nft flush ruleset")
        changed(quiet)
        assert not quiet.installed
        assert quiet.leaked() == []
    wait_until(lambda: quiet.installed, quiet.router.said)


@pytest.mark.parametrize(("second", "installed"), [(["done"], False), ([], True)], ids=["done", "dies"])
def test_of_two_commands_the_last_decides(quiet: Scene, second: list[Literal["done"]], installed: bool) -> None:
    """Both must come to their end."""
    number = int(quiet.net.router.run("stat", "-L", "-c", "%i", "/proc/self/ns/net"))
    with Client(str(quiet.router.socket)) as one, Client(str(quiet.router.socket)) as other:
        for client in (one, other):
            next(client.ask(Steering(network=number)))
        quiet.attack("nft flush ruleset")
        assert next(one.ask(Steering("done")))["steering"]["held"] == 1
        for step in second:
            assert next(other.ask(Steering(step)))["steering"]["installed"] is None
    wait_until(lambda: quiet.status()["held"] == 0, "still held")
    changed(quiet)
    assert quiet.installed is installed


def test_a_command_in_another_namespace_holds_nothing(quiet: Scene) -> None:
    with Client(str(quiet.router.socket)) as client:
        assert next(client.ask(Steering(network=1)))["steering"] == {}
        quiet.attack("nft flush ruleset")
        wait_until(lambda: quiet.installed, quiet.router.said)


def test_a_daemon_without_rules_installs_none(scene: Scene) -> None:
    scene.begin(rules=False)
    changed(scene)
    assert (scene.status()["installed"], scene.metric("steering_installed"), GUARD in scene.tables) == (None, -1, False)
    assert not scene.installed
    assert "steering_missing" not in scene.router.said()
    assert scene.rules("install").returncode == 0
    assert (scene.status()["installed"], GUARD in scene.tables) == (True, True)


def test_a_daemon_that_hangs_is_reported_and_the_command_goes_on(quiet: Scene) -> None:
    assert quiet.router.process is not None
    quiet.router.process.send_signal(signal.SIGSTOP)
    done = quiet.rules("remove")
    quiet.router.process.send_signal(signal.SIGCONT)
    assert (done.returncode, "the daemon may undo this, it could not be told" in done.stderr) == (0, True)


def test_the_next_daemon_guards_too(quiet: Scene) -> None:
    quiet.router.stop(signal.SIGKILL)
    quiet.router.start()
    quiet.await_guarded()
    assert GUARD in quiet.tables
    quiet.attack("nft flush ruleset")
    wait_until(lambda: quiet.installed, quiet.router.said)
    quiet.await_passing()
    assert quiet.leaked() == []


# --- trouble ------------------------------------------------------------------------------------------------


def test_two_programs_that_fight(scene: Scene) -> None:
    scene.begin(BY_IPTABLES)
    scene.await_guarded()
    fighter = scene.net.router.start("sh", "-c", "while :; do nft flush ruleset; sleep 0.1; done")
    wait_until(lambda: "steering_contested" in scene.router.said(), scene.router.said, 60)
    wait_until(lambda: scene.status()["restored"] > PATIENT + 3, scene.router.said, 60)
    fighter.kill()
    fighter.wait()
    wait_until(lambda: scene.installed, scene.router.said)
    assert scene.router.said().count("steering_restored") < scene.status()["restored"], "not each is logged"
    assert scene.leaked() == []


def test_rules_that_cannot_be_restored(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line for the cause, and further attempts."""
    refusing, switch = tmp_path / "iptables-restore", tmp_path / "refuse"
    refusing.write_text(
        f'#!/bin/sh\n[ -e {switch} ] && {{ echo refused >&2; exit 1; }}\nexec /usr/sbin/iptables-restore "$@"\n'
    )
    refusing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    scene.begin(BY_IPTABLES)
    scene.await_guarded()
    switch.write_text("")
    scene.attack("nft flush ruleset")
    wait_until(lambda: scene.status()["error"] == "refused", scene.router.said)
    switch.unlink()
    wait_until(lambda: scene.installed, scene.router.said)
    assert scene.router.said().count('"event": "steering_not_restored"') == 1
    assert scene.leaked() == []


def test_iptables_legacy_is_polled(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("iptables", "ip6tables"):
        for ending in ("", "-save", "-restore"):
            (tmp_path / f"{name}{ending}").symlink_to("/usr/sbin/xtables-legacy-multi")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    scene.begin(BY_IPTABLES)
    scene.await_guarded()
    for command in ("iptables -t mangle -F", "iptables -t raw -F", "ip6tables -t mangle -F"):
        scene.await_passing()
        scene.last()
        scene.attack(command)
        wait_until(lambda: scene.installed, scene.router.said)
    assert scene.leaked() == []
    assert scene.status()["restored"] == 3


def test_without_a_mark_there_is_no_leak_table(scene: Scene) -> None:
    scene.begin("mark_mask = 0\n")
    wait_until(lambda: scene.status()["leak_table"], "nothing said")
    assert "mark_mask is 0" in scene.status()["leak_table"]
    assert scene.router.said().count('"event": "no_leak_table"') == 1
    scene.attack("nft flush ruleset")
    wait_until(lambda: scene.installed, scene.router.said)
