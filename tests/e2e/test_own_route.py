"""The router's own packets leave by the interface that their socket or the kernel chose.

Two links of the router have the same prefix and the same link-local addresses, so the routing table alone cannot know
the right link. The kernel routes a packet of the router itself again when its mark or an address changes at OUTPUT.
The same traffic goes through a router with the kernel's own NAT.
"""

import contextlib
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conntrackd_py.lab.namespaces import Namespace
from conntrackd_py.lab.router import DAEMON, READY
from tests.support.processes import start_script

LINKS = ("lan1", "lan2")
ROUTER4, ROUTER6 = "10.5.0.1", "2001:db8:5::1"
CALLED = "10.9.0.9"  # what is called for FAR4 behind lan2, by OUTER_PORTS
OUTER_PORTS = (7001, 7002)
FAR4, FAR6 = "10.6.0.9", "2001:db8:6::9"  # an address that both clients have
GROUP4, GROUP6 = "239.1.2.3", "ff05::123"
PORT = 5000
SYSCTLS = ("net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.default.dad_transmits=0", "net.ipv4.ip_forward=1")
CONFIG = """\
[metrics]
listen = ""
[control]
socket = "%s/control.sock"
[[nat]]
out_interface = "wan+"
family = "any"
action = "MASQUERADE"
"""
CONFIG += f"""
[[nat]]
proto = "udp"
destination = "{CALLED}"
dport = "{OUTER_PORTS[0]}:{OUTER_PORTS[1]}"
action = "DNAT"
to = "{FAR4}:{PORT}"
"""
KERNEL_DNAT = (
    *("-A", "OUTPUT", "-p", "udp", "-d", CALLED, "--dport", f"{OUTER_PORTS[0]}:{OUTER_PORTS[1]}"),
    *("-j", "DNAT", "--to-destination", f"{FAR4}:{PORT}"),
)

# Sends a datagram out of an interface, chosen in one of the ways a program has; waits for its echo.
SENDER = """
import socket, struct, sys
how, interface, address, port = sys.argv[1:]
six = ":" in address
index = socket.if_nametoindex(interface)
s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(2)
level = socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP
about = []
if how == "bound":
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
elif how == "pktinfo":
    info = struct.pack("@16sI", bytes(16), index) if six else struct.pack("@I4s4s", index, bytes(4), bytes(4))
    about.append((level, socket.IPV6_PKTINFO if six else 8, info))
elif how == "unicast_if":
    s.setsockopt(level, 76 if six else 50, struct.pack("!I", index))
elif how == "multicast_if":
    value = struct.pack("@I", index) if six else struct.pack("@4s4sI", bytes(4), bytes(4), index)
    s.setsockopt(level, socket.IPV6_MULTICAST_IF if six else socket.IP_MULTICAST_IF, value)
    s.setsockopt(level, socket.IPV6_MULTICAST_HOPS if six else socket.IP_MULTICAST_TTL, 2)
elif how == "mark":
    s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, {"lan1": 0x1, "lan2": 0x2d02}[interface])
s.sendmsg([b"hello"], about, 0, (address, int(port)))
print(s.recv(100).decode())
"""

# Calls every port from one source port; each socket hears only answers from the address and port it called.
CALLER = """
import socket, sys
address, *ports = sys.argv[1:]
calls = []
for port in ports:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.settimeout(2)
    s.bind(("", 6000))
    s.connect((address, int(port)))
    calls.append(s)
for s in calls + calls:
    s.send(b"hello")
    print(s.recv(100).decode())
"""

# Echoes with its name, from the address that was called.
ECHO = """
import select, socket, sys
name, port, group4, group6 = sys.argv[1:]
index = socket.if_nametoindex("eth0").to_bytes(4, sys.byteorder)
s4 = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s4.setsockopt(socket.IPPROTO_IP, 8, 1)  # IP_PKTINFO
s4.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group4) + bytes(4) + index)
s4.bind(("", int(port)))
s6 = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
s6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
s6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, socket.inet_pton(socket.AF_INET6, group6) + index)
s6.bind(("::", int(port)))
print("ready", flush=True)
while True:
    for s in select.select([s4, s6], [], [])[0]:
        _, [(level, kind, info)], _, peer = s.recvmsg(100, 1000)
        if s is s4:
            info = bytes(4) + info[4:8] + bytes(4)
        elif info[0] == 0xFF:
            info = bytes(16) + info[16:]
        s.sendmsg([name.encode()], [(level, kind, info)], 0, peer)
"""


class Net:
    """A router, and a client behind each of its LINKS."""

    def __init__(self) -> None:
        token = f"ctpy-{os.getpid()}-{secrets.token_hex(2)}"
        self.router = Namespace(f"{token}-router")
        self.clients = {link: Namespace(f"{token}-{link}") for link in LINKS}

    def namespaces(self) -> list[Namespace]:
        return [self.router, *self.clients.values()]


@contextlib.contextmanager
def two_links() -> Iterator[Net]:
    net = Net()
    with contextlib.ExitStack() as cleanup:
        for namespace in net.namespaces():
            cleanup.callback(namespace.delete)
            subprocess.run(["ip", "netns", "add", namespace.name], check=True)
        for namespace in net.namespaces():
            cleanup.callback(namespace.end)
        for namespace in net.namespaces():
            namespace.run("sysctl", "-qw", *SYSCTLS)
        for number, (link, client) in enumerate(net.clients.items(), 1):
            connect(net.router, link, client, number)
        net.router.run("ip", "route", "add", f"{CALLED}/32", "dev", "lan1")
        net.router.run("ip", "route", "add", f"{FAR4}/32", "via", "10.5.0.21", "dev", "lan2")
        yield net


def connect(router: Namespace, link: str, client: Namespace, number: int) -> None:
    client.run("ip", "link", "set", "lo", "up")
    router.run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", client.name)
    for where, interface, last4, last6, local in (
        (router, link, "1", "1", "fe80::1"),
        (client, "eth0", f"{number}1", f"{number}1", "fe80::2"),
    ):
        where.run("ip", "link", "set", interface, "addrgenmode", "none", "up")
        where.run("ip", "address", "add", f"10.5.0.{last4}/24", "dev", interface)
        for address in (f"2001:db8:5::{last6}/64", f"{local}/64"):
            where.run("ip", "address", "add", address, "dev", interface, "nodad")
    for address in (f"{FAR4}/32", f"{FAR6}/128"):
        client.run("ip", "address", "add", address, "dev", "lo")
    # Each mark has its link, as an administrator with two uplinks would have it.
    mark, table = {"lan1": "0x1", "lan2": "0x2d02"}[link], str(100 + number)
    router.run("ip", "rule", "add", "fwmark", mark, "lookup", table)
    router.run("ip", "-6", "rule", "add", "fwmark", mark, "lookup", table)
    router.run("ip", "route", "add", f"{FAR4}/32", "via", f"10.5.0.{number}1", "dev", link, "table", table)
    router.run("ip", "-6", "route", "add", f"{FAR6}/128", "via", "fe80::2", "dev", link, "table", table)
    start_script(client, ECHO, link, str(PORT), GROUP4, GROUP6)


@pytest.fixture(scope="module", params=["kernel", "ours"])
def net(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    with two_links() as made:
        if request.param == "ours":
            start_daemon(made.router, tmp_path_factory.mktemp("daemon"))
        else:
            for program in ("iptables", "ip6tables"):
                made.router.run(program, "-t", "nat", "-A", "POSTROUTING", "-o", "wan+", "-j", "MASQUERADE")
            made.router.run("iptables", "-t", "nat", *KERNEL_DNAT)
        yield made


def start_daemon(router: Namespace, folder: Path) -> None:
    file = folder / "conntrackd.toml"
    file.write_text(CONFIG % folder)
    router.run(*DAEMON, "rules", "install", "-c", str(file))
    process = router.start(*DAEMON, "run", "-c", str(file), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    assert any(READY in line for line in process.stdout)


def send(net: Net, how: str, link: str, address: str) -> str:
    return net.router.run(sys.executable, "-c", SENDER, how, link, address, str(PORT), check=False).strip()


def forget_neighbours(net: Net) -> None:
    for namespace in net.namespaces():
        namespace.run("ip", "neighbour", "flush", "all")


@pytest.mark.parametrize("link", LINKS)
def test_a_client_pings_the_routers_link_local_address(net: Net, link: str) -> None:
    forget_neighbours(net)
    assert "2 received" in net.clients[link].run("ping", "-c", "2", "-i", "0.2", "-W", "1", "fe80::1%eth0", check=False)


@pytest.mark.parametrize("link", LINKS)
def test_the_router_pings_a_link_local_address(net: Net, link: str) -> None:
    forget_neighbours(net)
    assert "2 received" in net.router.run("ping", "-c", "2", "-i", "0.2", "-W", "1", f"fe80::2%{link}", check=False)


@pytest.mark.parametrize("family", ["4", "6"])
@pytest.mark.parametrize("link", LINKS)
def test_the_router_pings_through_an_interface(net: Net, link: str, family: str) -> None:
    forget_neighbours(net)
    prefix = {"4": "10.5.0.", "6": "2001:db8:5::"}[family]
    address = f"{prefix}{link[-1]}1"
    assert "2 received" in net.router.run("ping", "-c", "2", "-i", "0.2", "-W", "1", "-I", link, address, check=False)


@pytest.mark.parametrize("link", LINKS)
def test_the_router_answers_neighbour_solicitations_on_their_link(net: Net, link: str) -> None:
    """The client asks from its global address, which the routing table places on the first link."""
    client = net.clients[link]
    client.run("ip", "neighbour", "flush", "all")
    client.run("ping", "-c", "1", "-W", "1", "-I", f"2001:db8:5::{link[-1]}1", ROUTER6, check=False)
    assert "lladdr" in client.run("ip", "neighbour", "show", ROUTER6)


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("how", ["bound", "pktinfo", "unicast_if"])
@pytest.mark.parametrize("prefix", ["10.5.0.", "2001:db8:5::"], ids=["v4", "v6"])
def test_a_socket_chooses_its_link(net: Net, how: str, link: str, prefix: str) -> None:
    forget_neighbours(net)
    assert send(net, how, link, f"{prefix}{link[-1]}1") == link


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("address", [GROUP4, GROUP6], ids=["v4", "v6"])
def test_a_socket_chooses_the_link_of_a_group(net: Net, link: str, address: str) -> None:
    forget_neighbours(net)
    assert send(net, "multicast_if", link, address) == link


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("address", [FAR4, FAR6], ids=["v4", "v6"])
def test_a_sockets_mark_chooses_its_route(net: Net, link: str, address: str) -> None:
    """0x2d02 has bits within our mask, where the daemon would write INVALID."""
    forget_neighbours(net)
    assert send(net, "mark", link, address) == link


def test_what_output_translates_is_routed_anew(net: Net) -> None:
    """The route of the called address leads out by the other link. Both calls lead to one service."""
    forget_neighbours(net)
    said = net.router.run(sys.executable, "-c", CALLER, CALLED, *map(str, OUTER_PORTS), check=False)
    assert said.split() == ["lan2"] * 4
