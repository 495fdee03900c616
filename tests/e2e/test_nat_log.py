"""The NAT log of the real daemon, and what `who-had` says by it: real connections, logrotate, a full disk, kill -9."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from conntrackd_py.lab.namespaces import CLIENT, INSIDE, ROUTER, SERVER, Topology
from conntrackd_py.lab.router import CONFIG, DAEMON, WEB_OUTSIDE, Router
from conntrackd_py.lab.steps import start_servers
from tests.support.processes import start_script
from tests.support.talk import ECHO
from tests.support.waiting import wait_until

SHIPPED = Path(__file__).parents[2] / "config" / "logrotate" / "conntrackd-py"
PORT = 7100
CONTROL = '[metrics]\nlisten = ""\n[control]\nsocket = "%s"\n'
UDP = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.bind(("", int(sys.argv[1])))
    for port in range(int(sys.argv[3]), int(sys.argv[4])):
        s.sendto(b"?", (sys.argv[2], port))
"""


class Logged:
    """A router with a NAT log in `folder`, which a test may mount."""

    def __init__(self, net: Topology) -> None:
        self.net = net
        self.folder = net.folder / "log"
        self.folder.mkdir()
        self.file = self.folder / "nat.log"
        self.router = Router(net, f'{CONFIG}\n[nat_log]\nfile = "{self.file}"\nbuffer = 1024\n')

    def start(self) -> None:
        self.router.start()
        wait_until(lambda: self.kinds()[-1:] == ["LISTED"], lambda: f"no list: {self.kinds()}")

    def lines(self) -> list[dict[str, Any]]:
        text = self.file.read_text() if self.file.exists() else ""
        return [json.loads(line) for line in text.splitlines() if line.endswith("}")]

    def kinds(self) -> list[str]:
        return [line["event"] for line in self.lines()]

    def wait(self, kind: str, count: int = 1) -> None:
        wait_until(
            lambda: self.kinds().count(kind) >= count, lambda: f"no {kind}: {self.kinds()}\n{self.router.said()}"
        )

    def udp(self, sport: int, dport: int = 9, to: int = 0) -> str:
        """A packet to each of these ports; the time after the first one."""
        self.net.client.run("python3", "-c", UDP, str(sport), SERVER, str(dport), str(to or dport + 1))
        return now()

    def status(self) -> str:
        return self.net.router.run(*DAEMON, "status", "--socket", str(self.router.socket))

    def who_had(self, port: int, at: str, *words: str) -> tuple[int, str]:
        command = (*DAEMON, "who-had", ROUTER, str(port), at, "-c", str(self.router.config), *words)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr


def now() -> str:
    """In ms, and over before the next line of the log is written."""
    time.sleep(0.01)
    text = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
    time.sleep(0.01)
    return text


@pytest.fixture
def net() -> Iterator[Topology]:
    with Topology() as made:
        yield made


@pytest.fixture
def logged(net: Topology) -> Iterator[Logged]:
    made = Logged(net)
    made.router.install_rules()
    yield made
    subprocess.run(["umount", str(made.folder)], capture_output=True, check=False)


def test_tcp_udp_icmp_and_a_forwarded_port(logged: Logged) -> None:
    net = logged.net
    logged.start()
    start_servers(net)
    before = now()
    net.client.run("ping", "-c", "1", SERVER)
    net.client.run("curl", "-sS", "--local-port", "41000", f"http://{SERVER}/")
    net.server.run("curl", "-sS", "--local-port", "42000", f"http://{ROUTER}:{WEB_OUTSIDE}/")
    logged.udp(43000)
    at = now()
    logged.wait("NEW", 4)
    logged.router.conntrack("-D", "-p", "udp", "--sport", "43000")
    logged.wait("DESTROY")
    wait_until(lambda: " lines, 0 waiting, 0 lost" in logged.status(), logged.status)
    identifier = next(line["reply"]["id"] for line in logged.lines() if line.get("proto") == "icmp")
    for port, inside, more in (
        (41000, f"{CLIENT}:41000", f"remote {SERVER}:80, nat[0]"),
        (WEB_OUTSIDE, f"{CLIENT}:80", f"remote {SERVER}:42000, nat[1]"),
        (identifier, f"{CLIENT}:{identifier}", f"remote {SERVER}, nat[0]"),
        (43000, f"{CLIENT}:43000", f"remote {SERVER}:9, nat[0], original 1 packets 29 bytes, reply "),
    ):
        status, said = logged.who_had(port, at)
        assert (status, said.startswith(f"{inside} had {ROUTER}:{port} ")) == (0, True), said
        assert more in said
        assert logged.who_had(port, before) == (1, "nobody had it at that time\n")
    assert logged.who_had(43000, at, "--proto", "tcp")[0] == 1
    assert logged.who_had(43000, at, "--destination", f"{SERVER}:10")[0] == 1
    assert logged.who_had(43000, "2026-01-01")[0] == 2


def test_connections_that_live_through_kill_9_are_found_and_not_new_again(logged: Logged) -> None:
    logged.start()
    first = logged.udp(43000)
    logged.wait("NEW")
    assert logged.router.stop(signal.SIGKILL) == -signal.SIGKILL
    logged.start()
    second = logged.udp(43000)
    third = logged.udp(43001)
    logged.wait("NEW", 2)
    assert logged.router.stop() == 0
    assert logged.kinds().count("NEW") == 2
    assert logged.kinds().count("OPEN") == 1
    assert logged.kinds()[-1] == "STOP"
    for at in (first, second, third):
        status, said = logged.who_had(43000, at)
        assert status == 0
        assert said.startswith(f"{CLIENT}:43000 had {ROUTER}:43000 udp from ")
        assert "still open at the end of the log" in said
    assert logged.who_had(43001, second) == (1, "nobody had it at that time\n")


def test_what_the_journal_did_not_keep_has_ended(logged: Logged) -> None:
    logged.start()
    at = logged.udp(43000)
    logged.wait("NEW")
    logged.router.stop()
    (logged.net.folder / "control.journal").unlink()
    logged.start()
    later = now()
    logged.udp(43001)
    logged.wait("NEW", 2)
    assert logged.who_had(43000, at)[0] == 0
    assert logged.who_had(43000, later) == (1, "nobody had it at that time\n")


def rotate(logged: Logged) -> None:
    """With the shipped configuration, for another file and user."""
    text = SHIPPED.read_text().replace("/var/log/conntrackd-py/nat.log", str(logged.file))
    config = logged.net.folder / "logrotate.conf"
    config.write_text(text.replace("conntrackd-py conntrackd-py", "root root"))
    config.chmod(0o644)
    state = str(logged.net.folder / "logrotate.state")
    subprocess.run(["logrotate", "--force", "-s", state, str(config)], check=True)


def test_logrotate(logged: Logged) -> None:
    """Two rotations under new connections: no line is lost, and the compressed file is read."""
    logged.start()
    total, times = 0, []
    for turn in range(3):
        for sport in range(43000 + 100 * turn, 43020 + 100 * turn):
            times.append((sport, logged.udp(sport)))
            total += 1
            if total % 20 == 10:
                rotate(logged)
                time.sleep(1.1)  # the next name has another second
    logged.router.stop()
    files = sorted(path.name for path in logged.folder.iterdir())
    assert len(files) == 4
    assert sum(name.endswith(".gz") for name in files) == 2
    assert logged.kinds()[0] == "FILE"
    for sport, at in times[::7]:
        status, said = logged.who_had(sport, at)
        assert status == 0, said
        assert said.startswith(f"{CLIENT}:{sport} had {ROUTER}:{sport} udp")
        assert "damaged" not in said
    assert logged.who_had(43999, times[30][1])[0] == 1


def test_a_renamed_file_and_a_reload(logged: Logged) -> None:
    logged.start()
    logged.file.rename(logged.folder / "nat.log.1")
    logged.router.process.send_signal(signal.SIGHUP)  # type: ignore[union-attr]
    logged.wait("RELOAD")
    at = logged.udp(43000)
    logged.router.stop()
    assert logged.who_had(43000, at)[0] == 0


def test_a_full_disk_delays_no_packet_and_is_told(logged: Logged) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(logged.folder)], check=True)
    logged.start()
    start_script(logged.net.server, ECHO, SERVER, str(PORT), str(PORT))
    first = logged.udp(43000)
    logged.wait("NEW")
    hog = logged.folder / "hog"
    hog.write_bytes(b"x" * (64 * 1024 - 8192))
    for sport in range(44000, 44004):
        logged.udp(sport, 1000, 1400)
    during = logged.udp(45000)
    wait_until(lambda: "nat_log_lines_lost" in logged.router.said(), logged.router.said)
    assert "No space left on device" in logged.router.said()
    logged.net.client.run("ping", "-c", "20", "-i", "0.01", "-W", "1", SERVER)
    metrics = logged.router.metrics()
    assert "conntrackd_py_nat_log_lost_total 0.0" not in metrics
    assert "conntrackd_py_nat_log_write_errors_total 0.0" not in metrics
    assert "lines wait: No space left on device" in logged.status()
    hog.unlink()
    subprocess.run(["mount", "-o", "remount,size=8m", str(logged.folder)], check=True)
    logged.wait("LOST")
    lost = next(line["lines"] for line in logged.lines() if line["event"] == "LOST")
    assert f"conntrackd_py_nat_log_lost_total {lost}.0" in logged.router.metrics()
    said = logged.router.said()
    for event in ("nat_log_lines_lost", "nat_log_failed", "nat_log_written_again"):
        assert said.count(f'"{event}"') == 1, said
    status, said = logged.who_had(43000, first)
    assert (status, "damaged" in said) == (0, False)
    status, said = logged.who_had(45000, during)
    assert (status, f"{lost} lines were lost" in said) == (2, True), said


def test_a_file_that_cannot_be_written_does_not_stop_the_daemon(logged: Logged) -> None:
    logged.folder.rmdir()
    logged.router.start()
    wait_until(lambda: "nat_log_failed" in logged.router.said(), logged.router.said)
    at = logged.udp(43000)
    logged.folder.mkdir()
    logged.wait("NEW")
    assert logged.who_had(43000, at)[0] == 0
    shutil.rmtree(logged.folder)
    logged.udp(43001)
    logged.folder.mkdir()
    logged.wait("FILE")
    assert logged.router.stop() == 0


def test_the_kernels_own_translation_in_mode_observe(net: Topology) -> None:
    log = net.folder / "nat.log"
    router = Router(net, f'mode = "observe"\n{CONTROL}[nat_log]\nfile = "{log}"\n')
    net.router.run("iptables", "-t", "nat", "-A", "POSTROUTING", "-o", "wan0", "-j", "MASQUERADE")
    router.install_rules()
    router.start()
    net.client.run("ping", "-c", "1", SERVER)
    wait_until(lambda: log.exists() and '"NEW"' in log.read_text(), "no line")
    line = next(json.loads(line) for line in log.read_text().splitlines() if '"NEW"' in line)
    assert (line["orig"]["src"], line["reply"]["dst"]) == (CLIENT, ROUTER)


@pytest.mark.parametrize(
    ("key", "more"), [("port_block = 512", ", a block of ports, nat[0]"), ("deterministic = true", " rule nat[0], ")]
)
def test_blocks_and_slices_need_no_line_of_a_connection(net: Topology, key: str, more: str) -> None:
    rule = f'[[nat]]\nout_interface = "wan0"\nsource = "{INSIDE}"\naction = "SNAT"\nto = "{ROUTER}"\n{key}\n'
    log = net.folder / "nat.log"
    router = Router(net, f'{CONTROL}{rule}[nat_log]\nfile = "{log}"\nconnections = false\n')
    router.install_rules()
    router.start()
    net.client.run("python3", "-c", UDP, "43000", SERVER, "9", "11")
    at = now()
    port = router.conntrack("-L", "-p", "udp").split("dport=")[2].split()[0]
    assert ("1 of 126 port blocks in use" if "512" in key else "  nat[0]      0 refused") in net.router.run(
        *DAEMON, "status", "--socket", str(router.socket)
    )
    router.stop()
    assert '"NEW"' not in log.read_text()
    command = (*DAEMON, "who-had", ROUTER, port, at, "--log", str(log))
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    assert said.count("\n") == 1, f"{said}\n{log.read_text()}"
    assert said.startswith(f"{CLIENT} had {ROUTER}:")
    assert more in said


def test_a_port_of_two_hosts(logged: Logged) -> None:
    """An outer port serves two inside endpoints, with other remote ends."""
    logged.router.config.write_text(
        logged.router.config.read_text().replace(
            f'action = "SNAT"\nto = "{ROUTER}"', f'action = "SNAT"\nproto = "udp"\nto = "{ROUTER}:5000"'
        )
    )
    logged.start()
    logged.udp(43000, 9)
    at = logged.udp(43001, 10)
    logged.router.stop()
    status, said = logged.who_had(5000, at)
    assert status == 0
    assert said.count(f"had {ROUTER}:5000 udp") == 2
    status, said = logged.who_had(5000, at, "--destination", f"{SERVER}:10")
    assert (status, said.count("\n")) == (0, 1)
    assert said.startswith(f"{CLIENT}:43001 had")
