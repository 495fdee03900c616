"""Two hosts that send first to each other through the real daemon: no port changes, one connection each.

The daemon is stopped while both send, so their packets are all under way at the same time.
"""

from __future__ import annotations

import contextlib
import json
import select
import signal
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from pyroute2 import netns

from conntrackd_py.lab.namespaces import CLIENT, CLIENT6, INSIDE, ROUTER, SERVER, SERVER6, Namespace, Topology
from conntrackd_py.lab.router import METRICS, Router

TRIALS = 300
FIRST_PORT = 20000
ARRIVES_WITHIN = 10.0  # seconds

CONFIG = f"""\
[tunables]
nf_conntrack_acct = true
[metrics]
listen = "{METRICS}"
[control]
socket = "%s"
[queue]
max_length = 8192
[[raw]]
proto = "udp"
dport = "40000:49999"
zone = 7
[[nat]]
out_interface = "wan0"
source = "{CLIENT}"
proto = "udp"
dport = "30000:39999"
action = "MASQUERADE"
[[nat]]
in_interface = "wan0"
destination = "{ROUTER}"
proto = "udp"
dport = "30000:39999"
action = "DNAT"
to = "{CLIENT}"
"""


@dataclass
class Stage:
    net: Topology
    router: Router
    sockets: contextlib.ExitStack

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """What is sent meanwhile is handled afterwards, all of it at once."""
        assert self.router.process is not None
        self.router.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.router.process.send_signal(signal.SIGCONT)

    def connections(self, proto: str, family: str = "ipv4") -> list[dict[str, object]]:
        text = self.router.conntrack("-L", "-p", proto, "-f", family, "-o", "json")
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """The server has a route to the client: both reach each other as they are."""
    with Topology() as topology:
        topology.server.run("ip", "route", "add", INSIDE, "via", ROUTER)
        router = Router(topology, CONFIG)
        router.install_rules()
        router.start()
        yield Stage(topology, router, contextlib.ExitStack())


@pytest.fixture
def clean(stage: Stage) -> Iterator[Stage]:
    stage.router.conntrack("-F")
    with stage.sockets:
        yield stage


def opened(stage: Stage, where: Namespace, kind: int, *, family: int = socket.AF_INET, proto: int = 0) -> socket.socket:
    """A socket in that namespace, closed after the test."""
    netns.pushns(where.name)
    try:
        return stage.sockets.enter_context(socket.socket(family, kind, proto))
    finally:
        netns.popns()


def pair(stage: Stage, kind: int, port: int, *, v6: bool = False) -> tuple[socket.socket, socket.socket]:
    """A socket of the client and one of the server, bound to the same port."""
    family = socket.AF_INET6 if v6 else socket.AF_INET
    ends = []
    addresses = (CLIENT6, SERVER6) if v6 else (CLIENT, SERVER)
    for where, address in zip((stage.net.client, stage.net.server), addresses, strict=True):
        one = opened(stage, where, kind, family=family)
        one.bind((address, port))
        one.setblocking(False)
        ends.append(one)
    return ends[0], ends[1]


def received(one: socket.socket) -> tuple[bytes, tuple[str, int] | None]:
    """What comes next, and from where if it is a datagram."""
    assert select.select([one], [], [], ARRIVES_WITHIN)[0], "nothing came"
    data, peer = one.recvfrom(100)
    return data, peer and peer[:2]


@pytest.mark.parametrize(
    ("first_port", "server_calls"),
    [(FIRST_PORT, CLIENT), (40000, CLIENT), (30000, ROUTER)],
    ids=["forwarded", "in a zone", "through a port forward"],
)
def test_udp(clean: Stage, first_port: int, server_calls: str) -> None:
    """WireGuard, IKE, NTP: 300 pairs on equal ports. Each end hears the other's own port."""
    pairs = {port: pair(clean, socket.SOCK_DGRAM, port) for port in range(first_port, first_port + TRIALS)}
    with clean.held():
        for port, (client, server) in pairs.items():
            client.sendto(b"from the client", (SERVER, port))
            server.sendto(b"from the server", (server_calls, port))
    for port, (client, server) in pairs.items():
        assert received(client) == (b"from the server", (SERVER, port))
        assert received(server) == (b"from the client", (server_calls, port))
    found = clean.connections("udp")
    assert len(found) == TRIALS
    assert all("UNREPLIED" not in str(connection["status"]) for connection in found)


def test_udp_over_ipv6(clean: Stage) -> None:
    clean.net.client.run("ping", "-c", "1", "-W", "5", SERVER6)  # neighbour discovery would wait for the daemon, too
    pairs = {port: pair(clean, socket.SOCK_DGRAM, port, v6=True) for port in range(FIRST_PORT, FIRST_PORT + TRIALS)}
    with clean.held():
        for port, (client, server) in pairs.items():
            client.sendto(b"from the client", (SERVER6, port))
            server.sendto(b"from the server", (CLIENT6, port))
    for port, (client, server) in pairs.items():
        assert received(client) == (b"from the server", (SERVER6, port))
        assert received(server) == (b"from the client", (CLIENT6, port))
    assert len(clean.connections("udp", "ipv6")) == TRIALS


def test_tcp_opens_simultaneously(clean: Stage) -> None:
    """Both ends call connect; their SYNs pass each other in the router. Each pair is one connection with data."""
    pairs = {port: pair(clean, socket.SOCK_STREAM, port) for port in range(FIRST_PORT, FIRST_PORT + TRIALS)}
    with clean.held():
        for port, (client, server) in pairs.items():
            client.connect_ex((SERVER, port))
            server.connect_ex((CLIENT, port))
    until = time.monotonic() + ARRIVES_WITHIN
    for client, server in pairs.values():
        for one, other in ((client, server), (server, client)):
            _, writable, _ = select.select([], [one], [], max(until - time.monotonic(), 0.1))
            assert writable, "not connected"
            assert one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            one.send(b"hello")
            assert received(other)[0] == b"hello"
            assert one.getpeername()[1] == one.getsockname()[1]
    states = [connection["state"] for connection in clean.connections("tcp")]
    assert states == ["ESTABLISHED"] * TRIALS


def test_pings_with_the_same_identifier(clean: Stage) -> None:
    """A request is no answer: two connections each, and no identifier changes."""
    client = opened(clean, clean.net.client, socket.SOCK_RAW, proto=socket.IPPROTO_ICMP)
    server = opened(clean, clean.net.server, socket.SOCK_RAW, proto=socket.IPPROTO_ICMP)
    for one in (client, server):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    with clean.held():
        for ident in range(1, TRIALS + 1):
            client.sendto(echo_request(ident), (SERVER, 0))
            server.sendto(echo_request(ident), (CLIENT, 0))
    for one in (client, server):
        answered: set[int] = set()
        while len(answered) < TRIALS:
            packet, _ = received(one)
            kind, ident = packet[20], int.from_bytes(packet[24:26])
            assert 1 <= ident <= TRIALS
            if kind == 0:
                answered.add(ident)
    assert len(clean.connections("icmp")) == 2 * TRIALS


def echo_request(ident: int) -> bytes:
    total = 0x0800 + ident + 1
    checksum = ~(total + (total >> 16)) & 0xFFFF
    return struct.pack(">BBHHH", 8, 0, checksum, ident, 1)
