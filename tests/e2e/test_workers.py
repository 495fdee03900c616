"""Two workers of one router, with the rules of docs/scale.md: the remote address chooses the worker."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from conntrackd_py.lab.namespaces import ROUTER, SERVER, Topology
from conntrackd_py.lab.router import CONFIG, METRICS, Router
from conntrackd_py.lab.steps import TRAFFIC
from tests.support.processes import start

PAGE: Final = Path(__file__).parents[2] / "docs" / "scale.md"
REMOTE: Final = [f"198.18.0.{number}" for number in range(1, 17)]
UNREACHABLE: Final = [f"198.19.0.{number}" for number in range(1, 17)]
PORT: Final = "7"

Workers = tuple[Topology, Router, Router]


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with Topology() as net:
        for namespace in (net.router, net.server):
            namespace.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.ip_forward=1")
        net.router.run("ip", "route", "add", "198.18.0.0/15", "via", SERVER)
        net.server.run("ip", "route", "add", "local", "198.18.0.0/16", "dev", "lo")
        net.server.run("ip", "route", "add", "198.19.0.0/16", "via", ROUTER)
        net.server.run("iptables", "-A", "FORWARD", "-j", "REJECT", "--reject-with", "icmp-admin-prohibited")
        alone = "[queue]\nknown_first = false\n"
        second = CONFIG.replace(METRICS, "127.0.0.1:9467") + alone + "first = 2\n"
        routers = (Router(net, CONFIG + alone, name="first-"), Router(net, second, name="second-"))
        (rules,) = re.findall(r"^```\n(\*raw\n.*?)```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
        file = net.folder / "rules"
        file.write_text(rules)
        net.router.run("iptables-restore", "--noflush", str(file))
        for router in routers:
            router.start()
        for address in REMOTE:
            start(net.server, *TRAFFIC, "udp-echo", address, PORT)
        start(net.server, *TRAFFIC, "exchange-server", REMOTE[0], "9")
        start(net.server, *TRAFFIC, "exchange-server", REMOTE[1], "9")
        yield net, *routers


def test_both_workers_carry_connections_and_each_has_its_own(workers: Workers) -> None:
    net, first, second = workers
    for address in REMOTE:
        assert net.client.run(*TRAFFIC, "udp-send", address, PORT, "100", "9000").strip().startswith("2 datagrams")
    tables = [router.conntrack("-L", "-p", "udp", "--dport", PORT) for router in (first, second)]
    remote = [set(re.findall(r"^udp .*? dst=(198\.18\.\S+) .* dst=" + ROUTER, text, re.MULTILINE)) for text in tables]
    assert remote[0] | remote[1] == set(REMOTE)
    assert not remote[0] & remote[1]
    assert all(remote)


@pytest.mark.parametrize("address", REMOTE[:2])
def test_tcp_passes(workers: Workers, address: str) -> None:
    net = workers[0]
    assert "SHA-256 equal" in net.client.run(*TRAFFIC, "exchange", address, "9", "1000000")


def test_an_error_of_a_router_on_the_way_comes_to_the_worker_of_the_remote_address(workers: Workers) -> None:
    net = workers[0]
    for address in UNREACHABLE:
        said = net.client.complete(*TRAFFIC, "udp-send", address, PORT, "100").stdout
        assert "No route to host" in said, address


def test_without_a_worker_its_packets_are_dropped_and_the_others_pass(workers: Workers) -> None:
    net, first, second = workers
    mine = re.search(r" dst=(198\.18\.\S+) ", first.conntrack("-L", "-p", "udp", "--dport", PORT))
    others = re.search(r" dst=(198\.18\.\S+) ", second.conntrack("-L", "-p", "udp", "--dport", PORT))
    assert mine is not None
    assert others is not None
    assert second.stop() == 0
    assert "echoed" in net.client.run(*TRAFFIC, "udp-send", mine[1], PORT, "100")
    assert net.client.complete(*TRAFFIC, "udp-send", others[1], PORT, "100").stdout == "timed out\n"
    second.start()
    assert "echoed" in net.client.run(*TRAFFIC, "udp-send", others[1], PORT, "100")
