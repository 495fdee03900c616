"""Every byte that goes through the router comes out as it went in, whichever way its packets take.

CONNTRACKD_PY_INTEGRITY: megabytes each way of a stream (40). From 200 on every size of datagram is sent, not a few.
"""

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from conntrackd_py.lab.namespaces import INSIDE, INSIDE6, ROUTER, SERVER, SERVER6, Topology
from conntrackd_py.lab.router import CONFIG, Router
from conntrackd_py.lab.steps import EXCHANGE_PORT, TRAFFIC, UDP_PORT, start_servers
from tests.e2e.conftest import Net
from tests.support.both_ways import IN_AND_OUT
from tests.support.processes import capture
from tests.support.waiting import wait_until

MEGABYTES = int(os.environ.get("CONNTRACKD_PY_INTEGRITY", "40"))
AMOUNT = MEGABYTES * 1_000_000
AROUND_A_PACKET = (1, 2, 511, 512, 1471, 1472, 1473, 2952, 2953, 4015, 4016, 4017, 8192)
LARGE = (20000, 40000, 60000)
SIZES = range(1, 60001) if MEGABYTES >= 200 else (*AROUND_A_PACKET, *LARGE)
A_COMMAND = 2000  # sizes

WAYS = {
    "one pair of queues": "[queue]\nknown_first = false",
    "all packets whole": '[queue]\nlarge_packets = "whole"',
    "large packets by mark": '[queue]\nlarge_packets = "headers"',
    "the kernel tracks too": '[steering]\nkernel_conntrack = "keep"',
    "offloaded": '[offload]\nmode = "established"\npackets = 16',
}


@pytest.fixture(scope="module", params=WAYS)
def net(request: pytest.FixtureRequest) -> Iterator[Net]:
    with Topology() as topology:
        router = Router(topology, f"{CONFIG}{IN_AND_OUT}{WAYS[request.param]}\n")
        file = topology.folder / "outside.pcap"
        capture(topology.server, file, f"(ip net {INSIDE}) or (ip6 net {INSIDE6} and not icmp6) or arp")
        router.install_rules()
        router.start()
        start_servers(topology)
        yield Net(topology, router, file)


@pytest.mark.parametrize("server", [SERVER, SERVER6])
def test_udp_of_any_size_is_echoed_byte_for_byte(net: Net, server: str) -> None:
    for at in range(0, len(SIZES), A_COMMAND):
        sizes = [str(size) for size in SIZES[at : at + A_COMMAND]]
        said = net.client.run(*TRAFFIC, "udp-send", server, str(UDP_PORT), *sizes, timeout=150)
        assert said == f"{len(sizes)} datagrams echoed byte for byte\n"


@pytest.mark.parametrize("server", [SERVER, SERVER6])
def test_tcp_in_both_directions_at_once(net: Net, server: str) -> None:
    said = net.client.run(*TRAFFIC, "exchange", server, str(EXCHANGE_PORT), str(AMOUNT), timeout=300)
    assert said == f"{AMOUNT} bytes each way, SHA-256 equal\n"


@pytest.mark.parametrize("server", [SERVER, SERVER6])
def test_500_connections_at_once(net: Net, server: str) -> None:
    said = net.client.run(*TRAFFIC, "many", server, str(EXCHANGE_PORT), "500")
    assert said == "500 of 500 connections good\n"
    assert len(net.router.conntrack("-L", "-p", "tcp", "--state", "TIME_WAIT").splitlines()) >= 500


def test_none_of_our_code_failed_and_nothing_was_cut(net: Net) -> None:
    metrics = net.router.metrics()
    assert "conntrackd_py_verdict_errors_total 0.0" in metrics
    assert "conntrackd_py_truncated_packets_total 0.0" in metrics
    assert "error" not in net.router.said()


@pytest.mark.parametrize("server", [SERVER, SERVER6])
def test_the_daemon_is_killed_under_a_stream(net: Net, server: str) -> None:
    said = net.router.said()
    words = (*TRAFFIC, "exchange", server, str(EXCHANGE_PORT), str(AMOUNT))
    stream = net.client.start(*words, stdout=subprocess.PIPE)
    wait_until(lambda: "ESTABLISHED" in net.router.conntrack("-L", "-p", "tcp", "-d", server), "the stream has begun")
    net.router.stop(signal.SIGKILL)
    net.router.start()
    assert stream.communicate(timeout=300)[0] == f"{AMOUNT} bytes each way, SHA-256 equal\n"
    assert '"restored"' in net.router.said().removeprefix(said)


def test_nothing_untranslated_was_seen_outside(net: Net) -> None:
    net.outside.run("ip", "neigh", "flush", "all")
    net.outside.run("ping", "-c", "1", "-W", "2", ROUTER, check=False)
    wait_until(lambda: net.captured("arp"), "the capture is not running")
    assert net.captured("not arp") == []
