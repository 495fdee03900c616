"""The kind of NAT that other programs see: clients of a STUN server with two addresses (RFC 3489, RFC 5780)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from conntrackd_py.lab.namespaces import CLIENT, INSIDE, ROUTER, SERVER, Topology
from conntrackd_py.lab.router import DAEMON, METRICS, Router
from conntrackd_py.lab.steps import TRAFFIC, start_servers
from tests.support.waiting import wait_until

SECOND = "203.0.113.81"
CONFIG = f"""
[metrics]
listen = "{METRICS}"
[control]
socket = "%%s"
[[nat]]
out_interface = "wan0"
source = "{INSIDE}"
action = "MASQUERADE"
%s
"""
INDEPENDENT = 'mapping = "endpoint-independent"\n'
DEPENDENT = "Address and Port Dependent"

Start = Callable[..., Router]


@pytest.fixture(scope="module")
def net() -> Iterator[Topology]:
    with Topology() as topology:
        topology.server.run("ip", "address", "add", f"{SECOND}/24", "dev", "eth0")
        log = topology.folder / "turnserver.log"
        with log.open("w") as out:
            topology.server.start(
                *("turnserver", "-n", "--stun-only", "--listening-ip", SERVER, "--listening-ip", SECOND),
                *("--no-cli", "--no-tls", "--no-dtls", "--no-tcp", "--log-file", "stdout"),
                *("--pidfile", str(topology.folder / "turn.pid"), "--userdb", str(topology.folder / "turn.db")),
                stdout=out,
                stderr=out,
            )
        start_servers(topology)
        wait_until(lambda: "Total General servers" in log.read_text(), "turnserver did not start")
        yield topology


@pytest.fixture
def start(net: Topology) -> Iterator[Start]:
    """A daemon with these keys in its only rule, before which `top` stands."""
    running = []

    def started(keys: str, top: str = "") -> Router:
        router = Router(net, top + CONFIG % keys, f"{len(list(net.folder.glob('*.toml')))}-")
        router.install_rules()
        router.start()
        running.append(router)
        return router

    yield started
    for router in running:
        assert router.stop() == 0


def mappings(router: Router) -> str:
    return router.net.router.run(*DAEMON, "mappings", "--socket", str(router.socket))


@pytest.mark.parametrize(
    ("keys", "mapping", "filtering", "stun"),
    [
        ("random = true", DEPENDENT, DEPENDENT, "Dependent Mapping, random port, no hairpin"),
        (
            f"{INDEPENDENT}random = true",
            "Endpoint Independent",
            DEPENDENT,
            "Independent Mapping, Port Dependent Filter, random port, no hairpin",
        ),
        (
            f'{INDEPENDENT}filtering = "address"',
            "Endpoint Independent",
            "Address Dependent",
            "Independent Mapping, Address Dependent Filter, preserves ports, no hairpin",
        ),
        (
            f'{INDEPENDENT}filtering = "endpoint-independent"\nhairpin = true',
            "Endpoint Independent",
            "Endpoint Independent",
            "Independent Mapping, Independent Filter, preserves ports, will hairpin",
        ),
    ],
    ids=["symmetric", "port-restricted", "address-restricted", "full-cone"],
)
def test_the_kind_of_nat(net: Topology, start: Start, keys: str, mapping: str, filtering: str, stun: str) -> None:
    start(keys)
    told = net.client.run("turnutils_natdiscovery", "-m", "-f", SERVER)
    assert f"NAT with {mapping} Mapping!" in told
    assert f"NAT with {filtering} Filtering!" in told
    assert f"Primary: {stun}" in net.client.complete("stun", SERVER).stdout


def test_the_profile_of_the_rfcs(net: Topology, start: Start) -> None:
    router = start("", 'profile = "rfc"\n')
    told = net.client.complete("stun", SERVER).stdout
    assert "Primary: Independent Mapping, Address Dependent Filter, preserves ports, will hairpin" in told
    assert f"udp  {CLIENT}:" in mappings(router)


def test_a_tcp_server_behind_a_mapping(net: Topology, start: Start) -> None:
    """Its port is known from a connection that it made; a host outside then calls it there, also after a restart."""
    router = start(f'{INDEPENDENT}filtering = "endpoint-independent"')
    client = net.client
    client.run("curl", "-sS", "--max-time", "5", "--local-port", "5000", f"http://{SERVER}/")
    assert f"tcp  {CLIENT}:5000 -> {ROUTER}:5000  nat[0]" in mappings(router)
    wait_until(lambda: ":5000" not in client.run("ss", "-Htn"), "the first connection is not closed")
    serving = client.start(*TRAFFIC, "http", CLIENT, "5000", "the client", stdout=-1)
    assert serving.stdout is not None
    assert serving.stdout.readline().strip() == "ready"
    for _ in range(2):
        page = net.server.run("curl", "-sS", "--fail", "--max-time", "5", f"http://{ROUTER}:5000/")
        assert f"You are {SERVER}." in page
        assert router.stop() == 0
        router.install_rules()
        router.start()
    assert "conntrackd_py_nat_mappings 1.0" in router.metrics()


def test_a_service_of_the_router_keeps_its_port(net: Topology, start: Start) -> None:
    serving = net.router.start(*TRAFFIC, "http", "0.0.0.0", "5001", "the router", stdout=-1)
    assert serving.stdout is not None
    assert serving.stdout.readline().strip() == "ready"
    router = start(f'{INDEPENDENT}filtering = "endpoint-independent"')
    net.client.run("curl", "-sS", "--max-time", "5", "--local-port", "5001", f"http://{SERVER}/")
    assert f"tcp  {CLIENT}:5001 -> {ROUTER}:" in mappings(router)
    assert f"{ROUTER}:5001 " not in mappings(router)
    page = net.server.run("curl", "-sS", "--fail", "--max-time", "5", f"http://{ROUTER}:5001/")
    assert "This is the router." in page
