"""A silent socket of the router keeps its port, with the running daemon and real sockets."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from conntrackd_py.lab.namespaces import CLIENT, ROUTER, SERVER, Topology
from conntrackd_py.lab.router import CONFIG, Router
from tests.support.waiting import wait_until

HOLD = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.bind((sys.argv[1], int(sys.argv[2])))
    print(sock.recv(100).decode(), flush=True)
"""
SEND = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.bind(("", int(sys.argv[2])))
    sock.sendto(b"hello", (sys.argv[1], 9))
"""


@pytest.fixture(scope="module")
def router() -> Iterator[Router]:
    with Topology() as topology:
        made = Router(topology, CONFIG)
        made.install_rules()
        topology.router.start(sys.executable, "-P", "-c", HOLD, "0.0.0.0", "5060")
        made.start()
        yield made


def outer_port(router: Router, port: int) -> int:
    """The port outside of a packet that the client sends from this one, in a connection of its own."""
    router.conntrack("-F")
    router.net.client.run(sys.executable, "-P", "-c", SEND, SERVER, str(port))
    line = router.conntrack("-L", "-p", "udp", "--orig-src", CLIENT)
    assert f"dst={ROUTER} " in line
    return int(line.rpartition("dport=")[2].split()[0])


def test_a_port_that_was_bound_before_the_start(router: Router) -> None:
    assert outer_port(router, 5060) != 5060
    assert outer_port(router, 5061) == 5061


def test_a_port_that_is_bound_now(router: Router) -> None:
    router.net.router.start(sys.executable, "-P", "-c", HOLD, ROUTER, "5070")
    wait_until(lambda: outer_port(router, 5070) != 5070, "the socket was not noticed")


def test_by_switch_the_port_is_used(router: Router) -> None:
    router.config.write_text("avoid_bound_ports = false\n" + router.config.read_text())
    router.net.router.run(
        sys.executable,
        "-P",
        "-m",
        "conntrackd_py.cli.conntrackd.main",
        "reload",
        "--socket",
        str(router.socket),
        "-c",
        str(router.config),
    )
    wait_until(lambda: outer_port(router, 5060) == 5060, "the switch has no effect")
