"""The daemon in the router's namespace, as an administrator runs it: configuration, rules, process."""

import signal
import subprocess
import sys
import time
from typing import Final, final

from conntrackd_py.lab.namespaces import CLIENT, INSIDE, ROUTER, LabError, Topology

METRICS: Final = "127.0.0.1:9466"
WEB_OUTSIDE: Final = 8080  # port of the router, translated to
WEB_INSIDE: Final = 80  # the port of the client's web server

READY: Final = '"event": "ready"'
DAEMON: Final = (sys.executable, "-P", "-m", "conntrackd_py.cli.conntrackd.main")
CONNTRACK: Final = (sys.executable, "-P", "-m", "conntrackd_py.cli.conntrack.main")

CONFIG: Final = f"""\
mode = "nat"

[tunables]
nf_conntrack_acct = true

[metrics]
listen = "{METRICS}"

[control]
socket = "%s"

[[nat]]
comment = "the inner network behind the router's address"
out_interface = "wan0"
source = "{INSIDE}"
action = "SNAT"
to = "{ROUTER}"

[[nat]]
comment = "the client's web server, reachable from outside"
in_interface = "wan0"
destination = "{ROUTER}"
proto = "tcp"
dport = {WEB_OUTSIDE}
action = "DNAT"
to = "{CLIENT}:{WEB_INSIDE}"
"""


@final
class Router:
    """Rules and daemon in net.router. Both end with the topology. name: of one daemon among several."""

    def __init__(self, net: Topology, config: str = CONFIG, name: str = "") -> None:
        self.net = net
        self.socket = net.folder / f"{name}control.sock"
        self.config = net.folder / f"{name}conntrackd.toml"
        self.log = net.folder / f"{name}daemon.log"
        self.config.write_text(config % self.socket)
        self.process: subprocess.Popen[str] | None = None

    def install_rules(self) -> None:
        self.net.router.run(*DAEMON, "rules", "install", "-c", str(self.config))

    def start(self, timeout: float = 20.0) -> None:
        """Start the daemon and wait until it logs that it is ready. LabError if it does not."""
        before = len(self.said())
        with self.log.open("a") as log:
            command = (*DAEMON, "run", "-c", str(self.config))
            self.process = self.net.router.start(*command, stderr=log, stdout=log)
        deadline = time.monotonic() + timeout
        while READY not in self.said()[before:]:
            if not self.running or time.monotonic() > deadline:
                raise LabError(f"the daemon did not start: {self.said()[before:].strip()[-2000:]}")
            time.sleep(0.02)

    def said(self) -> str:
        """The daemon's log."""
        return self.log.read_text() if self.log.exists() else ""

    def stop(self, number: int = signal.SIGTERM, timeout: float = 10.0) -> int:
        """End the daemon with a signal and return its exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise LabError(f"the daemon is still running {timeout:g} seconds after signal {number}") from error

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def conntrack(self, *words: str) -> str:
        """The output of conntrack-py."""
        return self.net.router.run(*CONNTRACK, "--socket", str(self.socket), *words)

    def metrics(self) -> str:
        return self.net.router.run("curl", "-sS", "--fail", "--max-time", "5", f"http://{METRICS}/metrics")
