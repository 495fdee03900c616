"""NAT at INPUT and OUTPUT, and to 127.0.0.1, with real TCP: by the daemon, and the same by the kernel's NAT."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from conntrackd_py.lab.namespaces import ROUTER, SERVER, Topology
from conntrackd_py.lab.router import CONFIG, Router
from conntrackd_py.lab.steps import TRAFFIC, start_servers

OTHERS = "198.18.1"  # a network that exists only in the rules
GUEST = "198.18.2.9"  # the source that services of the router see
OWN, LOCAL, OUTER = 8000, 8001, 8002  # ports: of the service at the router's address, at 127.0.0.1, its one outside
KERNEL = (
    f"iptables -t nat -A INPUT -i wan0 -p tcp --dport {OWN} -j SNAT --to-source {GUEST}",
    f"iptables -t nat -A OUTPUT -d {OTHERS}.0/24 -j NETMAP --to {SERVER}/24",
    f"iptables -t nat -A PREROUTING -i wan0 -p tcp --dport {OUTER} -j DNAT --to-destination 127.0.0.1:{LOCAL}",
)
DAEMON = f"""
[[nat]]
action = "SNAT"
hooks = ["input"]
in_interface = "wan0"
proto = "tcp"
dport = {OWN}
to = "{GUEST}"

[[nat]]
action = "NETMAP"
hooks = ["output"]
destination = "{OTHERS}.0/24"
to = "{SERVER}/24"

[[nat]]
action = "DNAT"
in_interface = "wan0"
proto = "tcp"
dport = {OUTER}
to = "127.0.0.1:{LOCAL}"
"""


@pytest.fixture(scope="module", params=["kernel", "daemon"])
def net(request: pytest.FixtureRequest) -> Iterator[Topology]:
    with Topology() as topology:
        router = topology.router
        # The wrong way, until a packet is translated.
        router.run("ip", "route", "add", "198.18.0.0/16", "dev", "lan0", "src", ROUTER)
        if request.param == "kernel":
            for command in KERNEL:
                router.run(*command.split())
        else:
            daemon = Router(topology, CONFIG.partition("[[nat]]")[0] + DAEMON)
            daemon.install_rules()
            daemon.start()
        start_servers(topology)
        for address, port in ((ROUTER, OWN), ("127.0.0.1", LOCAL)):
            service = router.start(*TRAFFIC, "http", address, str(port), "the router", stdout=subprocess.PIPE)
            assert service.stdout is not None
            assert service.stdout.readline().strip() == "ready"
        yield topology


def fetched(net: Topology, url: str, status: bool = True) -> str:
    """The page that the server gets, or an empty text after 2 s."""
    return net.server.run("curl", "-sS", "--fail", "--max-time", "2", url, check=status).replace("::ffff:", "")


def test_a_service_of_the_router_sees_the_source_of_the_input_rule(net: Topology) -> None:
    for _ in range(3):
        assert f"You are {GUEST}." in fetched(net, f"http://{ROUTER}:{OWN}/")


def test_the_routers_own_packets_go_to_the_other_network(net: Topology) -> None:
    page = net.router.run("curl", "-sS", "--fail", "--max-time", "5", f"http://{OTHERS}.{SERVER.rpartition('.')[2]}/")
    assert f"You are {ROUTER}." in page.replace("::ffff:", "")


def test_a_service_of_localhost_is_reached_only_with_route_localnet(net: Topology) -> None:
    assert fetched(net, f"http://{ROUTER}:{OUTER}/", status=False) == ""
    net.router.run("sysctl", "-qw", "net.ipv4.conf.wan0.route_localnet=1")
    assert "You are 203.0.113.80." in fetched(net, f"http://{ROUTER}:{OUTER}/")
