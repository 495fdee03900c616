"""Port blocks and slices with the running daemon: two inside hosts, real UDP and TCP, seen outside, over restarts."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from conntrackd_py.lab.namespaces import CLIENT, ROUTER, SERVER, Topology
from conntrackd_py.lab.router import CONFIG, DAEMON, Router
from tests.support.processes import capture, start_script
from tests.support.talk import ECHO, finished
from tests.support.waiting import wait_until

NEIGHBOUR = "192.168.77.3"
TCP, UDP = 7100, 7200
BLOCK = 32
EACH = 40  # connections of a host and protocol: more than a block
BLOCKS = f"port_block = {BLOCK}\nblocks_per_host = 2\n"
# Opens connections, exchanges a word on each, and once more when a file exists.
CALL = """
import os, socket, sys, time
own, server, tcp, udp, count, again = *sys.argv[1:3], *map(int, sys.argv[3:6]), sys.argv[6]
held = []
for number in range(count):
    for kind, port in ((socket.SOCK_STREAM, tcp), (socket.SOCK_DGRAM, udp)):
        sock = socket.socket(socket.AF_INET, kind)
        sock.settimeout(10)
        sock.bind((own, 0))
        sock.connect((server, port))
        held.append((sock, f"{own[-1]}{number:03}".encode()))
def talk():
    for sock, word in held:
        sock.send(word)
        assert sock.recv(4) == word, word
talk()
print("ready", flush=True)
while not os.path.exists(again):
    time.sleep(0.05)
talk()
print("good")
"""


@pytest.fixture
def net() -> Iterator[Topology]:
    with Topology() as made:
        made.client.run("ip", "address", "add", f"{NEIGHBOUR}/24", "dev", "eth0")
        start_script(made.server, ECHO, SERVER, str(TCP), str(UDP))
        yield made


def started(net: Topology, keys: str) -> Router:
    made = Router(net, CONFIG.replace(f'to = "{ROUTER}"\n', f'to = "{ROUTER}"\n{keys}', 1))
    made.install_rules()
    made.start()
    return made


def capture_outside(net: Topology, file: Path) -> Path:
    capture(net.server, file, f"src host {ROUTER} and dst port ({TCP} or {UDP})")
    return file


def calls(net: Topology, own: str) -> subprocess.Popen[str]:
    return start_script(net.client, CALL, own, SERVER, str(TCP), str(UDP), str(EACH), str(net.folder / "again"))


def seen(net: Topology, file: Path) -> set[tuple[int, int]]:
    """Service and outer port of each connection in the capture."""
    lines = net.server.run("tcpdump", "-nr", str(file)).splitlines()
    found = [re.search(rf"{re.escape(ROUTER)}\.(\d+) > {re.escape(SERVER)}\.(\d+):", line) for line in lines]
    return {(int(match[2]), int(match[1])) for match in found if match}


def all_seen(net: Topology, file: Path, hosts: int) -> set[int]:
    wait_until(lambda: len(seen(net, file)) == 2 * EACH * hosts, "the capture is not complete")
    return {port for _, port in seen(net, file)}


def outer_ports(made: Router, host: str) -> set[int]:
    """The outer ports of the connections of a host."""
    lines = made.conntrack("-L", "--orig-src", host).splitlines()
    return {int(line.rpartition("dport=")[2].split()[0]) for line in lines}


def within(port: int, ranges: list[tuple[int, int]]) -> bool:
    return any(low <= port <= high for low, high in ranges)


def blocks(made: Router) -> dict[str, list[tuple[int, int]]]:
    """The ports of each host's blocks."""
    found: dict[str, list[tuple[int, int]]] = {}
    words = (*DAEMON, "blocks", "--json", "--socket", str(made.socket))
    for line in made.net.router.run(*words).splitlines():
        row = json.loads(line)
        assert row["outer"] == ROUTER
        found.setdefault(row["inside"], []).append(tuple(row["ports"]))
    return {host: sorted(mine) for host, mine in found.items()}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_each_host_has_ports_of_its_own_also_after_a_restart(net: Topology, number: signal.Signals) -> None:
    made = started(net, BLOCKS)
    outside = capture_outside(net, net.folder / "outside.pcap")
    talks = [calls(net, host) for host in (CLIENT, NEIGHBOUR)]
    before = blocks(made)
    assert {host: len(mine) for host, mine in before.items()} == {CLIENT: 2, NEIGHBOUR: 2}
    assert len({low for mine in before.values() for low, _ in mine}) == 4
    made.stop(number)
    made.start()
    assert blocks(made) == before
    (net.folder / "again").touch()
    assert [finished(talk) for talk in talks] == ["good", "good"]
    for host, mine in before.items():
        assert all(within(port, mine) for port in outer_ports(made, host))
    assert all_seen(net, outside, 2) == outer_ports(made, CLIENT) | outer_ports(made, NEIGHBOUR)
    (in_use,) = [line for line in made.metrics().splitlines() if line.startswith("conntrackd_py_nat_blocks_in_use{")]
    assert in_use.endswith(" 4.0")
    assert blocks(made) == before


def test_slices(net: Topology) -> None:
    made = started(net, "deterministic = true\n")
    said = net.router.run(*DAEMON, "check-config", "-c", str(made.config))
    assert "nat[0]: 252 ports for each inside address, 256 inside addresses on each outer one" in said
    (net.folder / "again").touch()
    for host in (CLIENT, NEIGHBOUR):
        outside = capture_outside(net, net.folder / f"{host}.pcap")
        assert finished(calls(net, host)) == "good"
        low = 1024 + 252 * int(host.rpartition(".")[2])
        assert all_seen(net, outside, 1) <= set(range(low, low + 252))
