"""Traceroute and path MTU discovery through a router whose output filter drops what is INVALID.

The same traffic goes through the kernel's own tracking and NAT, with the same filter in iptables, and through ours.
"""

from collections.abc import Iterator

import pytest

from conntrackd_py.lab.namespaces import (
    CLIENT,
    INSIDE,
    INSIDE6,
    ROUTER,
    ROUTER6,
    ROUTER6_INSIDE,
    ROUTER_INSIDE,
    SERVER,
    SERVER6,
    Topology,
)
from conntrackd_py.lab.router import Router
from tests.support.processes import MASQUERADE, start_script

PORT = 8080
CONFIG = f"""\
[metrics]
listen = ""
[control]
socket = "%s"
{MASQUERADE}
[[nat]]
in_interface = "wan0"
proto = "udp"
dport = {PORT}
destination = "{ROUTER}"
action = "DNAT"
to = "{CLIENT}"
[[filter.rule]]
hook = "out"
ct = "state invalid"
action = "drop"
"""
KERNEL = f"""\
iptables -t nat -A POSTROUTING -o wan0 -s {INSIDE} -j MASQUERADE
ip6tables -t nat -A POSTROUTING -o wan0 -s {INSIDE6} -j MASQUERADE
iptables -t nat -A PREROUTING -i wan0 -p udp --dport {PORT} -d {ROUTER} -j DNAT --to-destination {CLIENT}
iptables -A OUTPUT -m conntrack --ctstate INVALID -j DROP
ip6tables -A OUTPUT -m conntrack --ctstate INVALID -j DROP
"""
SEND = """
import socket, sys
IP_MTU_DISCOVER, IP_PMTUDISC_DO, IPV6_MTU_DISCOVER = 10, 2, 23
v6 = ":" in sys.argv[1]
with socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.setsockopt(*((socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER) if v6 else (socket.IPPROTO_IP, IP_MTU_DISCOVER)), 2)
    s.settimeout(3)
    s.connect((sys.argv[1], int(sys.argv[2])))
    s.send(bytes(10) if sys.argv[3] == "after" else bytes(1400))
    try:
        if sys.argv[3] == "after":
            s.send(bytes(1400))
        s.recv(10)
    except OSError as error:
        print(error.strerror)
"""


LISTEN = """
import socket, time
with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
    s.bind(("::", 4000))
    print("ready", flush=True)
    time.sleep(600)
"""  # an open port that never answers


@pytest.fixture(scope="module", params=["kernel", "conntrackd-py"])
def net(request: pytest.FixtureRequest) -> Iterator[Topology]:
    with Topology() as topology:
        topology.router.run("ip", "link", "set", "wan0", "mtu", "1300")
        if request.param == "kernel":
            for line in KERNEL.splitlines():
                topology.router.run(*line.split())
        else:
            router = Router(topology, CONFIG)
            router.install_rules()
            router.start()
        start_script(topology.server, LISTEN)
        yield topology


def hops(net: Topology, *options: str) -> list[str]:
    """The hosts that answered the probes, hop by hop; * without an answer."""
    text = net.client.run("traceroute", "-n", "-q", "1", "-w", "2", "-m", "3", *options)
    return [line.split()[1] for line in text.splitlines()[1:]]


@pytest.mark.parametrize("method", ["-U", "-I", "-T"], ids=["udp", "icmp", "tcp"])
@pytest.mark.parametrize(("server", "first"), [(SERVER, ROUTER_INSIDE), (SERVER6, ROUTER6_INSIDE)], ids=["v4", "v6"])
def test_traceroute_sees_the_router(net: Topology, server: str, first: str, method: str) -> None:
    assert hops(net, method, server) == [first, server]


@pytest.mark.parametrize("when", ["first", "after"], ids=["by its first packet", "by a later packet"])
@pytest.mark.parametrize("server", [SERVER, SERVER6], ids=["v4", "v6"])
def test_the_client_learns_that_its_packet_is_too_big(net: Topology, server: str, when: str) -> None:
    """The error must quote what the client sent, or its socket does not recognise it."""
    net.client.run("ip", "route", "flush", "cache")
    net.client.run("ip", "-6", "route", "flush", "cache")
    assert net.client.run("/usr/bin/python3", "-c", SEND, server, "4000", when).strip() == "Message too long"


def test_the_outside_learns_that_the_client_behind_a_forwarded_port_is_too_far(net: Topology) -> None:
    """The probe expires in the router on its way to the client. The outside sees only the address it wrote to."""
    text = net.server.run("traceroute", "-n", "-q", "1", "-w", "2", "-m", "1", "-p", str(PORT), ROUTER)
    assert text.splitlines()[1].split()[1] == ROUTER
    assert ROUTER6 not in text
