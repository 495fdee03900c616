"""`conntrackd-py run` as systemd and an administrator meet it: how it starts, what it says, how it refuses."""

import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conntrackd_py.lab.namespaces import CLIENT, ROUTER, SERVER, Topology
from conntrackd_py.lab.router import CONFIG, DAEMON, Router
from conntrackd_py.lab.steps import TRAFFIC, UDP_PORT
from tests.e2e.conftest import Net
from tests.support.waiting import wait_until

Start = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def topology() -> Iterator[Topology]:
    with Topology() as made:
        yield made


@pytest.fixture
def start(topology: Topology) -> Start:
    """Starts a daemon that is expected not to run for long."""

    def run(config: str, *words: str) -> "subprocess.CompletedProcess[str]":
        file = topology.folder / "other.toml"
        file.write_text(config)
        return topology.router.complete(*DAEMON, "run", "-c", str(file), *words, timeout=15)

    return run


def test_a_wrong_configuration_is_named_and_ends_it(start: Start) -> None:
    refused = start('mode = "net"')
    assert refused.returncode == 1
    assert "mode" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_second_daemon_on_the_same_queue_is_refused_in_one_line(topology: Topology, start: Start) -> None:
    router = Router(topology)
    router.start()
    refused = start(f'[control]\nsocket = "{topology.folder}/other.sock"\n[metrics]\nlisten = ""')
    assert refused.returncode == 1
    assert re.fullmatch(r"conntrackd-py run: cannot bind packet queue 0: another program has it .*\n", refused.stderr)
    assert router.running


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ('[metrics]\nlisten = "192.0.2.77:1"', r".*192\.0\.2\.77.*"),
        ('[control]\nsocket = "/nonexistent/folder/control.sock"\n[metrics]\nlisten = ""', ".*/nonexistent/.*"),
    ],
    ids=["metrics", "control"],
)
def test_what_it_cannot_open_is_said_in_one_line(start: Start, config: str, why: str) -> None:
    refused = start(config)
    assert refused.returncode == 1
    last = refused.stderr.splitlines()[-1]
    assert re.fullmatch(f"conntrackd-py run: {why}", last)
    assert "Traceback" not in refused.stderr


def test_without_permission_it_says_so(tmp_path: Path) -> None:
    file = tmp_path / "conntrackd.toml"
    file.write_text(f'[control]\nsocket = "{tmp_path}/control.sock"\n')
    tmp_path.chmod(0o755)
    without = ("setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin")
    refused = subprocess.run(
        [*without, *DAEMON, "run", "-c", str(file)], capture_output=True, text=True, timeout=15, check=False
    )
    assert refused.returncode == 1
    assert "the permission is missing (CAP_NET_ADMIN)" in refused.stderr.splitlines()[-1]


def test_systemd_hears_that_it_is_ready_alive_and_stopping(topology: Topology) -> None:
    path = topology.folder / "notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(path))
        systemd.settimeout(10)
        router = Router(topology)
        environment = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "600000"}
        daemon = topology.router.start(*DAEMON, "run", "-c", str(router.config), env=environment)
        heard: list[str] = []
        while "READY=1" not in heard or heard.count("WATCHDOG=1") < 2:  # the sockets of the queues come first
            heard.append(systemd.recv(4096).decode())
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(10) == 0
        while not heard[-1].startswith("STOPPING"):
            heard.append(systemd.recv(4096).decode())
    assert "READY=1" in heard
    assert "STATUS=0 connections" in heard
    assert heard.count("WATCHDOG=1") >= 2
    assert heard[-1] == "STOPPING=1"


def test_the_commands_and_the_metrics_see_the_same_connection(net: Net) -> None:
    net.client.run(*TRAFFIC, "udp-send", SERVER, str(UDP_PORT), "100")
    listed = net.router.conntrack("-L", "-p", "udp", "--src", CLIENT)
    assert re.search(rf"src={CLIENT} dst={SERVER} .*src={SERVER} dst={ROUTER} ", listed)
    assert re.search(r'^conntrackd_py_entries\{proto="udp".*\} [1-9]', net.router.metrics(), re.MULTILINE)


def test_a_lost_address_ends_the_connections_masqueraded_with_it(topology: Topology) -> None:
    masquerade = CONFIG.replace('action = "SNAT"', 'action = "MASQUERADE"').replace(f'to = "{ROUTER}"\n', "", 1)
    router = Router(topology, masquerade)
    router.install_rules()
    router.start()
    topology.client.run("ping", "-c", "1", "-W", "2", SERVER)
    assert f"dst={ROUTER} " in router.conntrack("-L", "-p", "icmp")
    topology.router.run("ip", "address", "add", "203.0.113.9/24", "dev", "wan0")
    topology.router.run("sysctl", "-qw", "net.ipv4.conf.wan0.promote_secondaries=1")
    topology.router.run("ip", "address", "delete", f"{ROUTER}/24", "dev", "wan0")
    wait_until(lambda: not router.conntrack("-L", "-p", "icmp"), "the connection is still there")
    topology.client.run("ping", "-c", "1", "-W", "2", SERVER)
    assert "dst=203.0.113.9 " in router.conntrack("-L", "-p", "icmp")


def test_a_hangup_is_survived(net: Net) -> None:
    os.kill(net.router.pid, signal.SIGHUP)
    net.client.run("ping", "-c", "1", "-W", "2", SERVER)
    assert net.router.running
