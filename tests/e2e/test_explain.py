"""A refused packet is named by the running daemon: in `explain --recent` and `--follow`, in its log and in its metrics.

And captures of a healthy router: whatever side was captured, `explain` finds no problem.
"""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conntrackd_py.lab.namespaces import CLIENT, INSIDE, ROUTER, SERVER, Namespace, Topology
from conntrackd_py.lab.router import DAEMON, Router
from tests.e2e.conftest import Net
from tests.support.processes import capture as start_capture
from tests.support.waiting import wait_until

CAPTURED = {
    "all": ("any", "LINUX_SLL2"),
    "all, cooked version 1": ("any", "LINUX_SLL"),
    "inside": ("lan0", "EN10MB"),
    "outside": ("wan0", "EN10MB"),
}
BYTES = 3_000_000

# A SYN+ACK without a SYN, and a TCP segment with an impossible set of flags; both with right checksums.
SENDER = """
import socket, sys
sys.path.append(sys.argv[1])  # behind the installed package
from tests.support import packets
source, target = sys.argv[2:]
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
    for flags in ("SA", "SF"):
        raw.sendto(packets.tcp(source, target, 4444, 80, flags, seq=1, ack=1), (target, 0))
"""


def test_a_refused_packet_is_named_everywhere(net: Net) -> None:
    root = __file__.removesuffix("/tests/e2e/test_explain.py")
    net.client.run(sys.executable, "-c", SENDER, root, CLIENT, SERVER)
    net.client.run("ping", "-c", "1", "-W", "2", SERVER)
    asked = (*DAEMON, "explain", "--recent", "--socket", str(net.router.socket))
    notes = [json.loads(line) for line in net.inside_router.run(*asked, "--json").splitlines()]
    said = {note["reason"]: note["why"] for note in notes}
    assert said["tcp_flags"] == "INVALID: no TCP sends the flags [FS] together"
    assert said["tcp_state"] == "INVALID: SYN+ACK cannot start a connection and belongs to none"
    assert f"tcp {CLIENT}:4444 > {SERVER}:80 [S.] seq 1 ack 1" in net.inside_router.run(*asked)
    metrics = net.router.metrics()
    assert re.search(r'^conntrackd_py_invalid_total\{reason="tcp_flags"\} 1', metrics, re.MULTILINE)
    assert re.search(r"^conntrackd_py_one_sided_flows_total 1", metrics, re.MULTILINE)
    assert "no TCP sends the flags [FS] together" in net.router.said()


def test_a_refused_packet_is_followed(net: Net) -> None:
    words = (*DAEMON, "explain", "--follow", "--json", "--host", CLIENT, "--socket", str(net.router.socket))
    following = net.inside_router.start(*words, "--reason", "tcp_state", stdout=subprocess.PIPE)
    root = __file__.removesuffix("/tests/e2e/test_explain.py")
    assert following.stdout is not None
    status = (*DAEMON, "status", "--json", "--socket", str(net.router.socket))
    wait_until(lambda: '"clients": 2' in net.inside_router.run(*status), "the follower is not connected")
    net.client.run(sys.executable, "-c", SENDER, root, CLIENT, SERVER)
    assert json.loads(following.stdout.readline())["why"].startswith("INVALID: SYN+ACK cannot start a connection")
    following.send_signal(signal.SIGINT)
    assert following.wait(10) == 0


@pytest.fixture(scope="module", params=["the daemon's NAT", "the kernel's NAT", "no segmentation offload"])
def healthy(request: pytest.FixtureRequest) -> Iterator[dict[str, Path]]:
    """Captures of a ping, a fragmented ping and a download through a router, by place."""
    with Topology() as topology:
        router = topology.router
        if request.param == "the kernel's NAT":
            masquerade = ("-o", "wan0", "-s", INSIDE, "-j", "MASQUERADE", "--random-fully")
            router.run("iptables", "-t", "nat", "-A", "POSTROUTING", *masquerade)
        else:
            daemon = Router(topology)
            daemon.install_rules()
            daemon.start()
        if request.param == "no segmentation offload":
            router.run("ethtool", "-K", "lan0", "tso", "off", "gso", "off")
        # A small window: an ACK that two CPUs reordered is then never too old for the tracker (66,000 bytes).
        topology.client.run("sysctl", "-qw", "net.ipv4.tcp_rmem=4096 32768 49152")
        (topology.folder / "file").write_bytes(bytes(BYTES))
        server = (sys.executable, "-m", "http.server", "80", "-d", str(topology.folder))
        topology.server.start(*server)
        answers = ("curl", "-sS", "-o", "/dev/null", "-w", "%{size_download}", f"http://{SERVER}/file")
        wait_until(lambda: topology.client.run(*answers, check=False) == str(BYTES), "the server does not answer")
        captures = {}
        for place, (interface, link) in CAPTURED.items():
            captures[place] = topology.folder / f"{place}.pcap"
            options = ("-s", "0", "-B", "65536", "-y", link, f"host {SERVER}")
            start_capture(router, captures[place], *options, interface=interface)
        topology.client.run("ping", "-c", "2", "-i", "0.2", SERVER)
        topology.client.run("ping", "-c", "1", "-s", "4000", SERVER)
        assert topology.client.run(*answers) == str(BYTES)
        topology.client.run("ping", "-c", "1", "-p", "ff", SERVER)
        wait_until(lambda: complete(router, captures), "a capture is not complete")
        yield captures


def complete(where: Namespace, captures: dict[str, Path]) -> bool:
    """Whether every capture has the answer to the last ping."""
    words = ("-x", "icmp[icmptype] == icmp-echoreply")
    return all("ffff ffff" in where.run("tcpdump", "-nr", str(path), *words, check=False) for path in captures.values())


@pytest.mark.parametrize("options", [(), ("-c",)], ids=["alone", "with the NAT rules"])
@pytest.mark.parametrize("place", CAPTURED)
def test_a_healthy_download_has_no_problem(
    healthy: dict[str, Path], place: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    config = tmp_path / "c.toml"
    config.write_text('[[nat]]\nout_interface = "wan0"\naction = "MASQUERADE"\n')
    rules = (*options, str(config), "--inside", INSIDE, "--address", ROUTER) if options else ()
    command = (*DAEMON, "explain", "--json", str(healthy[place]), *rules)
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    summary: dict[str, Any] = json.loads(lines[-1])["summary"]
    assert (summary["reasons"], set(summary["ctinfo"])) == ({}, {"NEW", "ESTABLISHED", "ESTABLISHED_REPLY"})
    assert summary["ctinfo"]["NEW"] == summary["connections_left"] == 4
    assert summary["not_judged"] == 0
    assert bool(summary["seen_again"]) == place.startswith("all")
    assert [hint for hint in summary["hints"] if "unfinished" not in hint] == []
