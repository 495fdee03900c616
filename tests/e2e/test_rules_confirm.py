"""`rules install` cannot lock out its user: `--for` takes the rules back, and an SSH session is not cut off."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conntrackd_py.lab.namespaces import CLIENT, Topology

PROGRAM = str(Path(sys.executable).with_name("conntrackd-py"))
DESCRIBED = "program: nft (steering.program is auto)\nkernel tracking: off (no rule needs it)\n"
WAITING = "installed for 60 s; to keep the rules press Enter, or run `conntrackd-py rules confirm`\n"
KEPT = "confirmed: the rules stay\n"
RESTORED = "not confirmed: the former rules are back\n"


class Machine:
    """The router of a topology, as its administrator uses it."""

    def __init__(self, net: Topology, config: Path) -> None:
        self.namespace = net.router
        self.config = config
        self.config.write_text("")

    def rules(self, action: str, *options: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        config = [] if action == "confirm" else ["-c", str(self.config)]
        variables = [f"{name}={value}" for name, value in (env or {}).items()]
        return self.namespace.complete("env", *variables, PROGRAM, "rules", action, *config, *options)

    def waiting(self, stdin: int | None = subprocess.DEVNULL) -> subprocess.Popen[str]:
        """`rules install --for 60`, when the rules are installed."""
        words = self.namespace.command(PROGRAM, "rules", "install", "-c", str(self.config), "--for", "60")
        process = subprocess.Popen(words, stdin=stdin, stdout=subprocess.PIPE, text=True)
        self.namespace.started.append(process)
        assert process.stdout is not None
        assert "".join(process.stdout.readline() for _ in range(3)) == DESCRIBED + WAITING
        assert self.installed
        return process

    @property
    def ruleset(self) -> str:
        """Without the counters: the router sends packets of its own."""
        return re.sub(r"packets \d+ bytes \d+", "", self.namespace.run("nft", "list", "ruleset"))

    @property
    def installed(self) -> bool:
        return self.rules("status").returncode == 0


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with Topology() as net:
        yield Machine(net, tmp_path / "conntrackd.toml")


def test_without_a_confirmation_the_ruleset_is_as_before(machine: Machine) -> None:
    before = machine.ruleset
    done = machine.rules("install", "--for", "1")
    assert (done.returncode, done.stdout) == (1, DESCRIBED + WAITING.replace("60", "1") + RESTORED)
    assert machine.ruleset == before


def test_the_former_rules_of_the_daemon_come_back(machine: Machine) -> None:
    assert machine.rules("install").returncode == 0
    before = machine.ruleset
    machine.config.write_text('[steering]\nexclude_interfaces = ["wan0"]\n')
    assert machine.rules("install", "--for", "1").returncode == 1
    assert machine.ruleset == before


def test_enter_keeps_the_rules(machine: Machine) -> None:
    process = machine.waiting(stdin=subprocess.PIPE)
    said, _ = process.communicate("\n", timeout=20)
    assert (process.returncode, said) == (0, KEPT)
    assert machine.installed


def test_another_session_keeps_the_rules(machine: Machine) -> None:
    process = machine.waiting()
    assert machine.rules("confirm").returncode == 0
    said, _ = process.communicate(timeout=20)
    assert (process.returncode, said) == (0, KEPT)
    assert machine.installed


def test_without_a_waiting_installation_there_is_nothing_to_confirm(machine: Machine) -> None:
    done = machine.rules("confirm")
    assert done.returncode == 1
    assert done.stderr == "conntrackd-py rules: no `rules install --for` is waiting for a confirmation\n"


def test_only_one_installation_waits(machine: Machine) -> None:
    first = machine.waiting()
    second = machine.rules("install", "--for", "60")
    assert (second.returncode, "another `rules install --for` is waiting" in second.stderr) == (1, True)
    first.terminate()
    first.wait(20)


def test_a_lost_terminal_does_not_end_it_and_a_signal_restores_the_rules(machine: Machine) -> None:
    before = machine.ruleset
    process = machine.waiting()
    process.send_signal(signal.SIGHUP)
    assert machine.rules("install", "--for", "60").returncode == 1, "it waits no more"
    process.terminate()
    assert process.wait(20) == 128 + signal.SIGTERM
    assert machine.ruleset == before


SESSION = {"SSH_CONNECTION": f"{CLIENT} 50000 192.168.77.1 22"}


def test_an_ssh_session_is_not_cut_off(machine: Machine) -> None:
    done = machine.rules("install", env=SESSION)
    assert done.returncode == 1
    assert f"the rules would cut off this SSH session (from {CLIENT})" in done.stderr
    assert not machine.installed


@pytest.mark.parametrize(
    ("config", "options"),
    [
        ("", ["--force"]),
        ("", ["--on-start"]),
        ('[steering]\nexclude_interfaces = ["lan0"]\n', []),
        ('mode = "track"\n[queue]\nfail_open = true\n', []),
    ],
)
def test_the_rules_are_installed_where_the_session_goes_on(machine: Machine, config: str, options: list[str]) -> None:
    machine.config.write_text(config)
    done = machine.rules("install", *options, env=SESSION)
    assert done.returncode == 0, done.stderr
    assert machine.installed


def test_a_session_in_another_namespace_goes_on(machine: Machine) -> None:
    """The lab builds its router from a session of the machine itself."""
    command = " ".join(machine.namespace.command(PROGRAM, "rules", "install", "-c", str(machine.config)))
    env = {**os.environ, **SESSION}
    subprocess.run(["sh", "-c", f"{command}; exit $?"], env=env, check=True)
    assert machine.installed


def test_with_a_daemon_the_session_goes_on(machine: Machine, tmp_path: Path) -> None:
    machine.config.write_text(f'[control]\nsocket = "{tmp_path}/control.sock"\n[metrics]\nlisten = ""\n')
    daemon = machine.namespace.start(PROGRAM, "run", "-c", str(machine.config), stderr=subprocess.PIPE)
    assert daemon.stderr is not None
    assert any('"event": "ready"' in line for line in daemon.stderr)
    assert machine.rules("install", env=SESSION).returncode == 0
