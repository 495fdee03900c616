"""A client, a router and a server in a network namespace each, and the processes in them.

    client  eth0 ──── lan0  router  wan0 ──── eth0  server

The server has no route to the client's IPv4 network, so it cannot answer an untranslated packet. IPv6 is routed. Each
topology has unique names; on exit it deletes everything it created, also after an error.
"""

import contextlib
import os
import secrets
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self, final

CLIENT: Final = "192.168.77.2"
ROUTER_INSIDE: Final = "192.168.77.1"
ROUTER: Final = "203.0.113.1"
SERVER: Final = "203.0.113.80"
INSIDE: Final = "192.168.77.0/24"

CLIENT6: Final = "2001:db8:1::2"
ROUTER6_INSIDE: Final = "2001:db8:1::1"
ROUTER6: Final = "2001:db8:2::1"
SERVER6: Final = "2001:db8:2::80"
INSIDE6: Final = "2001:db8:1::/64"

ADDRESSES: Final = {
    "client": {"eth0": (f"{CLIENT}/24", f"{CLIENT6}/64")},
    "router": {
        "lan0": (f"{ROUTER_INSIDE}/24", f"{ROUTER6_INSIDE}/64"),
        "wan0": (f"{ROUTER}/24", f"{ROUTER6}/64"),
    },
    "server": {"eth0": (f"{SERVER}/24", f"{SERVER6}/64")},
}
# No duplicate address detection, which takes seconds, and no rate limit on the ICMP errors that the tests cause.
SYSCTLS: Final = ("net.ipv6.conf.default.accept_dad=0", "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0")
FORWARDING: Final = ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")

COMMAND_TIMEOUT: Final = 60.0  # seconds
KILL_AFTER: Final = 3.0  # seconds between SIGTERM and SIGKILL


class LabError(Exception):
    """The lab failed; the text says how."""


@final
class Namespace:
    """A network namespace and the processes started in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.started: list[subprocess.Popen[Any]] = []

    def command(self, *words: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, *words]

    def run(self, *words: str, timeout: float = COMMAND_TIMEOUT, check: bool = True) -> str:
        """The standard output of the command. LabError on a timeout, and on failure unless `check` is false."""
        done = self.complete(*words, timeout=timeout)
        if check and done.returncode:
            raise LabError(f"{' '.join(words)}: {(done.stderr or done.stdout).strip() or done.returncode}")
        return done.stdout

    def complete(self, *words: str, timeout: float = COMMAND_TIMEOUT) -> subprocess.CompletedProcess[str]:
        """Run the command; any exit status is accepted. LabError on a timeout."""
        try:
            return subprocess.run(
                self.command(*words),
                check=False,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{' '.join(words)}: still running after {timeout:g} seconds") from error

    def start(
        self,
        *words: str,
        stdin: int | IO[Any] = subprocess.DEVNULL,
        stdout: int | IO[Any] = subprocess.DEVNULL,
        stderr: int | IO[Any] = subprocess.DEVNULL,
        env: dict[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> subprocess.Popen[str]:
        """Start a background process in a new session: Ctrl-C reaches the lab only."""
        process = subprocess.Popen(
            self.command(*words),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, **(env or {})},
            text=True,
            start_new_session=True,
            pass_fds=pass_fds,
        )
        self.started.append(process)
        return process

    def end(self) -> None:
        """End the processes started here, then kill all that are left in the namespace."""
        for process in self.started:
            if process.poll() is None:
                process.terminate()
        for process in self.started:
            try:
                process.wait(KILL_AFTER)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        self.started.clear()
        left = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=False)
        for pid in left.stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)

    def delete(self) -> None:
        """Delete the namespace with its interfaces, if it exists."""
        subprocess.run(["ip", "netns", "delete", self.name], capture_output=True, check=False)


@final
class Topology:
    """`with Topology() as net:` has net.client, net.router, net.server, and net.folder for files. Needs root."""

    def __init__(self) -> None:
        self.token = f"{os.getpid()}-{secrets.token_hex(2)}"
        self.client = Namespace(f"ctpy-{self.token}-client")
        self.router = Namespace(f"ctpy-{self.token}-router")
        self.server = Namespace(f"ctpy-{self.token}-server")
        self.namespaces = {"client": self.client, "router": self.router, "server": self.server}
        self.folder = Path()
        self.cleanup = contextlib.ExitStack()

    def __enter__(self) -> Self:
        try:
            self._make()
        except BaseException:
            self._clean()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clean()

    def _make(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix=f"ctpy-{self.token}-")
        self.folder = Path(self.cleanup.enter_context(folder))
        self.folder.chmod(0o755)
        for namespace in self.namespaces.values():
            self.cleanup.callback(namespace.delete)  # before it exists: an interruption may come right after
            _ip("netns", "add", namespace.name)
        # All processes end before the first namespace is deleted.
        for namespace in self.namespaces.values():
            self.cleanup.callback(namespace.end)
        self._build()

    def _clean(self) -> None:
        """Delete everything. Signals are blocked meanwhile, so that nothing is left behind."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
        try:
            self.cleanup.close()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _build(self) -> None:
        for namespace in self.namespaces.values():
            namespace.run("sysctl", "-qw", *SYSCTLS)
        self.router.run("sysctl", "-qw", *FORWARDING)
        for inside, other in (("lan0", self.client), ("wan0", self.server)):
            link = ("link", "add", inside, "netns", self.router.name, "type", "veth")
            _ip(*link, "peer", "name", "eth0", "netns", other.name)
        for role, interfaces in ADDRESSES.items():
            name = self.namespaces[role].name
            _ip("-n", name, "link", "set", "lo", "up")
            for interface, (address, address6) in interfaces.items():
                _ip("-n", name, "link", "set", interface, "up")
                _ip("-n", name, "address", "add", address, "dev", interface)
                _ip("-n", name, "address", "add", address6, "dev", interface, "nodad")
        _ip("-n", self.client.name, "route", "add", "default", "via", ROUTER_INSIDE)
        _ip("-n", self.client.name, "-6", "route", "add", "default", "via", ROUTER6_INSIDE)
        _ip("-n", self.server.name, "-6", "route", "add", INSIDE6, "via", ROUTER6)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"ip {' '.join(words)}: {done.stderr.strip()}")
