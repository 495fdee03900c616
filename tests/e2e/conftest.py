"""A router with the daemon and its real rules between a client and a server, each in a namespace of its own."""

import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conntrackd_py.lab.namespaces import INSIDE, ROUTER, Topology
from conntrackd_py.lab.router import Router
from conntrackd_py.lab.steps import start_servers
from tests.support.processes import capture as start_capture
from tests.support.waiting import wait_until

Run = Callable[..., subprocess.CompletedProcess[str]]


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
        wait_until(lambda: self.captured("arp"), "the capture is not running")
        return self.captured(f"net {INSIDE}")

    def captured(self, expression: str) -> list[str]:
        return self.outside.run("tcpdump", "-nr", str(self.capture), expression).splitlines()


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    with Topology() as topology:
        router = Router(topology)
        capture = topology.folder / "outside.pcap"
        # The kernel picks out what must not be, and a little that must, so nothing is missed under load.
        start_capture(topology.server, capture, f"(ip net {INSIDE}) or arp")
        router.install_rules()
        router.start()
        start_servers(topology)
        running = Net(topology, router, capture)
        yield running
        assert running.leaked() == []


@pytest.fixture
def run() -> Iterator[Run]:
    """Runs a command in a fresh network namespace."""
    name = f"cpy-rules-{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)

    def run_there(*command: str, text: str = "", status: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["ip", "netns", "exec", name, *command], input=text, capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done

    try:
        yield run_there
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


@pytest.fixture
def steering() -> dict[str, str]:
    """Keys of [steering] that `rules` adds to every configuration."""
    return {}


@pytest.fixture
def rules(run: Run, tmp_path: Path, steering: dict[str, str]) -> Run:
    """`conntrackd-py rules ACTION`, with the text given as its configuration."""
    command = str(Path(sys.executable).with_name("conntrackd-py"))
    drop_in = tmp_path / "conf.d" / "steering.toml"
    drop_in.parent.mkdir()
    drop_in.write_text("\n".join(("[steering]", *(f'{key} = "{value}"' for key, value in steering.items()))))

    def run_rules(action: str, config: str = "", *options: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        file = tmp_path / "conntrackd.toml"
        file.write_text(config)
        return run(command, "rules", action, "-c", str(file), *options, status=status)

    return run_rules
