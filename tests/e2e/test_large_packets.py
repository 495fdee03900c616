"""queue.large_packets = "headers": the kernel rewrites large packets by their mark, and nothing changes otherwise."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from conntrackd_py.lab.namespaces import CLIENT, CLIENT6, INSIDE, INSIDE6, ROUTER, ROUTER6, SERVER, SERVER6, Topology
from conntrackd_py.lab.router import CONFIG, Router
from conntrackd_py.lab.steps import EXCHANGE_PORT, TRAFFIC, UDP_PORT, start_servers
from tests.support.both_ways import IN_AND_OUT, IN_PORT
from tests.support.processes import capture, one_processor, start, start_script
from tests.support.waiting import wait_until

MAPS = "conntrackd_py_maps"
MEGABYTE = 1_000_000

HEADERS = f"""{IN_AND_OUT}[queue]
large_packets = "headers"
"""

SEGMENTED = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as s:
    s.settimeout(5)
    s.connect((sys.argv[1], int(sys.argv[2])))
    s.send(b"first")
    assert s.recv(2000) == b"first"
    for turn in range(20):
        s.setsockopt(17, 103, 1000)  # UDP_SEGMENT
        s.send(b"".join(bytes([turn, at]) * 500 for at in range(8)))
        assert [s.recv(2000) for at in range(8)] == [bytes([turn, at]) * 500 for at in range(8)]
print("160 datagrams")
"""

NO_CHECKSUM = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.settimeout(5)
    s.setsockopt(socket.SOL_SOCKET, 11, 1)  # SO_NO_CHECK
    s.connect((sys.argv[1], int(sys.argv[2])))
    for size in (10, 3000, 10, 3000, 20000, 10):
        s.send(bytes([size & 255]) * size)
        assert s.recv(65535) == bytes([size & 255]) * size
print("echoed")
"""


class Net:
    def __init__(self, topology: Topology, tracking: str) -> None:
        self.topology = topology
        self.client, self.inside_router, self.outside = topology.client, topology.router, topology.server
        self.router = Router(topology, f'{CONFIG}{HEADERS}[steering]\nkernel_conntrack = "{tracking}"\n')
        self.capture = topology.folder / "outside.pcap"
        capture(topology.server, self.capture, f"(ip net {INSIDE}) or (ip6 net {INSIDE6} and not icmp6) or arp")

    def elements(self) -> str:
        text = [self.inside_router.run("nft", "list", "table", family, MAPS) for family in ("ip", "ip6")]
        return "\n".join(line for line in "\n".join(text).splitlines() if "elements" in line and " : " in line)

    def mapped(self) -> int:
        """Connections that got elements so far."""
        found = re.search(r"mark_map_added_total (\d+)", self.router.metrics())
        assert found is not None
        return int(found[1])

    def leaked(self) -> list[str]:
        self.outside.run("ping", "-c", "1", "-W", "2", ROUTER, check=False)
        self.outside.run("ip", "neigh", "flush", "all")
        self.outside.run("ping", "-c", "1", "-W", "2", ROUTER, check=False)
        wait_until(lambda: self.captured("arp"), "the capture is not running")
        return self.captured("not arp")

    def captured(self, expression: str) -> list[str]:
        return self.outside.run("tcpdump", "-nr", str(self.capture), expression).splitlines()

    def exchange(self, host: str, port: int = EXCHANGE_PORT, amount: int = 20 * MEGABYTE) -> None:
        said = self.client.run(*TRAFFIC, "exchange", host, str(port), str(amount), timeout=150)
        assert said == f"{amount} bytes each way, SHA-256 equal\n"

    def exchanging(self, host: str, amount: int) -> subprocess.Popen[str]:
        """In the background, when the kernel rewrites it."""
        process = self.client.start(*TRAFFIC, "exchange", host, str(EXCHANGE_PORT), str(amount), stdout=subprocess.PIPE)
        wait_until(lambda: "elements" in self.elements(), "no elements")
        return process


@pytest.fixture(scope="module", params=["off", "keep"])
def net(request: pytest.FixtureRequest) -> Iterator[Net]:
    with Topology() as topology:
        running = Net(topology, request.param)
        running.router.install_rules()
        running.router.start()
        start_servers(topology)
        for host in (CLIENT, CLIENT6):
            start(topology.client, *TRAFFIC, "exchange-server", host, str(EXCHANGE_PORT))
        yield running
        assert running.leaked() == []
        metrics = running.router.metrics()
        assert "conntrackd_py_verdict_errors_total 0.0" in metrics
        assert "conntrackd_py_truncated_packets_total 0.0" in metrics


@pytest.mark.parametrize(("host", "amount"), [(SERVER, 200), (SERVER6, 50)])
def test_outward(net: Net, host: str, amount: int) -> None:
    net.exchange(host, amount=amount * MEGABYTE)
    address = ROUTER if host == SERVER else ROUTER6
    assert f": {address}" in net.elements()


# Small and large writes in turn, so that ordinary packets and super-packets of one connection follow each other.
MIXED = """
import socket, sys, time
sizes = (100, 60000, 1, 3000, 1400, 20000)
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as s:
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    s.sendall(bytes(500000))
    print("known", flush=True)
    time.sleep(3)
    for turn in range(3000):
        s.sendall(bytes(sizes[turn % 6]))
"""
SINK = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.create_server((sys.argv[1], int(sys.argv[2])), family=family) as listening:
    print("ready", flush=True)
    peer, _ = listening.accept()
    total = 0
    while data := peer.recv(1 << 20):
        total += len(data)
    print(total)
"""


def reordered(net: Net) -> list[int]:
    """TcpExtTCPOFOQueue of the receiver; TcpExtTCPSACKReorder and TcpExtTCPTSReorder of the sender."""
    found = []
    for namespace, names in ((net.outside, ("TCPOFOQueue",)), (net.client, ("TCPSACKReorder", "TCPTSReorder"))):
        text = namespace.run("nstat", "-asz")
        found += [int(line.split()[1]) for line in text.splitlines() if line.split()[0].removeprefix("TcpExt") in names]
    assert len(found) == 3
    return found


@pytest.mark.parametrize("host", [SERVER, SERVER6])
def test_packets_do_not_overtake_each_other(net: Net, host: str) -> None:
    """All on one processor. With two, TCP sends on both, and each has its own backlog: a few of some thousand packets
    overtake others, through kernel masquerade without a daemon too.
    """
    with one_processor(net.router.pid):
        sink = start_script(net.outside, SINK, host, "8200")
        sender = start_script(net.client, MIXED, host, "8200", says="known")
        time.sleep(1)  # the first packets may overtake each other, until the connection is known and in the maps
        before = reordered(net)
        assert sender.wait(30) == 0
        assert sink.communicate(timeout=30)[0] == f"{500000 + 84501 * 500}\n"
        assert reordered(net) == before


STREAMS = """
import selectors, socket, sys
count, size = int(sys.argv[3]), 100000
chosen = selectors.DefaultSelector()
for _ in range(count):
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
    s.setblocking(False)
    chosen.register(s, selectors.EVENT_WRITE | selectors.EVENT_READ, [size, size])
while chosen.get_map():
    for key, events in chosen.select(20):
        left = key.data
        if events & selectors.EVENT_WRITE and left[0]:
            left[0] -= key.fileobj.send(bytes(left[0]))
        if not left[0]:
            chosen.modify(key.fileobj, selectors.EVENT_READ, left)
        if events & selectors.EVENT_READ:
            left[1] -= len(key.fileobj.recv(1 << 20))
            if not left[1]:
                chosen.unregister(key.fileobj)
print(count)
"""
ECHOES = """
import socketserver, sys
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(1 << 20):
            self.request.sendall(data)
class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 1000
with Server((sys.argv[1], int(sys.argv[2])), Echo) as server:
    print("ready", flush=True)
    server.serve_forever()
"""


def test_more_streams_than_get_elements_at_once(net: Net) -> None:
    """The first ones are queued again, whole; a few transactions give all of them their elements."""
    start_script(net.outside, ECHOES, SERVER, "8201")
    before = net.mapped()
    assert net.client.run("/usr/bin/python3", "-c", STREAMS, SERVER, "8201", "500") == "500\n"
    assert net.mapped() - before > 250
    net.exchange(SERVER)


@pytest.mark.parametrize("host", [ROUTER, ROUTER6])
def test_inward_to_another_address_and_port(net: Net, host: str) -> None:
    amount = 50 * MEGABYTE
    said = net.outside.run(*TRAFFIC, "exchange", host, str(IN_PORT), str(amount), timeout=150)
    assert said == f"{amount} bytes each way, SHA-256 equal\n"
    assert f": {EXCHANGE_PORT}" in net.elements()
    assert f": {IN_PORT}" in net.elements()


@pytest.mark.parametrize("host", [SERVER, SERVER6])
def test_datagrams_of_any_size(net: Net, host: str) -> None:
    sizes = ("1", "1472", "1473", "4016", "20000", "60000", "100", "60000")
    assert net.client.run(*TRAFFIC, "udp-send", host, str(UDP_PORT), *sizes) == "8 datagrams echoed byte for byte\n"


@pytest.mark.parametrize("host", [SERVER, SERVER6])
def test_super_packets_of_udp(net: Net, host: str) -> None:
    assert net.client.run("/usr/bin/python3", "-c", SEGMENTED, host, str(UDP_PORT)) == "160 datagrams\n"


def test_datagrams_without_a_checksum(net: Net) -> None:
    assert net.client.run("/usr/bin/python3", "-c", NO_CHECKSUM, SERVER, str(UDP_PORT)) == "echoed\n"


def test_a_smaller_mtu_outside(net: Net) -> None:
    for namespace, link in ((net.inside_router, "wan0"), (net.outside, "eth0")):
        namespace.run("ip", "link", "set", link, "mtu", "1300")
    try:
        net.exchange(SERVER)
        net.exchange(SERVER6)
    finally:
        for namespace, link in ((net.inside_router, "wan0"), (net.outside, "eth0")):
            namespace.run("ip", "link", "set", link, "mtu", "1500")


def test_a_reload_under_a_stream(net: Net) -> None:
    amount = 200 * MEGABYTE
    process = net.exchanging(SERVER, amount)
    assert net.router.process is not None
    net.router.process.send_signal(signal.SIGHUP)
    assert process.communicate(timeout=60)[0] == f"{amount} bytes each way, SHA-256 equal\n"
    wait_until(lambda: '"event": "reloaded"' in net.router.said(), "no reload")


def test_connections_are_deleted_under_a_stream(net: Net) -> None:
    """As in the kernel, a packet from outside then belongs to no connection, so the stream may break."""
    process = net.exchanging(SERVER, 2000 * MEGABYTE)
    net.router.conntrack("-D", "-p", "tcp")
    process.kill()
    net.exchange(SERVER)


def test_the_elements_end_with_their_connection(net: Net) -> None:
    net.exchange(SERVER)
    net.router.conntrack("-F")
    wait_until(lambda: net.elements() == "", "elements outlive their connections")


def test_another_program_flushes_the_ruleset(net: Net) -> None:
    """It cannot flush the maps. While the steering rules are missing, the leak table drops."""
    process = net.exchanging(SERVER, 2000 * MEGABYTE)
    net.inside_router.run("nft", "flush", "ruleset")
    assert "elements" in net.elements()
    wait_until(lambda: '"event": "steering_restored"' in net.router.said(), "the rules are not restored")
    process.kill()
    net.exchange(SERVER)


def test_the_daemon_is_killed_under_a_stream(net: Net) -> None:
    """The maps end with it. Its successor does not know the stream, as after any restart."""
    process = net.exchanging(SERVER, 2000 * MEGABYTE)
    net.router.stop(signal.SIGKILL)
    assert MAPS not in net.inside_router.run("nft", "list", "tables")
    time.sleep(0.3)
    net.router.start()
    process.kill()
    net.exchange(SERVER)
    assert f": {ROUTER}" in net.elements()
