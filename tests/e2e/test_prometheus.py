"""A real Prometheus scrapes the daemon: every series is there, every alert fires, every panel has data.

CONNTRACKD_PY_PROMETHEUS_SECONDS: how long it scrapes undisturbed before that (3).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from conntrackd_py.control.server import ControlServer
from conntrackd_py.kernel.queues.queue import QueueCounters
from conntrackd_py.lab.namespaces import CLIENT, ROUTER, SERVER, Topology
from conntrackd_py.lab.router import CONFIG, CONNTRACK, Router
from conntrackd_py.lab.steps import TRAFFIC, UDP_PORT, WEB_PORT, start_servers
from conntrackd_py.service.metrics.collector import EngineCollector
from conntrackd_py.service.pauses import Pauses
from conntrackd_py.service.refusal_log import RefusalLog
from tests.support.prometheus import RULES, Prometheus, filled, panels, quick
from tests.support.router import Router as VirtualRouter

SECONDS = int(os.environ.get("CONNTRACKD_PY_PROMETHEUS_SECONDS", "3"))
WINDOW = "30s"
LIMIT = 400
PORTS = 40
FEW_PORTS = f"""
[[nat]]
comment = "a few ports"
out_interface = "wan0"
proto = "udp"
action = "SNAT"
to = "{ROUTER}:20000-{20000 + PORTS - 1}"
"""
FILTER = """
[filter]
nft = '''
table ip guard { chain input { type filter hook input priority 10; policy drop; ip saddr 0.0.0.0/0 accept; } }
'''

[[filter.rule]]
comment = "no telnet"
hook = "forward"
proto = "tcp"
dport = 23
action = "drop"
"""
TARGETS = f"""
[[nat]]
in_interface = "wan0"
proto = "tcp"
dport = 8443
action = "DNAT"
to = ["{CLIENT}:80", "{CLIENT}:81"]
"""
BLOCKS = """
[[nat]]
out_interface = "wan0"
source = "100.64.0.0/16"
action = "SNAT"
to = "203.0.113.2"
port_block = 512
"""
HELPER = '[[raw]]\nproto = "tcp"\ndport = 21\nhelper = "ftp"\n'
# An echo reply without a request: INVALID.
STRAY = f"""
import socket
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
    raw.sendto(bytes((0, 0, 255, 254, 0, 1, 0, 0)), ("{SERVER}", 0))
"""
# As many UDP connections to each of some ports as there are outer ports; then a few more to one of them.
CROWD = f"""
import socket, sys, time
for dport, count in ((int(word), {PORTS}) for word in sys.argv[1].split(",")):
    for number in range(count + int(sys.argv[2])):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind(("", 30000 + number))
            sender.sendto(b"x", ("{SERVER}", dport))
        time.sleep(0.002)  # the queue is short
"""


def config() -> str:
    tuned = CONFIG.replace("[tunables]", f"[tunables]\nnf_conntrack_max = {LIMIT}").replace(
        "[[nat]]", f"{FEW_PORTS}\n[[nat]]", 1
    )
    tuned = tuned.replace("[metrics]", "[metrics]\nnode_exporter_names = true")
    return "[queue]\nmax_length = 64\n" + tuned.replace('mode = "nat"\n', "", 1) + FILTER + TARGETS + BLOCKS + HELPER


@pytest.fixture(scope="module")
def watched() -> Iterator[tuple[Router, Prometheus]]:
    with Topology() as net:
        router = Router(net, config() + f'[nat_log]\nfile = "{net.folder / "nat.log"}"\n')
        router.install_rules()
        router.start()
        start_servers(net)
        yield router, Prometheus(net.router, net.folder, quick(RULES.read_text(), WINDOW))


def use(router: Router) -> None:
    """A little of everything that is counted."""
    client = router.net.client
    client.run(*TRAFFIC, "udp-send", SERVER, str(UDP_PORT), "100")
    client.run("curl", "-sS", f"http://{SERVER}:{WEB_PORT}/")
    client.run(sys.executable, "-c", STRAY)
    client.complete("curl", "-sS", "--max-time", "0.2", f"http://{SERVER}:23/")
    client.run("ping", "-c", "1", SERVER)


def fires(prometheus: Prometheus, *names: str) -> None:
    prometheus.wait(lambda: prometheus.firing() >= set(names), f"{names} do not fire")


def series() -> set[str]:
    """Every name that the daemon publishes without [sync] (test_standby.py has the others)."""
    virtual = VirtualRouter()
    log = RefusalLog(virtual.engine.diagnostics.recent, virtual.clock)
    control = ControlServer(virtual.engine, virtual.clock, path="unused")
    collector = EngineCollector(
        virtual.engine, QueueCounters(), control, refusals=log, pauses=Pauses(), node_exporter=False
    )
    suffix = {"counter": "_total", "histogram": "_bucket"}
    names = {family.name + suffix.get(family.type, "") for family in collector.describe()}
    return {name for name in names if not name.startswith("conntrackd_py_sync_")}


def test_every_series_is_there(watched: tuple[Router, Prometheus]) -> None:
    router, prometheus = watched
    for second in range(SECONDS):
        if second < 3:  # more would fill the small table
            use(router)
        time.sleep(1)
    wanted = series()
    assert len(wanted) > 45
    prometheus.wait(lambda: {one["metric"]["__name__"] for one in prometheus.query('{job="conntrackd-py"}')} >= wanted)
    assert prometheus.value(f"min_over_time(up[{SECONDS}s])") == 1
    assert prometheus.value("conntrackd_py_nat_ports_limit{pool='nat[0]',proto='udp'}") == PORTS
    assert prometheus.query("conntrackd_py_build_info{backend='netfilterqueue'}")


def test_promtool_accepts_the_metrics(watched: tuple[Router, Prometheus]) -> None:
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=watched[0].metrics(), capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_a_crowd_fills_the_table_and_the_ports(watched: tuple[Router, Prometheus]) -> None:
    router, prometheus = watched
    assert not prometheus.firing()
    ports = ",".join(str(7000 + number) for number in range(LIMIT * 9 // 10 // PORTS))
    router.net.client.run(sys.executable, "-c", CROWD, ports, "3")
    fires(prometheus, "ConntrackdPyTableNearlyFull", "ConntrackdPyPortsRunningOut", "ConntrackdPyPortsExhausted")
    assert prometheus.value("max(conntrackd_py_nat_ports_fullest_ratio)") == 1
    stock = "node_nf_conntrack_entries / node_nf_conntrack_entries_limit > 0.75"  # NodeHighNumberConntrackEntriesUsed
    assert prometheus.query(stock)


def test_packets_find_no_room_in_the_queue(watched: tuple[Router, Prometheus]) -> None:
    router, prometheus = watched
    os.kill(router.pid, signal.SIGSTOP)
    try:
        router.net.client.complete("ping", "-q", "-c", "100", "-i", "0.002", "-W", "1", SERVER)
    finally:
        os.kill(router.pid, signal.SIGCONT)
    fires(prometheus, "ConntrackdPyNewConnectionsRefused")


def test_every_panel_has_data(watched: tuple[Router, Prometheus]) -> None:
    router, prometheus = watched
    router.net.client.run("ping", "-q", "-c", "1500", "-i", "0.001", SERVER)  # so that some visits are timed
    prometheus.wait(lambda: prometheus.value("conntrackd_py_packet_seconds_count") > 0)
    empty: list[tuple[str, str]] = []

    def none_is_empty() -> bool:
        use(router)
        router.net.router.complete(*CONNTRACK, "--socket", str(router.socket), "-D", "-p", "icmp")
        queries = [(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]]
        empty[:] = [one for one in queries if not prometheus.query(filled(one[1], WINDOW))]
        return not empty

    try:
        prometheus.wait(none_is_empty)
    finally:
        assert empty == []


def test_a_reload_that_fails(watched: tuple[Router, Prometheus]) -> None:
    router, prometheus = watched
    router.config.write_text("mode = 5\n")
    os.kill(router.pid, signal.SIGHUP)
    fires(prometheus, "ConntrackdPyReloadFailed")


def test_the_daemon_goes_away(watched: tuple[Router, Prometheus]) -> None:
    router, prometheus = watched
    router.stop(signal.SIGKILL)
    fires(prometheus, "ConntrackdPyDown")
