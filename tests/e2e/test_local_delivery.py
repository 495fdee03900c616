"""Services of the router itself behind REDIRECT and DNAT, when two connections claim one source port.

A client calls two outer ports from one source port. Both lead to one service, so the second connection needs another
source port. The kernel looks for the packet's socket between PREROUTING and INPUT (early demultiplexing). A
source port that changes later is too late: the packet goes to the socket of the first connection.
The same calls go through a router with the kernel's own NAT.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import pytest

from conntrackd_py.lab.namespaces import ROUTER, ROUTER6, ROUTER6_INSIDE, ROUTER_INSIDE, Topology
from conntrackd_py.lab.router import Router
from tests.support.processes import start_script

SERVICE_PORT = 9000
OUTER = (ROUTER, ROUTER6)  # what the client calls


@dataclass(frozen=True)
class Place:
    """Where a service of the router listens, and the two outer ports that lead there."""

    name: str
    ports: tuple[int, int]
    v4: str
    v6: str
    redirect: bool = False


PLACES = (
    Place("redirect", (8001, 8002), ROUTER_INSIDE, ROUTER6_INSIDE, redirect=True),
    Place("an address of another interface", (8003, 8004), ROUTER, ROUTER6),
    Place("an address of lo", (8005, 8006), "198.51.100.1", "2001:db8:100::1"),
    Place("an address of a virtual link", (8007, 8008), "198.51.100.2", "2001:db8:100::2"),
    Place("a local route", (8009, 8010), "198.51.101.9", "2001:db8:101::9"),
    Place("127.0.0.1", (8011, 8012), "127.0.0.1", ""),
)

# Answers each line (TCP) or datagram: the port it came from, and a digest of all that came on this connection.
SERVICE = """
import hashlib, selectors, socket, sys
kind, port, *addresses = sys.argv[1:]
waiting = selectors.DefaultSelector()

def made(address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    s = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if ":" in address:
        s.setsockopt(socket.IPPROTO_IPV6, 78, 1)  # IPV6_FREEBIND: a local route is no address
    s.bind((address, int(port)))
    return s

def answer(peer, digest):
    return f"{peer[1]} {digest.hexdigest()}\\n".encode()

def on_listener(s, address):
    conn, peer = s.accept()
    waiting.register(conn, selectors.EVENT_READ, (on_stream, (peer, hashlib.sha256())))

def on_stream(s, state):
    peer, digest = state
    data = s.recv(1 << 20)
    digest.update(data)
    if not data:
        waiting.unregister(s)
        s.close()
    elif data.endswith(b"\\n"):
        s.sendall(answer(peer, digest))

def on_datagram(s, state):
    address, digests = state
    data, peer = s.recvfrom(1 << 16)
    digest = digests.setdefault(peer, hashlib.sha256())
    digest.update(data)
    if kind == "udp-connected" and address not in connected:  # the first caller gets a socket of its own
        one = connected[address] = made(address)
        one.connect(peer)
        waiting.register(one, selectors.EVENT_READ, (on_connected, (peer, digest)))
    s.sendto(answer(peer, digest), peer)  # last: between bind and connect the new socket gets every datagram

def on_connected(s, state):
    peer, digest = state
    digest.update(s.recv(1 << 16))
    s.send(answer(peer, digest))

connected = {}
for address in addresses:
    s = made(address)
    if kind == "tcp":
        s.listen(64)
        waiting.register(s, selectors.EVENT_READ, (on_listener, address))
    else:
        waiting.register(s, selectors.EVENT_READ, (on_datagram, (address, {})))
print("ready", flush=True)
while True:
    for key, _ in waiting.select():
        callback, state = key.data
        callback(key.fileobj, state)
"""

# Calls every port from one source port, sends distinct data in turn, prints the source ports that the service saw;
# "wrong" for the digest of other data, an error's name for no answer.
CALLER = """
import hashlib, json, os, socket, sys
kind, address, sport, *ports = sys.argv[1:]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
calls = []
for port in ports:
    s = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.settimeout(3)
    s.bind(("", int(sport)))
    calls.append((s, hashlib.sha256(), []))
for (s, _, seen), port in zip(calls, ports):
    try:
        s.connect((address, int(port)))
    except OSError as error:
        seen.append(type(error).__name__)
for size in (1, 100, 1000, 300_000 if kind == "tcp" else 1200):
    for s, digest, seen in calls:
        data = os.urandom(size).replace(b"\\n", b"-") + b"\\n"
        digest.update(data)
        try:
            s.sendall(data)
            port, said = s.recv(1000).split()
            seen.append(int(port) if said.decode() == digest.hexdigest() else "wrong")
        except OSError as error:
            seen.append(type(error).__name__)
print(json.dumps([seen for _, _, seen in calls]))
"""
KINDS = {"tcp": 0, "udp": 100, "udp-connected": 200}  # what is added to the outer ports and to the service's


class Way(NamedTuple):
    """From two outer ports to a service, in one address family."""

    proto: str
    outer: str
    ports: str
    redirect: bool
    to: str
    port: int


def ways() -> Iterator[Way]:
    for place in PLACES:
        for kind, more in KINDS.items():
            ports = f"{place.ports[0] + more}:{place.ports[1] + more}"
            for inner, outer in zip((place.v4, place.v6), OUTER, strict=True):
                if inner:
                    yield Way(kind[:3], outer, ports, place.redirect, inner, SERVICE_PORT + more)


def target(way: Way) -> str:
    return f"[{way.to}]:{way.port}" if ":" in way.to else f"{way.to}:{way.port}"


def config() -> str:
    text = '[metrics]\nlisten = ""\n[control]\nsocket = "%s"\n'
    for way in ways():
        action = f'action = "REDIRECT"\nto = "{way.port}"' if way.redirect else f'action = "DNAT"\nto = "{target(way)}"'
        text += f"""
[[nat]]
in_interface = "lan0"
proto = "{way.proto}"
destination = "{way.outer}"
dport = "{way.ports}"
{action}
"""
    return text


def kernel_rules(net: Topology) -> None:
    for way in ways():
        matches = ("-i", "lan0", "-p", way.proto, "-d", way.outer, "--dport", way.ports)
        action = (
            ("REDIRECT", "--to-ports", str(way.port)) if way.redirect else ("DNAT", "--to-destination", target(way))
        )
        program = "ip6tables" if ":" in way.outer else "iptables"
        net.router.run(program, "-t", "nat", "-A", "PREROUTING", *matches, "-j", *action)


def start_services(net: Topology) -> None:
    net.router.run("ip", "link", "add", "virtual0", "type", "veth", "peer", "name", "virtual1")
    net.router.run("ip", "link", "set", "virtual0", "up")
    net.router.run("sysctl", "-qw", "net.ipv4.conf.lan0.route_localnet=1")
    for last, interface in ((1, "lo"), (2, "virtual0")):
        net.router.run("ip", "address", "add", f"198.51.100.{last}/32", "dev", interface)
        net.router.run("ip", "address", "add", f"2001:db8:100::{last}/128", "dev", interface, "nodad")
    for network in ("198.51.101.0/24", "2001:db8:101::/64"):
        net.router.run("ip", "route", "add", "local", network, "dev", "lo")
    addresses = [address for place in PLACES for address in (place.v4, place.v6) if address]
    for kind, more in KINDS.items():
        start_script(net.router, SERVICE, kind, str(SERVICE_PORT + more), *addresses)


@pytest.fixture(scope="module")
def ours() -> Iterator[Topology]:
    with Topology() as topology:
        router = Router(topology, config())
        start_services(topology)
        router.start()
        router.install_rules()
        yield topology


@pytest.fixture(scope="module")
def kernel() -> Iterator[Topology]:
    with Topology() as topology:
        start_services(topology)
        kernel_rules(topology)
        yield topology


def call(net: Topology, kind: str, address: str, sport: int, ports: tuple[int, ...]) -> list[list[object]]:
    text = net.client.run(sys.executable, "-c", CALLER, kind, address, str(sport), *map(str, ports))
    said: list[list[object]] = json.loads(text)
    return said


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", PLACES, ids=[place.name for place in PLACES])
def test_each_connection_has_its_own_data(ours: Topology, kernel: Topology, kind: str, place: Place) -> None:
    for outer in OUTER if place.v6 else OUTER[:1]:
        sport = 40000 + place.ports[0]
        ports = tuple(port + KINDS[kind] for port in place.ports)
        for name, net in (("kernel", kernel), ("ours", ours)):
            first, second = call(net, kind, outer, sport, ports)
            assert first == [sport] * 4, name
            assert second == second[:1] * 4, name
            assert isinstance(second[0], int), name
            assert sport != second[0] > 1023, name
