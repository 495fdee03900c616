"""Nothing leaves untranslated when interfaces and addresses change under traffic, or by untracked ICMPv6 types.

The outer side is a bridge in the server's namespace, so the capture outlives the router's interface.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from conntrackd_py.lab.namespaces import CLIENT, CLIENT6, INSIDE, INSIDE6, ROUTER, ROUTER6, SERVER, SERVER6, Topology
from conntrackd_py.lab.router import METRICS, Router
from tests.support.processes import MASQUERADE, capture
from tests.support.waiting import wait_until

CONFIG = f"""\
[metrics]
listen = "{METRICS}"
[control]
socket = "%s"
{MASQUERADE}
"""
TIMES = 10

FLOOD = """
import socket, sys, time
until = time.monotonic() + 60
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.bind(("", 4000))
    while time.monotonic() < until:
        try:
            s.sendto(b"x" * 32, (sys.argv[1], 9))
        except OSError:
            pass
        time.sleep(0.0005)
"""
DISCOVERY = f"""
from scapy.all import *
for kind in (*range(130, 137), 143):
    send(IPv6(src="{CLIENT6}", dst="{SERVER6}", hlim=64) / ICMPv6Unknown(type=kind, msgbody=bytes(16)), verbose=False)
send(IPv6(src="{CLIENT6}", dst="{SERVER6}") / ICMPv6EchoRequest(id=77), verbose=False)
"""


class Outside:
    """The server's end: a bridge that stays while the router's interface goes, and a capture on it."""

    def __init__(self, net: Topology, router: Router) -> None:
        self.net = net
        self.router = router
        self.file = net.folder / "outside.pcap"
        self.links = 0

    def connect(self) -> None:
        """Create wan0 in the router, with its addresses."""
        self.links += 1
        port = f"port{self.links}"
        link = ("ip", "link", "add", "wan0", "type", "veth", "peer", "name", port, "netns", self.net.server.name)
        self.net.router.run(*link)
        self.net.server.run("ip", "link", "set", port, "master", "br0", "up")
        self.net.router.run("ip", "link", "set", "wan0", "up")
        self.net.router.run("ip", "address", "add", f"{ROUTER}/24", "dev", "wan0")
        self.net.router.run("ip", "address", "add", f"{ROUTER6}/64", "dev", "wan0", "nodad")

    def cut(self) -> None:
        self.net.router.run("ip", "link", "delete", "wan0")

    def seen(self, expression: str) -> list[str]:
        return self.net.server.run("tcpdump", "-nr", str(self.file), expression).splitlines()

    def await_seen(self, expression: str, more_than: int = 0) -> int:
        """Wait until that many and one more were captured; how many there are."""
        wait_until(lambda: len(self.seen(expression)) > more_than, f"nothing like {expression}")
        return len(self.seen(expression))


@pytest.fixture(scope="module")
def outside() -> Iterator[Outside]:
    with Topology() as net:
        router = Router(net, CONFIG)
        side = Outside(net, router)
        side.cut()
        net.server.run("ip", "link", "add", "br0", "type", "bridge")
        net.server.run("ip", "address", "add", f"{SERVER}/24", "dev", "br0")
        net.server.run("ip", "address", "add", f"{SERVER6}/64", "dev", "br0", "nodad")
        net.server.run("ip", "link", "set", "br0", "up")
        net.server.run("ip", "-6", "route", "add", INSIDE6, "via", ROUTER6)
        side.connect()
        router.install_rules()
        router.start()
        capture(net.server, side.file, "--immediate-mode", interface="br0")
        yield side


def test_the_outer_interface_is_created_anew(outside: Outside) -> None:
    """Ten times, under traffic. Each new interface has a new index, whose name is not known to the daemon at first."""
    flood = outside.net.client.start("/usr/bin/python3", "-c", FLOOD, SERVER)
    passed = 0
    for _ in range(TIMES):
        passed = outside.await_seen(f"udp and src {ROUTER}", passed)
        outside.cut()
        outside.connect()
    outside.await_seen(f"udp and src {ROUTER}", passed)
    flood.terminate()
    assert outside.seen(f"net {INSIDE}") == []
    assert '"reason": "address_gone", "connections":' in outside.router.said()


def test_the_address_a_connection_went_to_moves_to_the_outside(outside: Outside) -> None:
    """The flow ended at the router. Now its destination is beyond wan0, and its packets are translated."""
    outside.net.router.run("ip", "address", "add", "203.0.113.5/24", "dev", "wan0")
    flood = outside.net.client.start("/usr/bin/python3", "-c", FLOOD, "203.0.113.5")
    listing = ("-L", "-p", "udp", "-d", "203.0.113.5")
    wait_until(lambda: "dport=9" in outside.router.conntrack(*listing), "the flow does not reach the router")
    outside.net.server.run("ip", "address", "add", "203.0.113.5/24", "dev", "br0")
    outside.net.router.run("ip", "address", "delete", "203.0.113.5/24", "dev", "wan0")
    outside.await_seen(f"udp and src {ROUTER} and dst 203.0.113.5", 10)
    flood.terminate()
    assert outside.seen(f"net {INSIDE}") == []


def test_neighbour_discovery_with_routable_addresses(outside: Outside) -> None:
    """The last packet, a ping, shows that those before it have been handled."""
    outside.net.client.run(sys.executable, "-P", "-c", DISCOVERY)
    outside.await_seen(f"icmp6 and src {ROUTER6} and ip6[40] == 128")
    assert outside.seen(f"src {CLIENT6}") == []
    assert 'conntrackd_py_packets_dropped_total{reason="leak_guard"} 8.0' in outside.router.metrics()
    assert CLIENT not in "".join(outside.seen("ip"))
