"""A router with the daemon and its real rules between a client and a server, each in a namespace of its own."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conntrackd_py.lab.namespaces import ROUTER, Topology
from conntrackd_py.lab.router import Router
from conntrackd_py.lab.steps import start_servers

CAPTURED_WITHIN = 5.0  # seconds: tcpdump is handed packets in blocks
INSIDE_NETWORK = "192.168.77.0/24"


class Net:
    """The topology with everything running: `client`, `outside` (the server's namespace), `router`."""

    def __init__(self, topology: Topology, router: Router, capture: Path) -> None:
        self.client = topology.client
        self.outside = topology.server
        self.inside_router = topology.router
        self.router = router
        self.capture = capture

    def leaked(self) -> list[str]:
        """Packets seen on the outer side since the beginning with an address of the inner network."""
        self.outside.run("ping", "-c", "1", "-W", "2", ROUTER, check=False)
        until = time.monotonic() + CAPTURED_WITHIN
        while not self.captured("arp"):
            assert time.monotonic() < until, "the capture is not running"
            time.sleep(0.1)
        return self.captured(f"net {INSIDE_NETWORK}")

    def captured(self, expression: str) -> list[str]:
        return self.outside.run("tcpdump", "-nr", str(self.capture), expression).splitlines()


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    with Topology() as topology:
        router = Router(topology)
        capture = topology.folder / "outside.pcap"
        # The kernel picks out what must not be, and a little that must, so nothing is missed under load.
        _capture(topology, capture, f"(ip net {INSIDE_NETWORK}) or arp")
        router.install_rules()
        router.start()
        start_servers(topology)
        running = Net(topology, router, capture)
        yield running
        assert running.leaked() == []


def _capture(topology: Topology, file: Path, expression: str) -> None:
    command = ("tcpdump", "-i", "eth0", "-n", "-U", "-s", "128", "-w", str(file), expression)
    process = topology.server.start(*command, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.readline()
    assert "listening" in said, said
