"""A firewall rule that overwrites the packet mark between the two visits: traffic passes, and the rule is named."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from conntrackd_py.control.client import Client
from conntrackd_py.control.protocol.requests import DaemonStatus
from conntrackd_py.lab.namespaces import INSIDE, Topology
from conntrackd_py.lab.router import CONFIG, DAEMON, Router
from conntrackd_py.lab.steps import start_servers
from tests.support.firewalls import outcomes, serve
from tests.support.processes import capture
from tests.support.waiting import wait_until

REACHED = (
    "a web page",
    "a stream, IPv6",
    "ping",
    "ping, IPv6",
    "a closed port is reported",
    "a closed port is reported, IPv6",
    "path MTU discovery",
    "a forwarded port",
    "the router as a client",
)


class Net:
    def __init__(self, topology: Topology, router: Router) -> None:
        self.topology = topology
        self.router = router

    def status(self) -> dict[str, object]:
        with Client(str(self.router.socket)) as client:
            found: dict[str, object] = next(client.ask(DaemonStatus()))["status"]
        return found

    def logged(self) -> list[dict[str, object]]:
        lines = [json.loads(line) for line in self.router.said().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == "mark_overwritten"]


@pytest.fixture
def net(request: pytest.FixtureRequest) -> Iterator[Net]:
    tracking = getattr(request, "param", "off")
    with Topology() as topology:
        router = Router(topology, f'{CONFIG}[steering]\nkernel_conntrack = "{tracking}"\n')
        router.install_rules()
        router.start()
        start_servers(topology)
        serve(topology)
        yield Net(topology, router)


@pytest.mark.parametrize("chain", ["FORWARD", "PREROUTING"])
def test_traffic_passes_translated_and_the_rule_is_named(net: Net, chain: str) -> None:
    seen = net.topology.folder / "outside.pcap"
    capture(net.topology.server, seen, f"ip net {INSIDE}")
    rule = ("-t", "mangle", "-A", chain, "-j", "MARK", "--set-mark", "1")
    for program in ("iptables", "ip6tables"):
        net.topology.router.run(program, *rule)
    found = outcomes(net.topology)
    assert [name for name in REACHED if not found[name]] == []
    assert net.topology.server.run("tcpdump", "-nr", str(seen)) == ""
    wait_until(net.logged, "the rule was not looked for")
    text = f"iptables ipv4 mangle {chain}: -A {chain} -j MARK --set-xmark 0x1/0xffffffff"
    assert [line["rule"] for line in net.logged()] == [text]
    assert net.status()["mark_rule"] == text
    shown = net.topology.router.run(*DAEMON, "status", "--socket", str(net.router.socket))
    assert f"probably overwritten by {text}" in shown
    recent = net.topology.router.run(*DAEMON, "explain", "--recent", "--socket", str(net.router.socket))
    assert "another rule overwrote its packet mark" in recent
    assert "\nconntrackd_py_mark_overwritten_total 0" not in net.router.metrics()


def test_a_restored_connection_mark_does_not_exist_without_the_kernels_tracking(net: Net) -> None:
    restore_marks(net)
    assert [name for name, reached in outcomes(net.topology).items() if name in REACHED and not reached] == []
    assert "\nconntrackd_py_mark_overwritten_total 0" in net.router.metrics()
    assert net.logged() == []


@pytest.mark.parametrize("net", ["keep"], indirect=True)
def test_with_it_traffic_passes_translated(net: Net) -> None:
    seen = net.topology.folder / "outside.pcap"
    capture(net.topology.server, seen, f"ip net {INSIDE}")
    restore_marks(net)
    assert [name for name, reached in outcomes(net.topology).items() if name in REACHED and not reached] == []
    assert net.topology.server.run("tcpdump", "-nr", str(seen)) == ""
    assert "\nconntrackd_py_mark_overwritten_total 0" not in net.router.metrics()


def restore_marks(net: Net) -> None:
    for action in ("--restore-mark", "--save-mark"):
        net.topology.router.run("iptables", "-t", "mangle", "-A", "FORWARD", "-j", "CONNMARK", action)
