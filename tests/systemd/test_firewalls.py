"""Beside each usual firewall: a router with systemd, the firewall's own rules, and the package by README's words."""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pytest

from conntrackd_py.lab.namespaces import (
    CLIENT,
    CLIENT6,
    INSIDE,
    INSIDE6,
    ROUTER,
    ROUTER6_INSIDE,
    ROUTER_INSIDE,
    SERVER,
    SERVER6,
    Namespace,
    Topology,
)
from conntrackd_py.lab.steps import TRAFFIC, fetch, start_servers
from tests.support import debian
from tests.support.machine import UNIT
from tests.support.processes import start
from tests.support.stock_firewalls import DOCKER, FIREWALLS, Firewall
from tests.systemd.conftest import Router

RELOADS: Final = int(os.environ.get("CONNTRACKD_PY_RELOADS", "3"))
SMALL_MTU: Final = ("mtu", "lock", "1300")
MEGABYTES: Final = 3
CONTAINER: Final = "172.17.0.2"
SOCKETS_CLOSED: Final = (7, 28)  # of curl: refused, no answer

# The [[nat]] rules of README for this network, and those of docs/nat.md for hairpin.
CONFIG: Final = f"""\
[[nat]]
out_interface = "wan0"
source = "{INSIDE}"
action = "MASQUERADE"

[[nat]]
destination = "{ROUTER}"
proto = "tcp"
dport = 8080
action = "DNAT"
to = "{CLIENT}:80"

[[nat]]
out_interface = "lan0"
source = "{INSIDE}"
destination = "{CLIENT}"
proto = "tcp"
dport = 80
action = "SNAT"
to = "{ROUTER_INSIDE}"
"""


@dataclass(frozen=True)
class Beside:
    firewall: Firewall
    machine: Router
    net: Topology
    container: Namespace
    before: str  # the ruleset before conntrackd-py


def ruleset(machine: Router) -> str:
    """All rules, without counters."""
    text = machine.run("nft", "list", "ruleset")
    for backend in ("nft", "legacy"):
        for program in ("iptables", "ip6tables"):
            text += machine.run(f"{program}-{backend}-save")
    return re.sub(r"packets \d+ bytes \d+|\[\d+:\d+\]|^#.*\n", "", text, flags=re.MULTILINE)


@pytest.fixture(scope="module", params=FIREWALLS, ids=lambda firewall: firewall.name)
def beside(request: pytest.FixtureRequest) -> Iterator[Beside]:
    firewall = request.param
    with Topology() as net, debian.copy("firewalls", bare=True) as root:
        shutil.copy(debian.package(), root / "root/package.deb")
        debian.apt_install(root, "/root/package.deb")
        debian.run("chroot", root, "systemctl", "disable", "firewalld", "ufw")  # their packages enable them
        container = add_container(net)
        narrow(net)
        with Router(net, root) as machine:
            firewall.load(machine)
            before = ruleset(machine)
            machine.configure(CONFIG + firewall.config)
            machine.run("systemctl", "enable", "--now", UNIT)
            start_servers(net)
            start(net.router, *TRAFFIC, "http", "0.0.0.0", "22", "the router")
            start(net.client, *TRAFFIC, "http", CLIENT6, "80", "the client")
            start(container, *TRAFFIC, "http", CONTAINER, "80", "the container")
            yield Beside(firewall, machine, net, container, before)


def narrow(net: Topology) -> None:
    """Forwarded packets may have at most 1,300 bytes. The links carry more, so only the router can say so."""
    for network, interface in ((INSIDE, "lan0"), ("203.0.113.0/24", "wan0")):
        net.router.run("ip", "route", "change", network, "dev", interface, *SMALL_MTU)
    for network, interface in ((INSIDE6, "lan0"), ("2001:db8:2::/64", "wan0")):
        net.router.run("ip", "-6", "route", "add", network, "dev", interface, "metric", "10", *SMALL_MTU)


def add_container(net: Topology) -> Namespace:
    """A host behind docker0, as a container is."""
    container = Namespace(f"ctpy-{net.token}-container")
    net.cleanup.callback(container.delete)
    debian.run("ip", "netns", "add", container.name)
    net.cleanup.callback(container.end)
    link = ("ip", "link", "add", "veth0", "netns", net.router.name, "type", "veth")
    debian.run(*link, "peer", "name", "eth0", "netns", container.name)
    for line in (
        "ip link add docker0 type bridge",
        "ip address add 172.17.0.1/16 dev docker0",
        "ip link set docker0 up",
        "ip link set veth0 master docker0",
        "ip link set veth0 up",
    ):
        net.router.run(*line.split())
    for line in (
        "ip link set eth0 up",
        f"ip address add {CONTAINER}/16 dev eth0",
        "ip route add default via 172.17.0.1",
    ):
        container.run(*line.split())
    return container


def refused(where: Namespace, url: str) -> bool:
    return where.complete("curl", "-sS", "--max-time", "1", url).returncode in SOCKETS_CLOSED


def test_browsing_and_the_forwarded_port(beside: Beside) -> None:
    net = beside.net
    assert fetch(net.client, f"http://{SERVER}/") == f"This is the server. You are {ROUTER}."
    assert fetch(net.server, f"http://{ROUTER}:8080/") == f"This is the client. You are {SERVER}."


def test_hairpin(beside: Beside) -> None:
    text = fetch(beside.net.client, f"http://{ROUTER}:8080/")
    assert text == f"This is the client. You are {ROUTER_INSIDE}."


def test_the_firewall_still_keeps_the_outside_out(beside: Beside) -> None:
    net = beside.net
    assert refused(net.server, f"http://{ROUTER}:22/")
    assert refused(net.server, f"http://[{CLIENT6}]/")


def test_ssh_from_inside(beside: Beside) -> None:
    assert fetch(beside.net.client, f"http://{ROUTER_INSIDE}:22/") == f"This is the router. You are {CLIENT}."


@pytest.mark.parametrize("server", [SERVER, SERVER6])
def test_ping_and_dns(beside: Beside, server: str) -> None:
    net = beside.net
    for where in (net.client, net.router):
        assert "2 received" in where.run("ping", "-c", "2", "-i", "0.2", "-W", "2", server)
        assert "2 datagrams" in where.run(*TRAFFIC, "udp-send", server, "7", "1", "1000")


def test_the_router_browses(beside: Beside) -> None:
    assert fetch(beside.net.router, f"http://{SERVER}/") == f"This is the server. You are {ROUTER}."


@pytest.mark.parametrize(("server", "first"), [(SERVER, ROUTER_INSIDE), (SERVER6, ROUTER6_INSIDE)], ids=["v4", "v6"])
@pytest.mark.parametrize("method", ["-U", "-I"], ids=["udp", "icmp"])
def test_traceroute(beside: Beside, server: str, first: str, method: str) -> None:
    text = beside.net.client.run("traceroute", "-n", "-q", "1", "-w", "2", "-m", "3", method, server)
    assert [line.split()[1] for line in text.splitlines()[1:]] == [first, server]


@pytest.mark.parametrize("server", [SERVER, SERVER6])
def test_bulk_tcp_finds_the_path_mtu_in_both_directions(beside: Beside, server: str) -> None:
    """Only the router's ICMP errors tell the hosts how large their packets may be."""
    text = beside.net.client.run(*TRAFFIC, "exchange", server, "9", str(MEGABYTES * 1_000_000))
    assert "SHA-256 equal" in text


def test_rules_check_names_what_remains(beside: Beside) -> None:
    lines = beside.machine.complete("conntrackd-py", "rules", "check", "--json").stdout.splitlines()
    found = {(item["severity"], item["code"]) for item in map(json.loads, lines)}
    # Every machine here has a bridge, and this kernel filters bridged packets.
    assert found - {("warning", "bridge")} == beside.firewall.findings


@pytest.mark.parametrize("beside", [DOCKER], ids=["docker"], indirect=True)
def test_containers_reach_the_outside_and_are_reached(beside: Beside) -> None:
    """The kernel goes on translating for the interfaces that are excluded."""
    assert fetch(beside.container, f"http://{SERVER}/") == f"This is the server. You are {ROUTER}."
    assert fetch(beside.net.server, f"http://{ROUTER}:8081/") == f"This is the container. You are {SERVER}."


def test_the_ruleset_is_reloaded_under_traffic(beside: Beside) -> None:
    """Nothing leaves untranslated, and the steering is there again each time."""
    machine, away = beside.machine, []

    def reload() -> None:
        for _ in range(RELOADS):
            beside.firewall.reload(machine)
            began = time.monotonic()
            machine.wait("steered", lambda: "queue_1" in beside.net.router.run("nft", "list", "ruleset"))
            away.append(time.monotonic() - began)
            machine.wait("in order", lambda: machine.complete("conntrackd-py", "rules", "status").returncode == 0)

    assert machine.leaks(reload) == ""
    assert machine.translates()
    metrics = machine.run("curl", "-sS", "http://127.0.0.1:9466/metrics")
    assert "conntrackd_py_steering_installed 1.0" in metrics
    restored = re.search(r"^conntrackd_py_steering_restored_total (\S+)", metrics, re.MULTILINE)
    assert restored is not None
    name, most, middle = beside.firewall.name, max(away), statistics.median(away)
    print(f"{name}: {RELOADS} reloads, {restored[1]} restored; s without rules: median {middle:.2f}, most {most:.2f}")


def test_a_stop_leaves_the_ruleset_as_it_was(beside: Beside) -> None:
    beside.machine.run("systemctl", "stop", UNIT)
    assert ruleset(beside.machine) == beside.before, beside.machine.last_lines()
