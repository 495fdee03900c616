"""`conntrackd-py reload` and SIGHUP on the real daemon under traffic: all of a configuration or none of it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from conntrackd_py.lab.namespaces import CLIENT, INSIDE, ROUTER, SERVER, Topology
from conntrackd_py.lab.router import DAEMON, Router
from conntrackd_py.lab.steps import EXCHANGE_PORT, TRAFFIC, start_servers
from tests.support.processes import capture, start_script
from tests.support.waiting import WITHIN, wait_until

RELOADS = int(os.environ.get("CONNTRACKD_PY_RELOADS", "30"))
HEAD = """\
[metrics]
listen = "127.0.0.1:9466"
[control]
socket = "{socket}"
"""
OUT = f"""
[[nat]]
out_interface = "wan0"
source = "{INSIDE}"
action = "MASQUERADE"
"""
FORWARD = f"""
[[nat]]
in_interface = "wan0"
destination = "{ROUTER}"
proto = "udp"
dport = 7000
action = "DNAT"
to = "{CLIENT}:%d"
"""
DENY = """
[[filter.rule]]
hook = "forward"
proto = "udp"
dport = 9
action = "drop"
"""
ECHO = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.bind(("", int(sys.argv[1])))
    print("ready", flush=True)
    while True:
        data, peer = s.recvfrom(100)
        s.sendto(sys.argv[1].encode(), peer)
"""
ASK = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.bind(("", int(sys.argv[1])))
    s.settimeout(5)
    s.sendto(b"?", (sys.argv[2], int(sys.argv[3])))
    print(s.recv(100).decode())
"""

TCP_ECHO = """
import socket
with socket.create_server(("", 7100)) as listening:
    print("ready", flush=True)
    one, _ = listening.accept()
    while data := one.recv(1000):
        one.sendall(data)
"""
TCP_TALK = """
import pathlib, socket, sys
trips = 0
with socket.create_connection((sys.argv[1], 7100), timeout=5) as tcp:
    while not pathlib.Path(sys.argv[2]).exists():
        tcp.sendall(b"hello")
        assert tcp.recv(5, socket.MSG_WAITALL) == b"hello"
        trips += 1
print(trips)
"""
ONE_DATAGRAM = f"import socket; socket.socket(2, 2).sendto(b'x', ('{SERVER}', 9))"


@dataclass
class Stage:
    net: Topology
    router: Router

    def write(self, text: str, socket: Path | None = None) -> None:
        self.router.config.write_text(HEAD.format(socket=socket or self.router.socket) + text)

    def reload(self, *options: str) -> subprocess.CompletedProcess[str]:
        return self.net.router.complete(*DAEMON, "reload", "--socket", str(self.router.socket), *options)

    def status(self) -> dict[str, object]:
        text = self.net.router.run(*DAEMON, "status", "--json", "--socket", str(self.router.socket))
        found: dict[str, object] = json.loads(text)
        return found

    def ask(self, sport: int, address: str, dport: int, *, outside: bool = False) -> str:
        where = self.net.server if outside else self.net.client
        return where.run("/usr/bin/python3", "-c", ASK, str(sport), address, str(dport)).strip()


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Topology() as net:
        router = Router(net, "%s")
        stage = Stage(net, router)
        stage.write(OUT + FORWARD % 7001)
        router.install_rules()
        router.start()
        start_servers(net)
        for port in (7001, 7002):
            start_script(net.client, ECHO, str(port))
        yield stage


def test_another_target_is_for_new_connections(stage: Stage) -> None:
    assert stage.ask(5000, ROUTER, 7000, outside=True) == "7001"
    stage.write(OUT + FORWARD % 7002)
    done = stage.reload()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[:2] == [
        "reloaded",
        "stale connections that the NAT rules would translate differently: 1",
    ]
    assert stage.ask(5000, ROUTER, 7000, outside=True) == "7001"
    assert stage.ask(5001, ROUTER, 7000, outside=True) == "7002"


def test_stale_connections_are_listed_and_ended(stage: Stage) -> None:
    assert stage.ask(5000, ROUTER, 7000, outside=True) == "7001"
    stage.ask(5002, SERVER, 7)
    stage.write(OUT)
    assert stage.reload().returncode == 0
    listed = stage.router.conntrack("-L", "--stale").splitlines()
    assert len(listed) == 1
    assert "dport=7000" in listed[0]
    done = stage.reload("--flush-stale")
    assert "stale connections ended: 1" in done.stdout.splitlines()
    assert "dport=7000" not in stage.router.conntrack("-L")
    assert "dport=7 " in stage.router.conntrack("-L")


def test_a_bad_file_changes_nothing_and_says_so_everywhere(stage: Stage) -> None:
    stage.write(OUT + FORWARD % 7002 + "[[nat]]\naction = 'SNATCH'\n")
    done = stage.reload()
    assert done.returncode == 1
    assert "SNATCH" in done.stderr
    assert stage.ask(5000, ROUTER, 7000, outside=True) == "7001"
    reload = stage.status()["reload"]
    assert isinstance(reload, dict)
    assert (reload["successful"], "SNATCH" in reload["error"]) == (False, True)
    assert '"event": "reload_failed"' in stage.router.said()
    stage.write(OUT + FORWARD % 7002)
    assert stage.reload().returncode == 0
    assert stage.ask(5001, ROUTER, 7000, outside=True) == "7002"


def test_warnings_are_logged_at_a_reload_and_at_a_start(stage: Stage) -> None:
    def logged() -> list[dict[str, object]]:
        lines = [json.loads(line) for line in stage.router.said().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == "configuration"]

    assert logged() == []
    stage.write(OUT + FORWARD % 7001 + FORWARD % 7002)
    assert stage.reload().returncode == 0
    (first,) = logged()
    assert (first["level"], first["file"], first["key"]) == ("warning", str(stage.router.config), "nat[2]")
    assert stage.router.config.read_text().splitlines()[int(str(first["line"])) - 1] == "[[nat]]"
    assert "nat[1] (line " in str(first["reason"])
    assert stage.router.stop() == 0
    stage.router.start()
    again = logged()
    assert [{**line, "timestamp": ""} for line in again] == [{**first, "timestamp": ""}] * 2


def test_what_waits_for_a_restart_is_named(stage: Stage) -> None:
    stage.router.config.write_text(
        'mode = "track"\n[queue]\nmax_length = 4000\n' + HEAD.format(socket=stage.router.socket) + OUT
    )
    done = stage.reload()
    assert "needs a restart: mode, queue.max_length" in done.stdout.splitlines()
    assert stage.status()["mode"] == "nat"


def test_a_hangup_is_a_reload(stage: Stage) -> None:
    stage.write(OUT + FORWARD % 7002)
    os.kill(stage.router.pid, signal.SIGHUP)
    wait_until(lambda: '"event": "reloaded"' in stage.router.said(), stage.router.said)
    assert stage.ask(5001, ROUTER, 7000, outside=True) == "7002"


def test_settings_of_every_table_change_live(stage: Stage) -> None:
    """Metrics move to another port, the socket to another path, a filter begins, a timeout and the log level change."""
    moved = stage.net.folder / "moved.sock"
    stage.router.config.write_text(
        f"""\
[metrics]
listen = "127.0.0.1:9467"
[control]
socket = "{moved}"
max_clients = 3
[log]
level = "debug"
[tunables]
nf_conntrack_udp_timeout = 17
nf_conntrack_max = 1000
{OUT}{DENY}
"""
    )
    assert stage.reload().returncode == 0
    assert not stage.router.socket.exists()
    stage.router.socket = moved
    assert stage.status()["limit"] == 1000
    stage.ask(5003, SERVER, 7)
    assert re.match(r"udp +17 1?\d src=", stage.router.conntrack("-L", "-p", "udp", "--dport", "7"))
    stage.net.router.run("curl", "-sS", "--fail", "http://127.0.0.1:9467/metrics")
    assert stage.net.router.complete("curl", "-sS", "http://127.0.0.1:9466/metrics").returncode != 0
    stage.net.client.run("/usr/bin/python3", "-c", ONE_DATAGRAM)
    assert "dport=9" not in stage.router.conntrack("-L")


def test_an_address_that_cannot_be_had_leaves_everything_as_it_was(stage: Stage) -> None:
    """The filter of the same file is not in force either."""
    stage.router.config.write_text(
        f'[metrics]\nlisten = "198.51.100.77:9466"\n[control]\nsocket = "{stage.net.folder}/new.sock"\n{OUT}{DENY}'
    )
    done = stage.reload()
    assert done.returncode == 1
    assert "metrics.listen" in done.stderr
    assert stage.status()["reload"] == {**stage.status()["reload"], "successful": False}  # type: ignore[dict-item]
    assert "conntrackd_py_entries" in stage.router.metrics()
    assert sorted(path.name for path in stage.net.folder.glob("*.sock*")) == [stage.router.socket.name]
    stage.net.client.run("/usr/bin/python3", "-c", ONE_DATAGRAM)
    assert "dport=9" in stage.router.conntrack("-L")


def test_steering_follows(stage: Stage) -> None:
    """An interface more to leave alone: the installed rules change in the same step."""
    assert "dummy0" not in stage.net.router.run("nft", "list", "ruleset")
    stage.write('\n[steering]\nexclude_interfaces = ["lo", "dummy0"]\n' + OUT)
    assert stage.reload().returncode == 0
    assert 'iifname "dummy0" return' in stage.net.router.run("nft", "list", "ruleset")
    stage.net.router.run(*DAEMON, "rules", "status", "-c", str(stage.router.config))


def test_another_program_takes_over_without_a_leak(stage: Stage) -> None:
    """Packets may be lost meanwhile, but none leaves untranslated, and the connections go on."""
    outside = stage.net.folder / "outside.pcap"
    capture(stage.net.server, outside, f"(ip net {INSIDE}) or arp")
    ping = stage.net.client.start("ping", "-q", "-i", "0.002", "-w", "900", SERVER, stdout=subprocess.PIPE)
    for program in ("iptables", "nft") * 3:
        stage.write(f'[steering]\nprogram = "{program}"\n' + OUT)
        assert stage.reload().returncode == 0
        said = stage.net.router.run(*DAEMON, "rules", "status", "-c", str(stage.router.config))
        assert f"program: {program} (steering.program is {program})" in said
    assert stage.router.said().count('"event": "steering"') == 6
    ping.send_signal(signal.SIGINT)
    ping.wait(WITHIN)
    stage.net.server.run("ip", "neighbour", "flush", "all")
    assert stage.ask(5003, SERVER, 7) == "?"
    stage.net.server.run("ping", "-c", "1", "-W", "5", ROUTER)
    wait_until(lambda: stage.net.server.run("tcpdump", "-nr", str(outside), "arp"), "the capture is not running")
    assert stage.net.server.run("tcpdump", "-nr", str(outside), f"net {INSIDE}") == ""


def test_a_firewall_that_needs_it_turns_the_kernels_tracking_on_at_a_reload(stage: Stage) -> None:
    router = stage.net.router
    router.run("iptables", "-P", "FORWARD", "DROP")
    router.run("iptables", "-A", "FORWARD", "-i", "lan0", "-j", "ACCEPT")
    router.run("iptables", "-A", "FORWARD", "-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT")
    assert stage.reload().returncode == 0
    assert router.complete(*DAEMON, "rules", "status", "-c", str(stage.router.config)).returncode == 0
    assert "needed by iptables ipv4 filter FORWARD" in stage.router.said()
    said = stage.net.client.run(*TRAFFIC, "exchange", SERVER, str(EXCHANGE_PORT), "5000000")
    assert said == "5000000 bytes each way, SHA-256 equal\n"


def test_many_reloads_lose_no_packet(stage: Stage) -> None:
    """CONNTRACKD_PY_RELOADS=1000 for the long run. Each swaps the target and the filter; a bad file now and then."""
    start_script(stage.net.server, TCP_ECHO)
    over = stage.net.folder / "over"
    talk = stage.net.client.start("/usr/bin/python3", "-c", TCP_TALK, SERVER, str(over), stdout=subprocess.PIPE)
    ping = stage.net.client.start("ping", "-q", "-i", "0.002", "-w", "900", SERVER, stdout=subprocess.PIPE)
    for number in range(RELOADS):
        bad = number % 10 == 9
        deny = DENY if number % 3 else ""
        stage.write(OUT + FORWARD % (7001 + number % 2) + deny + ("\nnonsense = 1\n" if bad else ""))
        assert (stage.reload().returncode != 0) == bad
    over.touch()
    ping.send_signal(signal.SIGINT)
    assert ping.stdout is not None
    sent, received = re.findall(r"(\d+) (?:packets transmitted|received)", ping.stdout.read())
    assert int(sent) - int(received) <= 1, "the last one may be under way when ping ends"
    assert int(received) > RELOADS
    assert talk.wait(WITHIN) == 0
    assert stage.router.conntrack("-L", "-p", "tcp", "--dport", "7100").count("dport=7100 ") == 1
