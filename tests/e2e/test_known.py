"""queue.known_first: the kernel recognises established connections, and their packets have a queue of their own."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator

import pytest

from conntrackd_py.lab.namespaces import (
    CLIENT,
    CLIENT6,
    ROUTER,
    ROUTER6_INSIDE,
    ROUTER_INSIDE,
    SERVER,
    SERVER6,
    Topology,
)
from conntrackd_py.lab.router import CONFIG, Router
from conntrackd_py.lab.steps import TRAFFIC, UDP_PORT, start_servers
from tests.support.processes import start
from tests.support.waiting import wait_until

NEW, KNOWN = 0, 2  # queues
MAPS = "conntrackd_py_maps"
OWN_PORT = 9007
PROGRAMS = ["nft", "iptables"]

# One datagram from a chosen port; prints the answer, or nothing.
ASK = """
import socket, sys
host, port, source = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.bind(("", source))
    s.settimeout(1)
    s.sendto(b"?", (host, port))
    try:
        print(s.recv(100).decode())
    except TimeoutError:
        pass
"""
# UDP from random ports, without a pause, for so many seconds.
FLOOD = """
import socket, sys, time
host, until = sys.argv[1], time.monotonic() + float(sys.argv[2])
family = socket.AF_INET6 if ":" in host else socket.AF_INET
while time.monotonic() < until:
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        for port in range(20000, 20400):
            s.sendto(b"flood", (host, port))
"""


class Net:
    def __init__(self, topology: Topology, config: str) -> None:
        self.topology = topology
        self.client, self.inside_router, self.outside = topology.client, topology.router, topology.server
        self.router = Router(topology, config)
        self.router.install_rules()
        self.router.start()
        start_servers(topology)

    def ask(self, host: str, source: int, port: int = UDP_PORT) -> str:
        return self.client.run("/usr/bin/python3", "-c", ASK, host, str(port), str(source)).strip()

    def counted(self, column: int) -> dict[int, int]:
        """By queue: column 7 is the id of the last packet, 5 the packets dropped because the queue was full."""
        rows = self.inside_router.run("cat", "/proc/net/netfilter/nfnetlink_queue").splitlines()
        return {int(row.split()[0]): int(row.split()[column]) for row in rows}

    def queued(self, sent: Callable[[], object]) -> tuple[int, int]:
        """Packets in the queues NEW and KNOWN while `sent` runs."""
        before = self.counted(7)
        sent()
        after = self.counted(7)
        return after[NEW] - before[NEW], after[KNOWN] - before[KNOWN]

    def known(self, port: int) -> list[str]:
        """The remembered tuples with this port."""
        text = "".join(self.inside_router.run("nft", "list", "set", family, MAPS, "known") for family in ("ip", "ip6"))
        return [one for one in re.findall(r"[0-9a-f.:]+ \. [0-9a-f.:]+ \. \w+ \. \w+ \. \w+", text) if str(port) in one]


def config(program: str = "nft", more: str = "") -> str:
    return f'{CONFIG}[steering]\nprogram = "{program}"\n{more}'


@pytest.fixture
def topology() -> Iterator[Topology]:
    with Topology() as made:
        yield made


@pytest.mark.parametrize("program", PROGRAMS)
def test_packets_after_the_first_reply_are_known(topology: Topology, program: str) -> None:
    net = Net(topology, config(program))
    for host, own, port in ((SERVER, ROUTER, 5001), (SERVER6, CLIENT6, 5002)):
        net.ask(host, port)
        assert len(net.known(port)) == 1, "the answer has left: the client's packets are known"
        net.ask(host, port)
        assert [line.split(" . ")[1] for line in net.known(port) if line.startswith(host)] == [own]
        assert net.queued(lambda h=host, p=port: net.ask(h, p))[1] == 2  # type: ignore[misc]
        assert net.queued(lambda h=host, p=port: net.ask(h, p + 10))[1] == 0  # type: ignore[misc]


def test_the_routers_own_connections_are_known(topology: Topology) -> None:
    net = Net(topology, config())
    for host in (ROUTER_INSIDE, ROUTER6_INSIDE):
        start(topology.router, *TRAFFIC, "udp-echo", host, str(OWN_PORT))
        for _ in range(2):
            assert net.ask(host, 5003, OWN_PORT)
        assert net.queued(lambda h=host: net.ask(h, 5003, OWN_PORT))[1] == 1  # type: ignore[misc]


def test_the_set_forgets_and_the_connection_goes_on(topology: Topology) -> None:
    net = Net(topology, config())
    for _ in range(2):
        net.ask(SERVER, 5004)
    for family in ("ip", "ip6"):
        assert net.inside_router.complete("nft", "flush", "set", family, MAPS, "known").returncode == 1, "it is owned"
    assert net.router.process is not None
    net.router.stop()
    assert MAPS not in net.inside_router.run("nft", "list", "tables")
    net.router.start()
    assert net.known(5004) == [], "a new daemon begins with an empty set"
    assert net.ask(SERVER, 5004)


def test_an_excluded_interface_is_not_recognised(topology: Topology) -> None:
    net = Net(topology, config(more='exclude_interfaces = ["lo", "lan0"]\n'))
    for _ in range(3):
        assert net.ask(SERVER6, 5005)
    assert len(net.known(5005)) == 1, "the answer came in by wan0 and left"
    assert net.queued(lambda: net.ask(SERVER6, 5005))[1] == 0


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("mode", ["nat", "track"])
def test_a_mark_from_elsewhere_spares_no_visit(topology: Topology, program: str, mode: str) -> None:
    """Set before recognition, between it and the queue, and on an excluded interface: KNOWN, done, all bits."""
    net = Net(topology, config(program, 'exclude_interfaces = ["lo"]\n').replace('"nat"', f'"{mode}"'))
    port = 5100
    for priority in (-400, -300):
        for mark in (0x1000, 0x1800, 0x800, 0xFFFFFFFF):
            rule = f"table ip6 mine {{ chain c {{ type filter hook prerouting priority {priority}; "
            net.inside_router.run("nft", f"{rule} meta mark set {mark}; }}; }}")
            port += 1
            assert net.ask(SERVER6, port)
            assert f"dport={port}" in net.router.conntrack("-L", "-f", "ipv6"), f"{mark:#x} at {priority}"
            net.inside_router.run("nft", "delete", "table", "ip6", "mine")


def test_the_mark_ends_without_steering_rules(topology: Topology) -> None:
    """The leak table must not take KNOWN for the bit of a packet that the daemon passed."""
    net = Net(topology, config(more='guard = "alarm"\n'))
    wait_until(lambda: '"event": "steering_installed"' in net.router.said(), "not guarded")
    for _ in range(3):
        assert net.ask(SERVER, 5006)
    assert len(net.known(5006)) == 2
    net.inside_router.run("nft", "delete", "table", "ip", "conntrackd_py")
    assert not net.ask(SERVER, 5006)
    drops = re.search(r"leak_table_drops_total (\d+)", net.router.metrics())
    assert drops is not None
    assert int(drops[1]) >= 1


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_raw_rule_of_the_administrator_drops_known_packets(topology: Topology, program: str) -> None:
    net = Net(topology, config(program))
    for _ in range(3):
        assert net.ask(SERVER, 5007)
    net.inside_router.run("iptables", "-t", "raw", "-I", "PREROUTING", "-s", CLIENT, "-p", "udp", "-j", "DROP")
    assert not net.ask(SERVER, 5007)


def test_switched_off(topology: Topology) -> None:
    net = Net(topology, config(more="[queue]\nknown_first = false\n"))
    assert net.ask(SERVER, 5008)
    assert MAPS not in net.inside_router.run("nft", "list", "tables")
    assert net.counted(7).keys() == {0, 1}


def test_a_flood_of_new_connections_drops_no_known_packet(topology: Topology) -> None:
    """A short queue: the flood fills it."""
    net = Net(topology, config(more="[queue]\nmax_length = 64\n"))
    for _ in range(3):
        assert net.ask(SERVER, 5009)
    flood: subprocess.Popen[str] = topology.client.start("/usr/bin/python3", "-c", FLOOD, SERVER, "6")
    wait_until(lambda: net.counted(5)[NEW] > 100, "the flood fills no queue")
    answered = [net.ask(SERVER, 5009) for _ in range(5)]
    assert answered == ["?"] * 5
    dropped = net.counted(5)
    flood.kill()
    assert dropped[KNOWN] == 0
    assert int(net.router.conntrack("-C")) > 100, "new connections get a share"
